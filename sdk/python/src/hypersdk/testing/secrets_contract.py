"""SecretSourceContract: what every implementation of `hypersdk.plugin.SecretSource` must keep.

Not here: a vault's own ways to log in, its policies and its rotation.
"""

from __future__ import annotations

import math
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypersdk.errors import HyperError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from hypersdk.plugin.secrets import MAX_SECRET_BYTES, Secret, SecretSource

HOSTILE_PATHS = (
    "../outside", "a/../../outside", "/etc/passwd", "..", ".", "a/./b", "a//b", "a/", "a\0b", "%2e%2e/outside",
    "..\\outside", "a\nb: c", "x" * 1024, "\u202egnp", "{{7*7}}", "$HOME", "~root",
)  # fmt: skip


class SecretSourceContract:
    """Subclass it and give the fixtures:

    source    a configured SecretSource whose vault holds `known`
    known     (path, value) of a secret in it, the value being of 8 characters at least and found nowhere else
    sealed    a configured SecretSource whose vault is away; skip in it what cannot be
    """

    @pytest.fixture
    def source(self) -> SecretSource:
        raise NotImplementedError("give a `source` fixture in the subclass: configured")

    @pytest.fixture
    def known(self) -> tuple[str, str]:
        raise NotImplementedError("give a `known` fixture in the subclass: path and value of a secret")

    @pytest.fixture
    def sealed(self) -> SecretSource:
        raise NotImplementedError("give a `sealed` fixture in the subclass: configured, its vault away")

    def test_a_secret_is_its_exact_value(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Mend: return Secret(value): the text as it was put in, without quotes, JSON or a final newline."""
        secret = source.resolve(known[0])
        assert isinstance(secret, Secret)
        assert secret.value == known[1]
        assert len(secret.value.encode()) <= MAX_SECRET_BYTES

    def test_the_time_that_it_may_be_kept_is_told(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Mend: seconds, 0 or more: the lease's rest, or what the operator configured; never infinite."""
        ttl_s = source.resolve(known[0]).ttl_s
        assert isinstance(ttl_s, int | float)
        assert math.isfinite(ttl_s)
        assert ttl_s >= 0

    def test_a_value_is_not_shown_by_accident(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Mend: return the SDK's Secret, whose repr leaves the value out, and define no repr that shows more."""
        assert known[1] not in repr(source.resolve(known[0]))
        assert known[1] not in repr(source)

    def test_asking_again_gives_the_same(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Mend: `resolve` changes nothing; a one-time token is no secret of this kind."""
        assert {source.resolve(known[0]).value for _ in range(5)} == {known[1]}

    def test_many_ask_at_once(self, source: SecretSource, known: tuple[str, str]) -> None:
        """The kernel does so when the manifest says parallel. Mend: no shared state without a lock; or declare
        `"concurrency": "serial"` and lock here."""
        with ThreadPoolExecutor(8) as pool:
            assert {s.value for s in pool.map(lambda _: source.resolve(known[0]), range(32))} == {known[1]}

    def test_what_is_not_there_is_not_found(self, source: SecretSource) -> None:
        """Mend: NotFound (SECRET_NOT_FOUND), so that a typing mistake fails at once and is not retried for hours."""
        with pytest.raises(NotFound) as missing:
            source.resolve("no-such-secret-here")
        assert missing.value.reason == "SECRET_NOT_FOUND"
        assert not missing.value.retryable

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=ascii)
    def test_no_path_leads_out_of_the_vault(self, source: SecretSource, path: str) -> None:
        """A path is what somebody typed into a connection. Mend: check it before it becomes part of a file name, URL or
        query: InvalidArgument (SECRET_PATH_INVALID), or NotFound where the vault takes it as a name."""
        with pytest.raises((InvalidArgument, NotFound, PermissionDenied)):
            source.resolve(path)

    def test_no_error_holds_a_value(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Errors are stored and shown. Mend: name the path, never what was read."""
        for path in (*HOSTILE_PATHS, known[0] + "x", known[0] + "/x", known[0].upper() + "-"):
            shown = ""
            try:
                source.resolve(path)
            except HyperError as exc:
                shown = "".join(traceback.format_exception(exc))
            assert known[1] not in shown, path

    def test_health_of_a_vault_that_answers_is_ok(self, source: SecretSource) -> None:
        """Mend: the cheapest authenticated call; Health(False, why) instead of raising."""
        health = source.health()
        assert health.ok, health.message

    def test_a_vault_that_is_away_is_worth_another_try(self, sealed: SecretSource, known: tuple[str, str]) -> None:
        """Jobs wait for a vault that restarts. Mend: Unavailable (SECRET_SOURCE_UNAVAILABLE), which is retryable, of
        everything that passes by itself: refused connections, timeouts, a sealed vault."""
        with pytest.raises(Unavailable) as away:
            sealed.resolve(known[0])
        assert away.value.reason == "SECRET_SOURCE_UNAVAILABLE"
        assert away.value.retryable

    def test_health_of_a_vault_that_is_away_says_so(self, sealed: SecretSource) -> None:
        """Mend: catch what `resolve` raises and return Health(False, message)."""
        health = sealed.health()
        assert not health.ok
        assert health.message

    def test_it_can_be_closed(self, source: SecretSource, known: tuple[str, str]) -> None:
        """Mend: `close` after use, and twice, raises nothing."""
        source.resolve(known[0])
        source.close()
        source.close()
