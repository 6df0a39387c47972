"""`hyperctl plugin test`: what is right passes, and each fault is found by the check that is for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypersdk.errors import InvalidArgument, NotFound
from hypersdk.templates import KINDS
from hypersdk.testing.conformance import Status, run
from hypersdk.testing.conformance.methods import METHODS
from hypersdk.testing.conformance.protocol import PROTOCOL
from hypersdk.testing.conformance.static import STATIC
from support.projects import REPOSITORY, build_wheel, write_plugin

BAD_HOST = Path(__file__).parents[2] / "support" / "bad_host.py"

FAULTS = {
    "does-not-start": "host.starts",
    "hangs-at-start": "host.starts",
    "speaks-protocol-2": "host.starts",
    "serves-more": "host.starts",
    "another-api": "host.starts",
    "prints-into-the-protocol": "host.starts",
    "initializes-twice": "host.initialize_once",
    "any-version": "host.initialize_version",
    "calls-before-initialize": "host.call_before_initialize",
    "one-read-one-frame": "frames.split",
    "ascii-only": "frames.text",
    "takes-any-length": "frames.oversized",
    "takes-empty-frames": "frames.empty",
    "takes-garbage": "frames.garbage",
    "any-method-of-the-protocol": "rpc.unknown_method",
    "dies-of-unknown-notifications": "rpc.unknown_notification",
    "dies-of-odd-messages": "rpc.malformed",
    "takes-list-params": "rpc.malformed",
    "answers-twice": "rpc.unknown_notification",
    "asks-the-kernel": "rpc.unknown_notification",
    "any-component": "call.unknown",
    "any-method": "call.unknown",
    "any-call": "call.malformed",
    "slow-on-the-reader": "ping.under_load",
    "changes-its-mind": "call.concurrent",
    "drops-cancelled": "call.cancel",
    "drops-calls-at-shutdown": "shutdown.drains",
    "stays-after-shutdown": "shutdown.drains",
    "fails-at-exit": "shutdown.drains",
    "stays-when-hung-up": "shutdown.hang_up",
    "prints-secrets": "output.apart",
    "secret-in-errors": "output.apart",
    "bad-log": "log.form",
    "untyped-errors": "method.hostile",
    "result-is-text": "method.valid",
    "dies-of-long-names": "method.hostile",
    "needs-no-connection": "method.unconfigured",
    "unwell": "method.health",
    "formless-health": "method.health",
    "undeclared-errors": "method.declared_errors",
    "answers-once-only": "method.idempotent",
    "long-pages": "method.pages",
    "skips-an-object": "method.pages",
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    """A storage plugin's source folder; its config asks for a secret, so that checks have one to plant."""
    folder = write_plugin(tmp_path_factory.mktemp("storage"), "storage")
    path = folder / "src" / "hypersdk_storage_acme" / "manifest.json"
    manifest = json.loads(path.read_text())
    properties = manifest["components"]["storage/acme"]["config_schema"]["properties"]
    properties["password"] = {"type": "string", "secret": True}
    path.write_text(json.dumps(manifest))
    return folder


def bad_host(fault: str) -> list[str]:
    return [sys.executable, str(BAD_HOST), fault]


def failures(report) -> dict[str, str]:
    return {o.id: o.detail for o in report.outcomes if o.status is Status.FAILED}


def test_a_host_written_by_hand_that_keeps_the_protocol_passes(storage):
    report = run(storage, parts={"protocol", "methods"}, command=bad_host("ok"))
    assert failures(report) == {}
    assert report.counts()["skipped"] == 0


@pytest.mark.parametrize(("fault", "check"), FAULTS.items())
def test_each_fault_of_a_host_is_found(storage, fault, check):
    report = run(storage, checks={check}, command=bad_host(fault), patience_s=2.0)
    assert check in failures(report), [o.to_json() for o in report.outcomes]


def test_no_check_is_without_a_fault_that_it_finds():
    """A check that cannot fail is worthless. Those that only warn have their own tests."""
    warning_only = {"host.starts_fast"}
    dynamic = {check.id for group in (PROTOCOL, METHODS) for check in group.checks}
    assert dynamic - set(FAULTS.values()) == warning_only


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_passes_without_a_failure(tmp_path, kind):
    report = run(write_plugin(tmp_path, kind), parts={"static", "protocol", "methods"})
    assert failures(report) == {}
    warned = {o.id: o.detail for o in report.outcomes if o.status is Status.WARNED}
    assert warned.keys() <= {"package.metadata"}, warned


def test_a_wheel_is_judged_too(tmp_path):
    wheel = build_wheel(write_plugin(tmp_path, "format"), tmp_path)
    report = run(wheel, parts={"static", "methods"})
    assert failures(report) == {}
    assert (report.plugin, report.version) == ("hypersdk-format-acme", "0.1.0")


@pytest.mark.parametrize("plugin", sorted(p.name for p in (REPOSITORY / "plugins").iterdir()))
def test_our_own_plugins_pass_the_static_and_the_method_checks(plugin):
    assert failures(run(REPOSITORY / "plugins" / plugin, parts={"static", "methods"})) == {}


def test_the_plugins_own_suites_are_run_and_their_failures_told(tmp_path):
    folder = write_plugin(tmp_path, "task")
    (folder / "tests" / "test_counting.py").write_text("def test_that_fails():\n    assert 1 == 2, 'sums are off'\n")
    report = run(folder, parts={"suites"})
    assert [(o.id, o.status) for o in report.outcomes if o.status is Status.FAILED] == [
        ("suite.test_counting", Status.FAILED)
    ]
    assert "sums are off" in failures(report)["suite.test_counting"]
    assert {"suite.TestTask", "suite.TestManifest"} <= {o.id for o in report.outcomes if o.status is Status.PASSED}


def test_what_is_no_plugin_is_refused(tmp_path):
    with pytest.raises(NotFound):
        run(tmp_path / "nothing")
    with pytest.raises(InvalidArgument):
        run(tmp_path)
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(InvalidArgument):
        run(tmp_path / "x.whl")


def test_an_unknown_check_or_kind_is_refused(storage):
    with pytest.raises(InvalidArgument):
        run(storage, checks={"no.such"})
    with pytest.raises(InvalidArgument):
        run(storage, kinds={"format"})


def edited(folder: Path, change) -> Path:
    path = next(folder.rglob("manifest.json"))
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def component(manifest):
    return next(iter(manifest["components"].values()))


STATIC_FAULTS = {
    "manifest.sound": lambda m: m.update(surprise=1),
    "manifest.name": lambda m: m.update(name="hypersdk-storage-other"),
    "manifest.api": lambda m: m.update(api_version="1.9"),
    "entries.agree": lambda m: m["components"].update({"storage/second": {}}),
    "manifest.summaries": lambda m: component(m).pop("summary"),
    "schema.closed": lambda m: component(m)["config_schema"].pop("additionalProperties"),
    "schema.present": lambda m: component(m).pop("config_schema"),
    "schema.secrets": lambda m: component(m)["config_schema"]["properties"].update(password={"type": "string"}),
    "methods.known": lambda m: component(m)["methods"].update(ListObject={"idempotent": True}),
}
FILE_FAULTS = {
    "entries.present": ("pyproject.toml", "hypersdk_storage_acme:", "hypersdk_storage_gone:"),
    "package.readme": ("README.md", "*", "nothing"),
    "package.metadata": ("pyproject.toml", 'version = "0.1.0"', 'version = "first"'),
    "package.requires": ("pyproject.toml", '"hypersdk"]', '"hypersdk-kernel"]'),
    "package.imports": ("src/hypersdk_storage_acme/tokens.py", "import json\n", "import hypersdk_kernel\n"),
}
WARNINGS = {
    "methods.reads": ("src/hypersdk_storage_acme/manifest.json", '"idempotent": true', '"idempotent": false'),
    "errors.documented": ("README.md", "`OBJECT_EXISTS`", "that"),
    "package.tests": ("tests/test_conformance.py", "StorageContract", "Other"),
}


@pytest.mark.parametrize("check", STATIC_FAULTS)
def test_each_fault_of_a_manifest_is_found(tmp_path, check):
    folder = edited(write_plugin(tmp_path, "storage"), STATIC_FAULTS[check])
    assert check in failures(run(folder, parts={"static"}))


@pytest.mark.parametrize(("check", "status"), [(c, "failed") for c in FILE_FAULTS] + [(c, "warned") for c in WARNINGS])
def test_each_fault_of_a_package_is_found(tmp_path, check, status):
    folder = write_plugin(tmp_path, "storage")
    name, old, new = (FILE_FAULTS | WARNINGS)[check]
    text = (folder / name).read_text()
    (folder / name).write_text(new if old == "*" else text.replace(old, new))
    assert {o.id: str(o.status) for o in run(folder, parts={"static"}).outcomes}[check] == status


def test_no_static_check_is_without_a_fault_that_it_finds():
    assert {check.id for check in STATIC.checks} == {*STATIC_FAULTS, *FILE_FAULTS, *WARNINGS}
