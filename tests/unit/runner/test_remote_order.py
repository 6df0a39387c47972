"""What an agent is started with, whatever comes."""

import json

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.runner.remotedir import RemoteDir, check_components
from hypersdk.runner.remoteorder import MAX_ORDER_BYTES, parse
from hypothesis import given
from hypothesis import strategies as st

GOOD = {
    "protocol": 1, "address": "kernel.example:7444", "ca": "PEM", "uid": "0" * 36, "attempt": 2, "token": "t0ken",
    "work_dir": "/var/tmp/x", "orphan_s": 60,
}  # fmt: skip


def test_an_order_is_read_and_never_shows_its_token():
    order = parse(json.dumps(GOOD).encode())
    assert (order.address, order.attempt, str(order.work_dir)) == ("kernel.example:7444", 2, "/var/tmp/x")
    assert "t0ken" not in repr(order)


@pytest.mark.parametrize(
    "change",
    [{"protocol": 2}, {"address": "kernel"}, {"address": "kernel:http"}, {"address": "kernel:70000"}, {"address": ":1"},
     {"uid": "../../etc"}, {"uid": ""}, {"attempt": 0}, {"attempt": True}, {"attempt": "1"}, {"orphan_s": 0},
     {"work_dir": "relative"}, {"token": ""}, {"ca": None}],
)  # fmt: skip
def test_a_wrong_field_is_named(change):
    with pytest.raises(InvalidArgument) as caught:
        parse(json.dumps({**GOOD, **change}).encode())
    assert caught.value.reason == "AGENT_ORDER_INVALID"
    assert caught.value.violations[0].field == next(iter(change))


@given(st.binary(max_size=200) | st.just(b"[" * 50_000) | st.just(b" " * (MAX_ORDER_BYTES + 1)))
def test_garbage_is_refused(line):
    with pytest.raises(InvalidArgument):
        parse(line)


def test_a_folder_of_another_build_is_not_taken_for_the_right_one(tmp_path):
    (tmp_path / f"1.0-{'a' * 64}").mkdir()

    def component(digest, folder):
        return {"task/x": {"digest": digest, "search_path": [str(tmp_path / folder)]}}

    check_components(component("a" * 64, f"1.0-{'a' * 64}"))
    for digest, folder in (("b" * 64, f"1.0-{'a' * 64}"), ("a" * 64, f"1.0-{'b' * 64}")):
        with pytest.raises(FailedPrecondition) as caught:
            check_components(component(digest, folder))
        assert caught.value.reason == "STORE_NOT_SHARED"


def test_a_work_folder_that_others_may_use_is_refused(tmp_path):
    order = parse(json.dumps({**GOOD, "work_dir": str(tmp_path / "w")}).encode())
    (tmp_path / "w").mkdir(mode=0o755)
    with pytest.raises(FailedPrecondition) as caught:
        RemoteDir(order).prepare()
    assert caught.value.reason == "WORK_DIR_UNSAFE"
    (tmp_path / "w").chmod(0o700)
    RemoteDir(order).prepare()
    (tmp_path / "w").rename(tmp_path / "real")
    (tmp_path / "w").symlink_to(tmp_path / "real")
    with pytest.raises((FailedPrecondition, FileExistsError)):
        RemoteDir(order).prepare()
