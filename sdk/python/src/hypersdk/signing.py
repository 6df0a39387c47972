"""Signatures of wheels: Ed25519 (RFC 8032), detached, in a small JSON file beside the wheel.

    x-1.2-py3-none-any.whl.sig
    {"hypersdk_signature": 1, "key": "<key id>", "sha256": "<of the wheel>", "signature": "<base64>"}

Signed is `hypersdk-wheel-signature-v1`, a zero byte and the 32 bytes of the wheel's SHA-256, so that a signature made
for anything else is none here. A key's id is the first 16 hex digits of the SHA-256 of its 32 public bytes; private
keys are PKCS #8 PEM, public ones SubjectPublicKeyInfo PEM, as openssl writes and reads them.

Not here: whose keys are trusted (the daemon's settings). Needs `cryptography` (extra `signing`), which is imported when
it is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

DOMAIN = b"hypersdk-wheel-signature-v1\0"
SUFFIX = ".sig"
MAX_SIGNATURE_BYTES = 4096
MAX_KEY_BYTES = 16 << 10
_HEX64 = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")


def generate_key() -> tuple[bytes, bytes]:
    """A fresh key pair: (private PEM, public PEM)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Raises InvalidArgument (KEY_INVALID), FailedPrecondition (KEY_UNSAFE) when others may read it, OSError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        text = f"{path} can be read by others than its owner; run chmod 0600 on it, or make a new key"
        raise FailedPrecondition(text, reason="KEY_UNSAFE")
    try:
        key = serialization.load_pem_private_key(_read(path, MAX_KEY_BYTES), None)
    except (ValueError, TypeError) as exc:
        raise _key_invalid(path, "it is no unencrypted PEM key") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _key_invalid(path, "it is no Ed25519 key")
    return key


def load_public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Key id → key, of one PEM file or of every `*.pem` and `*.pub` of a folder. Raises InvalidArgument (KEY_INVALID)
    for a file that holds none, and for none at all; OSError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    files = sorted(p for p in path.iterdir() if p.suffix in {".pem", ".pub"}) if path.is_dir() else [path]
    found: dict[str, Ed25519PublicKey] = {}
    for file in files:
        try:
            key = serialization.load_pem_public_key(_read(file, MAX_KEY_BYTES))
        except ValueError as exc:
            raise _key_invalid(file, "it is no PEM public key") from exc
        if not isinstance(key, Ed25519PublicKey):
            raise _key_invalid(file, "it is no Ed25519 key")
        found[key_id(key)] = key
    if not found:
        raise _key_invalid(path, "it has no *.pem or *.pub file")
    return found


def sign(sha256: str, key: Ed25519PrivateKey) -> bytes:
    """The content of the signature file of a wheel with this hex SHA-256."""
    value = key.sign(DOMAIN + bytes.fromhex(sha256))
    document = {
        "hypersdk_signature": 1, "key": key_id(key.public_key()), "sha256": sha256,
        "signature": base64.b64encode(value).decode(),
    }  # fmt: skip
    return json.dumps(document, indent=1).encode() + b"\n"


def verify(sha256: str, signature: bytes, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """The id of the key in `keys` that signed a wheel with this hex SHA-256. Raises FailedPrecondition
    (SIGNATURE_INVALID, SIGNER_UNKNOWN)."""
    from cryptography.exceptions import InvalidSignature

    signer, claimed, value = _parse(signature)
    if claimed != sha256:
        raise _invalid("it is of another wheel, or the wheel has been changed since")
    key = keys.get(signer)
    if key is None:
        raise FailedPrecondition(
            f"the wheel is signed with key {signer}, which is not among those trusted here; "
            "get the public key from its owner and add it, if you trust them",
            reason="SIGNER_UNKNOWN",
            metadata={"key": signer},
        )
    try:
        key.verify(value, DOMAIN + bytes.fromhex(sha256))
    except InvalidSignature as exc:
        raise _invalid(f"key {signer} did not make it") from exc
    return signer


def digest_of(wheel: Path) -> str:
    """Hex SHA-256 of a file's bytes. Raises OSError."""
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_signature(wheel: Path) -> bytes:
    """The signature file beside `wheel`; empty when there is none. Raises FailedPrecondition (SIGNATURE_INVALID) for
    one that is too large to be one, OSError."""
    try:
        return _read(wheel.with_name(wheel.name + SUFFIX), MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return b""
    except ValueError as exc:
        raise _invalid(str(exc)) from exc


def _parse(signature: bytes) -> tuple[str, str, bytes]:
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise _invalid(f"it has more than {MAX_SIGNATURE_BYTES} bytes")
    try:
        data = json.loads(signature)
        signer, claimed = str(data["key"]), str(data["sha256"])
        value = base64.b64decode(str(data["signature"]), validate=True)
        version = data["hypersdk_signature"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _invalid("it is not a signature file") from exc
    if version != 1 or not _KEY_ID.fullmatch(signer) or not _HEX64.fullmatch(claimed):
        raise _invalid("it is not a signature file of version 1")
    return signer, claimed, value


def _read(path: Path, limit: int) -> bytes:
    """Raises ValueError above `limit`, OSError. Never waits for a pipe that somebody put there."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.name} has more than {limit} bytes")
    return data


def _invalid(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the wheel's signature is refused: {why}; fetch wheel and signature again from where they were published",
        reason="SIGNATURE_INVALID",
    )


def _key_invalid(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} cannot be used: {why}; `hyperctl plugin keygen` makes key pairs", reason="KEY_INVALID"
    )
