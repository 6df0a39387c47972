"""The manifest's `host`: what may start a host that is not written in Python, and what may not."""

import json

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.hostcommand import HostCommand
from hypersdk.plugin.manifest import Manifest
from hypothesis import given
from hypothesis import strategies as st

BASE = {"manifest_version": 1, "name": "x", "api_version": "1.1", "components": {"pricing/x": {}}}


def manifest(host) -> Manifest:
    return Manifest.parse(json.dumps({**BASE, "host": host}))


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    (folder / "bin").mkdir(parents=True)
    (folder / "host.mjs").write_text("")
    (folder / "bin" / "host").write_text("#!/bin/true\n")
    (folder / "bin" / "host").chmod(0o755)
    return folder


def test_a_manifest_keeps_its_host_and_one_without_has_none():
    command = {"command": ["node", "--no-warnings", "${package}/host.mjs"]}
    assert Manifest.parse(json.dumps(manifest(command).to_json())).host == HostCommand(tuple(command["command"]))
    assert Manifest.parse(json.dumps(BASE)).host is None
    assert "host" not in Manifest.parse(json.dumps(BASE)).to_json()


@pytest.mark.parametrize(
    "host",
    [
        None, "node", {}, {"command": []}, {"command": "node"}, {"command": ["node"], "env": {}}, {"command": [""]},
        {"command": ["node", 7]}, {"command": ["node", "a\0b"]}, {"command": ["/usr/bin/node"]}, {"command": ["./x"]},
        {"command": ["../x"]}, {"command": ["a b"]}, {"command": ["-c"]}, {"command": ["${package}"]},
        {"command": ["${package}/"]}, {"command": ["${package}x"]}, {"command": ["node", "${package}/../x"]},
        {"command": ["node", "${HOME}/x"]}, {"command": ["node", "x${package}"]}, {"command": ["n"] * 65},
        {"command": ["node", "${package}/${package}"]}, {"command": ["node", "x" * 5000]},
    ],
)  # fmt: skip
def test_a_host_that_is_not_a_list_of_plain_words_is_refused_in_the_manifest(host):
    with pytest.raises(InvalidArgument) as caught:
        manifest(host)
    assert caught.value.reason == "MANIFEST_INVALID"


def test_an_allowed_interpreter_is_found_in_path_and_the_package_filled_in(package, monkeypatch):
    monkeypatch.setenv("PATH", str(package / "bin"))
    found = HostCommand(("host", "-x", "${package}/host.mjs")).resolve(package, ("host",))
    assert found == (str(package / "bin" / "host"), "-x", str(package / "host.mjs"))


def test_an_executable_of_the_package_needs_no_allowance(package):
    assert HostCommand(("${package}/bin/host",)).resolve(package, ()) == (str(package / "bin" / "host"),)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("sh", "-c"), "HOST_COMMAND_REFUSED"),
        (("host",), "HOST_COMMAND_MISSING"),
        (("${package}/host.mjs",), "HOST_COMMAND_MISSING"),
        (("${package}/bin",), "HOST_COMMAND_MISSING"),
        (("${package}/bin/host", "${package}/none"), "HOST_COMMAND_MISSING"),
        (("${package}/bin/host", "${package}/link"), "HOST_COMMAND_REFUSED"),
    ],
)
def test_what_is_not_allowed_not_there_or_leads_out_by_a_link_is_refused(package, monkeypatch, words, reason):
    monkeypatch.setenv("PATH", "/nowhere")
    (package / "link").symlink_to("/etc/passwd")
    with pytest.raises(FailedPrecondition) as caught:
        HostCommand(words).resolve(package, ("host",))
    assert caught.value.reason == reason


def test_a_program_that_path_finds_in_the_working_directory_is_not_found(package, monkeypatch):
    monkeypatch.setenv("PATH", "bin")
    monkeypatch.chdir(package)
    with pytest.raises(FailedPrecondition) as caught:
        HostCommand(("host",)).resolve(package, ("host",))
    assert caught.value.reason == "HOST_COMMAND_MISSING"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["command", "x"]), inner)))  # fmt: skip
def test_whatever_is_written_there_is_a_host_or_a_fault(host):
    faults = []
    found = HostCommand.parse(host, lambda path, text: faults.append((path, text)))
    assert (found is None) == bool(faults)
