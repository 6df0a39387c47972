"""`key=value` arguments, and files of them, as dicts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypersdk.errors import InvalidArgument, from_exception


def parse_pairs(items: Iterable[str], *, flag: str) -> dict[str, str]:
    """`a=b` each. Raises InvalidArgument (PAIR_INVALID)."""
    out: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"{flag} takes key=value, not {item[:80]!r}", reason="PAIR_INVALID")
        out[key] = value
    return out


def parse_option_list(items: Iterable[str], *, flag: str = "-o") -> dict[str, str]:
    """qemu-img's `-o a=b,c=d`, repeatable; `,,` is a comma in a value; a name alone means `on`."""
    mark = "\0"
    pairs = [p for item in items for p in item.replace(",,", mark).split(",") if p]
    return parse_pairs((p.replace(mark, ",") if "=" in p else f"{p}=on" for p in pairs), flag=flag)


def typed(pairs: dict[str, str]) -> dict[str, Any]:
    """Values that are JSON numbers, booleans, null, lists or objects become those; everything else is text.
    `'"5"'` is the text 5."""
    out: dict[str, Any] = {}
    for key, value in pairs.items():
        try:
            out[key] = json.loads(value)
        except ValueError:
            out[key] = value
    return out


def read_config_file(path: Path, doing: str = "reading the configuration of the connection") -> dict[str, Any]:
    """A mapping from a .toml, .json or .yaml file. Raises InvalidArgument (CONFIG_INVALID)."""
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        raise from_exception(exc, doing=doing) from exc
    try:
        value = _parse(path.suffix.lower(), text)
    except ValueError as exc:
        raise InvalidArgument(f"{path}: {exc}", reason="CONFIG_INVALID") from exc
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path} must hold a mapping of names to values", reason="CONFIG_INVALID")
    return value


def _parse(suffix: str, text: str) -> Any:
    if suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(f"not valid YAML: {exc}") from exc
