"""key=value arguments, and proto messages as plain values."""

import pytest
from hyperctl.messages import to_plain
from hyperctl.pairs import parse_option_list, parse_pairs, read_config_file, typed
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.errors import InvalidArgument


def test_options_are_split_as_qemu_img_does():
    assert parse_option_list(["a=1,b=x,,y", "compat6"]) == {"a": "1", "b": "x,y", "compat6": "on"}


def test_a_pair_without_an_equals_sign_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        parse_pairs(["path"], flag="--config")
    assert "--config takes key=value" in caught.value.message


def test_values_that_are_json_keep_their_type():
    assert typed({"create": "true", "port": "443", "path": "/x", "text": '"5"'}) == {
        "create": True, "port": 443, "path": "/x", "text": "5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [("c.toml", "path = '/x'"), ("c.json", '{"path": "/x"}'), ("c.yaml", "path: /x")]
)
def test_a_config_file_may_be_toml_json_or_yaml(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_config_file(tmp_path / name) == {"path": "/x"}


@pytest.mark.parametrize(("name", "text"), [("c.toml", "x"), ("c.json", "{"), ("c.yaml", "a: [")])
def test_a_broken_config_file_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        read_config_file(tmp_path / name)
    assert caught.value.reason == "CONFIG_INVALID"


def test_a_config_file_must_hold_a_mapping(tmp_path):
    (tmp_path / "c.yaml").write_text("- a")
    with pytest.raises(InvalidArgument):
        read_config_file(tmp_path / "c.yaml")


def test_messages_keep_numbers_and_shorten_enums():
    job = jobs_pb2.Job(name="jobs/x", state=jobs_pb2.JOB_STATE_RUNNING, labels={"b": "2", "a": "1"})
    job.spec.update({"n": 3, "deep": {"list": [1.5, 2]}})
    job.progress.bytes_done = 2**60
    job.create_time.FromSeconds(0)
    job.retry_policy.max_delay.FromMilliseconds(1500)
    plain = to_plain(job)
    assert plain["state"] == "RUNNING"
    assert plain["spec"] == {"n": 3, "deep": {"list": [1.5, 2]}}
    assert plain["progress"]["bytes_done"] == 2**60
    assert plain["create_time"] == "1970-01-01T00:00:00Z"
    assert plain["retry_policy"]["max_delay"] == 1.5
    assert list(plain["labels"]) == ["a", "b"]
    assert "error" not in plain
    assert plain["attempt_count"] == 0


def test_an_enum_value_of_a_newer_daemon_is_its_number():
    assert to_plain(jobs_pb2.Job(state=99))["state"] == "99"
