"""Secrets in configurations: stored as references, resolved for one use.

A reference is `env:NAME` (a variable of the kernel's environment), `file:/absolute/path` (its content without the
final newline, at most 64 KiB) or `CONNECTION:PATH`, whose value a secrets plugin has (engine.vaults asks it). Values go
to hosts and runners in messages; they are never stored, logged or put into an error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypersdk.errors import FailedPrecondition, FieldViolation, InvalidArgument

MAX_SECRET_BYTES = 64 << 10

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]{0,254})")
_FILE = re.compile(r"file:(/[^\x00]{1,4094})")
_VAULT = re.compile(r"([a-z](?:[a-z0-9-]{0,61}[a-z0-9])?):([^\x00-\x1f\x7f]{1,1024})")
_OURS = ("env:", "file:")


def vault_of(reference: Any) -> str:
    """The id of the connection that has the value of `CONNECTION:PATH`; empty for every other value."""
    if not isinstance(reference, str) or reference.startswith(_OURS):
        return ""
    found = _VAULT.fullmatch(reference)
    return found[1] if found else ""


def check_references(
    config: Mapping[str, Any], secret_fields: Iterable[str], is_vault: Callable[[str], bool] = lambda _id: False
) -> None:
    """Raises InvalidArgument (SECRET_NOT_A_REFERENCE) when a secret field holds anything but a reference. The
    message never repeats what it holds. `is_vault`: whether the connection of that id is a vault."""
    rule = (
        "must be a reference, env:NAME, file:/absolute/path or CONNECTION:PATH of a secrets connection, and not the "
        "secret itself"
    )
    wrong = tuple(
        FieldViolation(f"connection.config.{field}", rule)
        for field in secret_fields
        if field in config and not _is_reference(config[field]) and not _in_vault(config[field], is_vault)
    )
    if wrong:
        raise InvalidArgument(
            f"{wrong[0].field} {wrong[0].description}", reason="SECRET_NOT_A_REFERENCE", violations=wrong
        )


def resolve_secrets(
    config: Mapping[str, Any], secret_fields: Iterable[str], environ: Mapping[str, str] = os.environ
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration without its secret fields, and their values. Reads files. Raises FailedPrecondition
    (SECRET_UNAVAILABLE) naming the reference, InvalidArgument as `check_references`."""
    fields = tuple(secret_fields)
    check_references(config, fields)
    plain = {key: value for key, value in config.items() if key not in fields}
    return plain, {field: _resolve(str(config[field]), field, environ) for field in fields if field in config}


def _in_vault(value: Any, is_vault: Callable[[str], bool]) -> bool:
    vault = vault_of(value)
    return bool(vault) and is_vault(vault)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and (_ENV.fullmatch(value) or _FILE.fullmatch(value)) is not None


def _resolve(reference: str, field: str, environ: Mapping[str, str]) -> str:
    source, _, place = reference.partition(":")
    if source == "env":
        if place not in environ:
            raise _unavailable(field, reference, "is not set in the daemon's environment")
        return environ[place]
    try:
        data = _read(place)
    except OSError as exc:
        raise _unavailable(field, reference, f"cannot be read: {exc.strerror}") from exc
    if data is None:
        raise _unavailable(field, reference, "is not a plain file")
    if len(data) > MAX_SECRET_BYTES:
        raise _unavailable(field, reference, f"is larger than {MAX_SECRET_BYTES} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise _unavailable(field, reference, "is not UTF-8 text") from None


def _read(path: str) -> bytes | None:
    """Up to one byte more than a secret may have; None of what is no plain file, whose reading could wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, MAX_SECRET_BYTES + 1) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _unavailable(field: str, reference: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the secret of {field}: {reference} {why}",
        reason="SECRET_UNAVAILABLE",
        metadata={"field": field, "reference": reference},
    )
