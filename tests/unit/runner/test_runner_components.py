"""The spec a runner reads, the plugins it grants, and the images it opens with them."""

import json
import os

import pytest
from hypersdk.data.source import BlockSource
from hypersdk.errors import InvalidArgument, NotFound
from hypersdk.plugin import Health, ImageFormat, Page, Storage
from hypersdk.runner import spec as runner_spec
from hypersdk.runner.components import Components
from hypersdk.runner.images import open_source
from hypersdk.runner.log import MAX_LINE_BYTES, AttemptLog
from hypersdk.wire.redact import Redactor

VALID = {
    "protocol": 1, "mode": "run", "job": "jobs/x", "attempt": 2, "task": "export", "spec": {"a": 1},
    "job_dir": "/j", "attempt_dir": "/j/attempts/2", "listen_fd": 7, "lock_fd": 8,
    "components": {"task/export": {"entry": "m:C", "search_path": ["/p"], "manifest": {}, "digest": "…"}},
    "connections": {"connections/lab": {"component": "storage/s", "config": {}, "secrets": {"k": "v"}}},
}  # fmt: skip


class Shelf(Storage):
    made = 0

    def __init__(self):
        type(self).made += 1
        self.closed = False

    def configure(self, config, secrets):
        self.settings = (config, secrets)

    def health(self):
        return Health(True)

    def open_writer(self, key, *, if_absent=False, resume=""): ...
    def read_range(self, key, offset, length): ...
    def stat(self, key): ...
    def list(self, prefix, page_size, page_token):
        return Page([])

    def delete(self, key): ...
    def close(self):
        self.closed = True
        raise RuntimeError("close may raise")


class Source(BlockSource):
    def __init__(self, file, by):
        self.file, self.by = file, by

    @property
    def size(self):
        return self.file.size

    def extents(self, offset=0, length=None): ...
    def readinto(self, offset, buffer): ...
    def close(self):
        self.file.close()


class Magic(ImageFormat):
    name = "magic"

    def probe(self, head, tail, size):
        return 100 if head.startswith(b"MAGIC") or tail.endswith(b"MAGIC") else 0

    def open(self, file, options=None):
        if (options or {}).get("fail"):
            raise InvalidArgument("no")
        return Source(file, self.name)

    def create(self, file, size, options=None, resume=None): ...


class Raw(Magic):
    name = "raw"

    def probe(self, head, tail, size):
        return 1


def test_a_whole_spec_is_read_from_a_memory_file_which_is_closed():
    fd = os.memfd_create("spec")
    os.write(fd, json.dumps(VALID).encode())
    spec = runner_spec.read(fd)
    assert spec.components["task/export"].search_path == ("/p",)
    assert list(spec.secrets()) == ["v"]
    assert (spec.mode, spec.attempt, spec.paused, spec.bandwidth_limit_bytes) == ("run", 2, False, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"protocol": 2}, "protocol"),
        ({"mode": "fly"}, "mode"),
        ({"attempt": "2"}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"job_dir": None}, "job_dir"),
        ({"components": []}, "components"),
        ({"components": {"task/x": {}}}, "components.task/x.entry"),
        ({"connections": {"connections/a": 7}}, "connections.connections/a"),
    ],
)
def test_a_wrong_spec_names_its_field(change, field):
    with pytest.raises(InvalidArgument) as caught:
        runner_spec.parse(json.dumps({**VALID, **change}).encode())
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000])
def test_a_spec_that_is_no_object_is_refused(text):
    with pytest.raises(InvalidArgument):
        runner_spec.parse(text)


@pytest.fixture
def granted(tmp_path):
    """Components that serve this module's own classes."""

    def make(**manifests):
        here = __name__
        entries = {"storage/s": "Shelf", "format/magic": "Magic", "format/raw": "Raw", "format/broken": "Nowhere"}
        components = {
            name: {"entry": f"{here}:{cls}", "search_path": [], "manifest": manifests.get(name.partition("/")[2], {})}
            for name, cls in entries.items()
        }
        spec = runner_spec.parse(json.dumps({**VALID, "components": components}).encode())
        return Components(spec, AttemptLog(tmp_path / "log.jsonl", Redactor()))

    return make


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Under importlib mode a test module is no importable name; plugins are."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _self())


def _self():
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def test_a_connection_is_configured_once_and_closed_at_the_end(granted):
    Shelf.made = 0
    components = granted()
    first, second = components.storage("connections/lab"), components.storage("connections/lab")
    assert first is second
    assert Shelf.made == 1
    assert first.settings == ({}, {"k": "v"})
    components.close()
    assert first.closed


def test_only_granted_connections_of_the_right_kind_are_given(granted):
    with pytest.raises(NotFound) as caught:
        granted().storage("connections/other")
    assert caught.value.reason == "CONNECTION_NOT_GRANTED"
    with pytest.raises(InvalidArgument) as wrong:
        granted().provider("connections/lab")
    assert wrong.value.reason == "CONNECTION_KIND_WRONG"


def test_a_format_is_found_by_id_and_by_alias(granted):
    components = granted(magic={"aliases": ["wizard"]})
    assert components.image_format("wizard") is components.image_format("magic")
    with pytest.raises(NotFound) as caught:
        components.image_format("qcow7")
    assert caught.value.reason == "FORMAT_UNKNOWN"
    assert "broken, magic, raw" in caught.value.message


def test_a_format_that_cannot_be_imported_does_not_hide_the_others(granted, tmp_path):
    assert sorted(f.name for f in granted().image_formats()) == ["magic", "raw"]
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert (line["event"], line["fields"]["component"]) == ("format_skipped", "format/broken")


@pytest.mark.parametrize(
    ("content", "by"),
    [
        (b"MAGIC" + bytes(600), "magic"),
        (bytes(9000) + b"MAGIC", "magic"),
        (b"plain", "raw"),
        (b"", "raw"),
    ],
)
def test_an_image_of_no_named_format_is_opened_by_who_claims_it_most(tmp_path, content, by):
    path = tmp_path / "image"
    path.write_bytes(content)
    with open_source(path, None, None, lambda: [Raw(), Magic()]) as source:
        assert source.by == by


def test_a_named_format_is_not_probed_and_the_only_installed_one_is(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"plain")
    with open_source(path, None, Magic(), list) as source:
        assert source.by == "magic"
    for installed in ([Magic()], []):
        with pytest.raises(InvalidArgument) as caught:
            open_source(path, None, None, lambda found=installed: found)
        assert caught.value.reason == "FORMAT_UNRECOGNISED"


def test_an_image_that_cannot_be_opened_is_closed(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"MAGIC")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidArgument):
        open_source(path, {"fail": "1"}, Magic(), list)
    assert len(os.listdir("/proc/self/fd")) == before


def test_log_lines_are_json_whatever_is_logged(tmp_path):
    path = tmp_path / "log"
    log = AttemptLog(path, Redactor(["hunter2!"]), clock=lambda: 1.5)
    log.write("disk_opened", "info", {"path": tmp_path, "error": ValueError("hunter2!"), 3: {"x": b"y"}})
    log.write("disk_opened", "shouting", {"x": "y" * (MAX_LINE_BYTES + 1)})
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["fields"]["error"] == "[redacted]"
    assert first["fields"]["3"] == {"x": "b'y'"}
    assert second["level"] == "info"
    assert second["fields"]["fields_dropped_bytes"] > MAX_LINE_BYTES
