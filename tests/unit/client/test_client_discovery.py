"""Where the client finds the daemon."""

from pathlib import Path

import pytest
from hypersdk.client.discovery import default_state_dir, discover
from hypersdk.errors import InvalidArgument


def test_without_anything_it_is_the_users_own_socket():
    endpoint = discover(environ={"HYPERSDK_STATE_DIR": "/srv/state"})
    assert endpoint.target == "unix:/srv/state/hypersdkd.sock"
    assert endpoint.is_unix
    assert endpoint.token_file is None


def test_an_argument_wins_over_the_environment():
    environ = {"HYPERSDK_ADDRESS": "unix:/run/a.sock"}
    assert discover(environ=environ).target == "unix:/run/a.sock"
    assert discover("unix:/run/b.sock", environ=environ).target == "unix:/run/b.sock"


def test_tcp_takes_ca_and_token_from_the_state_directory():
    endpoint = discover("127.0.0.1:7443", environ={"HYPERSDK_STATE_DIR": "/srv/state"})
    assert endpoint.ca_file == Path("/srv/state/tls/ca.pem")
    assert endpoint.token_file == Path("/srv/state/token")


def test_the_environment_names_other_credentials():
    environ = {"HYPERSDK_CA_FILE": "/a/ca.pem", "HYPERSDK_TOKEN_FILE": "/a/token"}
    endpoint = discover("[::1]:7443", environ=environ)
    assert (endpoint.ca_file, endpoint.token_file) == (Path("/a/ca.pem"), Path("/a/token"))


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"HYPERSDK_STATE_DIR": "/x"}, 0, "/x"),
        ({}, 0, "/var/lib/hypersdk"),
        ({"XDG_STATE_HOME": "/home/u/s"}, 1000, "/home/u/s/hypersdk"),
        ({"HOME": "/home/u"}, 1000, "/home/u/.local/state/hypersdk"),
    ],
)
def test_the_state_directory_is_the_daemons(environ, uid, expected):
    assert default_state_dir(environ, uid=uid) == Path(expected)


@pytest.mark.parametrize("address", ["unix:relative", "nonsense", "host:", "host:99999", "http://host:1", "a b:1"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidArgument) as caught:
        discover(address, environ={})
    assert caught.value.reason == "ADDRESS_INVALID"
