"""Settings, and where each came from: flag > HYPERSDK_* > profile > file > default.

The file is `$HYPERSDK_CONFIG_FILE`, else `hyperctl`'s own `config.toml` in `$XDG_CONFIG_HOME/hypersdk` or
`~/.config/hypersdk`:

    output = "table"
    profile = "lab"               # used when neither --profile nor HYPERSDK_PROFILE says otherwise

    [profiles.lab]
    address = "lab.example:7443"
    ca_file = "~/lab/ca.pem"
    token_file = "~/lab/token"

Secrets are not settings: files that hold them are named. The daemon's configuration is another file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersdk.errors import InvalidArgument, NotFound, from_exception

KEYS: dict[str, str] = {
    "address": "",
    "state_dir": "",
    "ca_file": "",
    "token_file": "",
    "output": "table",
    "timeout": "30s",
}
"""Every setting with its default; "" means that the client's own discovery decides."""
_PATHS = frozenset({"state_dir", "ca_file", "token_file"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin: `flag --address`, `environment HYPERSDK_ADDRESS`, `profile lab`, `file …`, `default`."""

    value: str
    origin: str


def config_file(environ: Mapping[str, str]) -> Path:
    """The file that is read, whether it exists or not."""
    if environ.get("HYPERSDK_CONFIG_FILE"):
        return Path(environ["HYPERSDK_CONFIG_FILE"])
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "hypersdk" / "config.toml"


def resolve(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> dict[str, Setting]:
    """All settings. `flags` has what was given on the command line, by key, and `profile`. Raises InvalidArgument
    (CONFIG_INVALID), NotFound (PROFILE_UNKNOWN)."""
    env = os.environ if environ is None else environ
    path = config_file(env)
    file = _read(path, required=bool(env.get("HYPERSDK_CONFIG_FILE")))
    profile = _pick("profile", flags, env, {}, "", {"profile": file.get("profile", "")}, path, "")
    layer = _profile(file, profile.value, path) if profile.value else {}
    settings = {
        key: _pick(key, flags, env, layer, profile.value, file, path, default) for key, default in KEYS.items()
    }
    return {"profile": profile, **settings}


def _pick(
    key: str,
    flags: Mapping[str, str | None],
    env: Mapping[str, str],
    profile: Mapping[str, Any],
    profile_name: str,
    file: Mapping[str, Any],
    path: Path,
    default: str,
) -> Setting:
    variable = f"HYPERSDK_{key.upper()}"
    given = flags.get(key)
    if given is not None:
        return Setting(given, f"flag --{key.replace('_', '-')}")
    if env.get(variable):
        return Setting(env[variable], f"environment {variable}")
    for layer, origin in ((profile, f"profile {profile_name}"), (file, f"file {path}")):
        value = layer.get(key)
        if value:
            return Setting(_text(key, value, path), origin)
    return Setting(default, "default")


def _text(key: str, value: Any, path: Path) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{path}: {key} must be a string in quotes", reason="CONFIG_INVALID")
    return str(Path(value).expanduser()) if key in _PATHS else value


def _profile(file: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    profiles = file.get("profiles", {})
    found = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(found, dict):
        raise NotFound(f"{path} has no [profiles.{name}]", reason="PROFILE_UNKNOWN", metadata={"profile": name})
    return found


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as exc:
        if required:
            raise from_exception(exc, doing="reading the configuration") from exc
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"{path} is not valid TOML: {exc}", reason="CONFIG_INVALID") from exc
    except OSError as exc:
        raise from_exception(exc, doing="reading the configuration") from exc
