"""hyperctl plugin keygen, sign, verify: signatures of wheels. No daemon is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from hypersdk import signing
from hypersdk.errors import AlreadyExists, FailedPrecondition

from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import show_value
from hyperctl.session import Session

WheelArgument = Annotated[Path, typer.Argument(metavar="WHEEL", exists=True, dir_okay=False)]


def register(app: typer.Typer) -> None:
    app.command("keygen")(keygen)
    app.command("sign")(sign)
    app.command("verify")(verify)


def keygen(
    context: typer.Context,
    key: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; the public one: FILE.pub.")],
    output: OutputOption = None,
) -> None:
    """Make an Ed25519 key pair for signing wheels. Keep FILE to yourself; FILE.pub goes into plugin_keys."""
    private, public = signing.generate_key()
    _write_new(key, private, 0o600)
    shown = key.with_name(key.name + ".pub")
    _write_new(shown, public, 0o644)
    [key_id] = signing.load_public_keys(shown)
    show_value({"key": key_id, "private": str(key), "public": str(shown)}, mode_of(Session.of(context), output))


def sign(
    context: typer.Context,
    wheel: WheelArgument,
    key: Annotated[Path, typer.Option("--key", help="The private key's file.")],
    output: OutputOption = None,
) -> None:
    """Sign a wheel: the signature goes into WHEEL.sig beside it, which travels with it."""
    signature = signing.sign(signing.digest_of(wheel), signing.load_private_key(key))
    target = wheel.with_name(wheel.name + signing.SUFFIX)
    target.write_bytes(signature)
    show_value({"signature": str(target)}, mode_of(Session.of(context), output))


def verify(
    context: typer.Context,
    wheel: WheelArgument,
    keys: Annotated[Path, typer.Option("--keys", "--key", help="A public key, or a folder of *.pem and *.pub.")],
    output: OutputOption = None,
) -> None:
    """Check a wheel against WHEEL.sig and the keys that you trust."""
    signature = signing.read_signature(wheel)
    if not signature:
        raise FailedPrecondition(f"there is no {wheel.name}{signing.SUFFIX} beside it", reason="SIGNATURE_MISSING")
    digest = signing.digest_of(wheel)
    signer = signing.verify(digest, signature, signing.load_public_keys(keys))
    show_value({"sha256": digest, "signer": signer}, mode_of(Session.of(context), output))


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as exc:
        raise AlreadyExists(f"{path} exists already; choose another name", reason="FILE_EXISTS") from exc
    with open(handle, "wb") as file:
        file.write(data)
