"""Which builds may come into the store, and stay there: the operator's policy.

    plugin_allow         patterns, one of which a distribution must match: `acme-*`, `acme-pricing>=1.2,<2`,
                         `acme-pricing==1.2 sha256:<of the wheel>`; none: every one may
    plugin_keys          public keys
    require_signatures   only wheels that one of these keys has signed

What the operator put into the daemon's own environment is not judged: it can do what the daemon can.

Not here: whether a wheel is sound (wheel), whether its files are those that were installed (install).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk import signing
from hypersdk.errors import FailedPrecondition, InvalidArgument
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from hypersdk_kernel.hosting.discovery import normalize
from hypersdk_kernel.model.plugin import Generation

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_RULE = re.compile(r"\s*([A-Za-z0-9*?][A-Za-z0-9._*?-]*)\s*([<>=!~]\S*)?(?:\s+sha256:([0-9a-f]{64}))?\s*")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One pattern of `plugin_allow`. `sha256`: of the wheel, hex; empty: any."""

    name: str
    versions: SpecifierSet
    sha256: str

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """Raises InvalidArgument (CONFIG_INVALID)."""
        match = _RULE.fullmatch(text)
        try:
            versions = SpecifierSet(match[2] or "") if match else SpecifierSet()
        except InvalidSpecifier:
            match = None
        if match is None:
            raise InvalidArgument(
                f"plugin_allow: {text[:120]!r} is not NAME, NAME<versions> or NAME<versions> sha256:HEX",
                reason="CONFIG_INVALID",
            )
        return cls(normalize(match[1]), versions, match[3] or "")

    def covers(self, name: str, version: str, sha256: str) -> bool:
        try:
            fits = self.versions.contains(Version(version), prereleases=True)
        except InvalidVersion:
            fits = False
        return fnmatchcase(name, self.name) and fits and self.sha256 in {"", sha256}


@dataclass(frozen=True, slots=True)
class Trust:
    """The policy. The default lets everything in, as long as signatures that are there are right."""

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    required: bool = False
    allowed: tuple[Allowed, ...] = ()

    @classmethod
    def of(cls, keys: Path | None, required: bool, allowed: Sequence[str]) -> Trust:
        """From the settings. Reads the keys. Raises InvalidArgument (CONFIG_INVALID, KEY_INVALID), OSError."""
        if required and keys is None:
            raise InvalidArgument(
                "require_signatures needs plugin_keys: without a key no wheel could ever come in",
                reason="CONFIG_INVALID",
            )
        loaded = signing.load_public_keys(keys) if keys is not None else {}
        return cls(loaded, required, tuple(Allowed.parse(text) for text in allowed))

    def signer(self, sha256: str, signature: bytes) -> str:
        """The id of the key that signed a wheel; empty when none need have. Raises FailedPrecondition
        (SIGNATURE_MISSING, SIGNATURE_INVALID, SIGNER_UNKNOWN)."""
        if not signature:
            if self.required:
                raise signature_missing("it has none")
            return ""
        if not self.keys:
            return ""  # nothing to compare with: as good as unsigned, and recorded as that
        return signing.verify(sha256, signature, self.keys)

    def check_allowed(self, distribution: str, version: str, sha256: str) -> None:
        """Raises FailedPrecondition (PLUGIN_NOT_ALLOWED). `sha256`: of the wheel; empty when it is not known."""
        name = normalize(distribution)
        if self.allowed and not any(rule.covers(name, version, sha256) for rule in self.allowed):
            raise FailedPrecondition(
                f"{distribution} {version} is not among the plugins that may be installed here; "
                "if it should be, add it to plugin_allow",
                reason="PLUGIN_NOT_ALLOWED",
                metadata={"distribution": distribution, "version": version},
            )

    def check_stored(self, generation: Generation) -> None:
        """Whether a build that came in earlier may still be used: the policy may have become stricter, a key may have
        been taken away. Raises as the others."""
        origin = generation.provenance
        self.check_allowed(generation.distribution, generation.version, origin.sha256)
        if self.required and not origin.signer:
            raise signature_missing("it was installed without one")
        if self.required and origin.signer not in self.keys:
            raise FailedPrecondition(
                f"{generation.distribution} {generation.version} was signed with key {origin.signer}, which is not "
                "trusted any more",
                reason="SIGNER_UNKNOWN",
                metadata={"key": origin.signer},
            )


def signature_missing(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"wheels must be signed here (require_signatures), and {why}; put the publisher's .sig file beside the wheel, "
        "or sign it with a key of plugin_keys (`hyperctl plugin sign`)",
        reason="SIGNATURE_MISSING",
    )
