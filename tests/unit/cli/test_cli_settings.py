"""Flag > environment > profile > file > default, and which it was."""

import pytest
from hyperctl.settings import config_file, resolve
from hypersdk.errors import InvalidArgument, NotFound

FILE = """
output = "yaml"
profile = "lab"
[profiles.lab]
address = "lab:7443"
token_file = "~/lab.token"
[profiles.other]
address = "other:7443"
output = "json"
"""


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "hypersdk").mkdir()
    (tmp_path / "hypersdk" / "config.toml").write_text(FILE)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_without_a_file_everything_is_the_default(tmp_path):
    settings = resolve({}, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert settings["output"].value == "table"
    assert {s.origin for s in settings.values()} == {"default"}


def test_a_profile_wins_over_the_file(environ):
    settings = resolve({"profile": "other"}, environ)
    assert (settings["output"].value, settings["output"].origin) == ("json", "profile other")
    assert settings["profile"].origin == "flag --profile"


def test_the_file_chooses_the_profile_and_gives_the_rest(environ):
    settings = resolve({}, environ)
    assert settings["address"].value == "lab:7443"
    assert settings["output"].value == "yaml"
    assert settings["output"].origin.startswith("file ")


def test_the_environment_wins_over_the_profile(environ):
    settings = resolve({}, environ | {"HYPERSDK_ADDRESS": "env:1", "HYPERSDK_PROFILE": "other"})
    assert (settings["address"].value, settings["address"].origin) == ("env:1", "environment HYPERSDK_ADDRESS")
    assert settings["output"].value == "json"


def test_a_flag_wins_over_everything(environ):
    settings = resolve({"address": "flag:1"}, environ | {"HYPERSDK_ADDRESS": "env:1"})
    assert (settings["address"].value, settings["address"].origin) == ("flag:1", "flag --address")


def test_a_tilde_in_a_path_is_the_home(environ):
    assert not resolve({}, environ)["token_file"].value.startswith("~")


def test_an_unknown_profile_is_named(environ):
    with pytest.raises(NotFound) as caught:
        resolve({"profile": "nowhere"}, environ)
    assert caught.value.reason == "PROFILE_UNKNOWN"
    assert "[profiles.nowhere]" in caught.value.message


@pytest.mark.parametrize("text", ["output = ", "output = 3", "\xff\xfe"])
def test_a_file_that_is_wrong_is_refused(environ, text):
    config_file(environ).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidArgument) as caught:
        resolve({}, environ)
    assert caught.value.reason == "CONFIG_INVALID"


def test_a_file_named_by_the_environment_must_exist(tmp_path):
    with pytest.raises(NotFound):
        resolve({}, {"HYPERSDK_CONFIG_FILE": str(tmp_path / "none.toml")})
