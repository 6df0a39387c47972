"""From a manifest and the settings to what a host is told, and which calls need another process."""

from dataclasses import replace

import pytest
from hosting_fakes import make_component
from hypersdk.wire import landlock
from hypersdk_kernel.hosting.confinement import Sandbox, config_paths, grants, paths_in, told, verified
from hypersdk_kernel.model.plugin import Confinement, ConfinementState


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state" / "plugins").mkdir(parents=True)
    return tmp_path / "state"


def generation(*, origin="bundled", filesystem=None, network=()):
    made = make_component().generation
    components = {k: replace(c, network=tuple(network)) for k, c in made.manifest.components.items()}
    manifest = replace(made.manifest, filesystem=filesystem, components=components)
    return replace(made, origin=origin, manifest=manifest)


def policy(state, paths=(), processes=0, **kw):
    return grants(generation(**kw), Sandbox(True, state), paths, processes).policy


def test_off_means_off(state):
    assert grants(generation(origin="installed"), Sandbox(False, state)).policy == {"mode": "off"}


def test_what_the_environment_has_and_says_nothing_keeps_its_files_a_stranger_gets_none(state):
    assert policy(state)["files"] is False
    stranger = policy(state, origin="installed")
    assert (stranger["files"], stranger["read"], stranger["write"]) == (True, [], [])
    assert (stranger["families"], stranger["ports"], stranger["bind"], stranger["processes"]) == ([], [], False, False)


@pytest.mark.parametrize(
    ("network", "families", "ports"),
    [
        (["unix"], [1], []), (["https"], [2, 10, 16], None), (["api.example.com:443"], [2, 10, 16], [53, 443]),
        (["a:443", ":8443"], [2, 10, 16], [53, 443, 8443]), (["a:443", "anything"], [2, 10, 16], None),
        (["a:99999"], [2, 10, 16], None), (["unix", "a:1"], [1, 2, 10, 16], [1, 53]),
    ],
)  # fmt: skip
def test_the_network_is_what_the_components_name(state, network, families, ports):
    found = policy(state, filesystem=(), network=network)
    assert (found["families"], found["ports"]) == (families, ports)


def test_paths_of_the_manifest_and_of_connections_are_granted(state):
    found = policy(
        state, filesystem=("path:/etc/acme", "path:/var/acme:write", "config:path"), paths={"/data"}, processes=1
    )
    assert (found["read"], found["write"], found["processes"]) == (["/etc/acme"], ["/var/acme", "/data"], True)
    manifest = generation(filesystem=("config:path", "config:other")).manifest
    assert config_paths(manifest, {"path": "/data", "other": "relative", "more": "/x"}) == ["/data"]


def test_a_call_about_a_path_that_is_not_granted_needs_another_process(state, tmp_path):
    (tmp_path / "data").mkdir()
    given = grants(generation(filesystem=("config:path",)), Sandbox(True, state), {str(tmp_path / "data")})
    inside, outside = str(tmp_path / "data" / "x" / "y"), str(tmp_path / "other")
    assert given.lacks([inside, outside]) == [outside]


def test_what_came_later_beside_the_state_directory_needs_another_process_and_the_state_itself_none(state, tmp_path):
    (tmp_path / "images").mkdir()
    given = grants(generation(filesystem=("any:read",)), Sandbox(True, state))
    (tmp_path / "later").mkdir()
    paths = [f"{tmp_path}/images/a.raw", f"{tmp_path}/later/b.raw", f"{state}/token", str(tmp_path), "/etc/passwd"]
    assert given.lacks(paths) == [f"{tmp_path}/later/b.raw"]


def test_what_is_granted_around_the_state_directory_never_holds_it_nor_a_link_to_it(state, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(state)
    found = list(landlock.around(str(tmp_path), [str(state)]))
    assert found == [str(tmp_path / "images")]
    assert list(landlock.around("/usr", [str(state)])) == ["/usr"]
    assert list(landlock.around(str(state / "plugins"), [str(state)])) == []


def test_paths_are_found_wherever_they_stand_in_a_request():
    request = {"path": "/a", "deep": [{"x": ["/b", "c", 1, None]}], "uri": "http://x/", "nul": "/a\0"}
    assert list(paths_in(request)) == ["/a", "/b"]
    endless = request
    for _ in range(50):
        endless = {"more": endless}
    assert list(paths_in(endless)) == []


def test_a_host_that_says_nothing_is_not_believed_to_be_confined():
    assert {row.state for row in told({})} == {ConfinementState.UNAVAILABLE}
    assert {row.state for row in told({"confinement": [{"mechanism": "x", "state": "surely"}, 7]})} == {
        ConfinementState.UNAVAILABLE
    }


def test_a_filter_that_a_host_claims_is_looked_for_in_the_operating_system():
    import os

    claimed = (Confinement("seccomp", ConfinementState.ENFORCED, "on my honour"),)
    [privs, row] = verified(claimed, os.getpid())
    assert (privs.mechanism, row.state) == ("no_new_privs", ConfinementState.UNAVAILABLE)
