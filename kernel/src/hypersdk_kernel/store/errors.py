"""What a database said, as an error of ours. SQLite is known by its words, PostgreSQL by SQLSTATE (its manual,
appendix A) and, where a connection never came to be, by its words too.

Not here: what is done about it (engine fails the group, the dispatcher tries again).
"""

from __future__ import annotations

from hypersdk.errors import DataLoss, FailedPrecondition, HyperError, Internal, ResourceExhausted, Unavailable

_DRIVERS = ("sqlite3", "psycopg", "sqlalchemy")
_UNAVAILABLE = ("08", "57P", "53")
_BUSY = frozenset({"40001", "40P01", "55P03", "57014"})
_DENIED = ("authentication failed", "no password supplied", "does not exist", "permission denied", "pg_hba.conf")


def translate(exc: BaseException) -> HyperError:
    """A database error as one of ours."""
    if isinstance(exc, HyperError):
        return exc
    first = _first(exc)
    text = str(first).strip()
    known = _by_state(getattr(first, "sqlstate", None), text)
    if known is None:
        known = _by_connection(first, text) if type(first).__module__.startswith("psycopg") else _by_words(text)
    return known or Internal(f"store: {type(exc).__name__}: {text}", reason="STORE_FAILED")


def is_database(exc: BaseException) -> bool:
    """Did a database or its driver say it?"""
    return type(exc).__module__.startswith(_DRIVERS)


def of_store(error: HyperError) -> bool:
    """Is it the store's trouble, and no fault of what was to be written?"""
    return error.reason.startswith("STORE_") or error.reason in {"DISK_FULL", "STATE_CORRUPT"}


def is_operational(exc: BaseException) -> bool:
    """Is it about disk or connection rather than about the statement? (PEP 249, OperationalError)"""
    return is_database(exc) and any(base.__name__ == "OperationalError" for base in type(exc).__mro__)


def _first(exc: BaseException) -> BaseException:
    """The driver's own error. SQLite rolls a whole transaction back when the disk is full, so the rollback of our
    savepoint fails too, and its error hides the first one, which is what counts."""
    link: BaseException | None = exc
    found = exc
    while link is not None:
        if type(link).__module__.startswith(_DRIVERS):
            found = link
        link = link.__context__
    said = getattr(found, "orig", None)
    return said if isinstance(said, BaseException) else found


def _by_words(text: str) -> HyperError | None:
    if "disk is full" in text or "disk I/O error" in text:
        return _full(text)
    if "readonly database" in text:
        return read_only(text, "check its permissions")
    if "malformed" in text or "not a database" in text:
        return _corrupt(text)
    if "locked" in text or "busy" in text:
        return Unavailable("the kernel's database is held by another process", reason="STORE_BUSY")
    return None


def _by_state(state: str | None, text: str) -> HyperError | None:
    if state is None:
        return None
    if state == "53100":
        return _full(text)
    if state == "25006":
        return read_only(text, "it is a standby, or was set to read-only")
    if state in {"XX001", "XX002"}:
        return _corrupt(text)
    if state in _BUSY:
        return Unavailable(f"the kernel's database is busy ({text}); try again", reason="STORE_BUSY", retry_after_s=1.0)
    if state == "42501" or state.startswith("28"):
        return _refused(text)
    return _gone(text) if state.startswith(_UNAVAILABLE) else None


def _by_connection(exc: BaseException, text: str) -> HyperError | None:
    """psycopg without SQLSTATE: the connection broke, or never was."""
    if type(exc).__name__ not in {"OperationalError", "ConnectionTimeout", "InterfaceError"}:
        return None
    return _refused(text) if any(words in text for words in _DENIED) else _gone(text)


def _full(text: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"the kernel's database cannot be written ({text}); free space on its file system",
        reason="DISK_FULL",
        retry_after_s=5.0,
    )


def read_only(text: str, hint: str) -> FailedPrecondition:
    """STORE_READ_ONLY."""
    return FailedPrecondition(f"the kernel's database is read-only ({text}); {hint}", reason="STORE_READ_ONLY")


def _corrupt(text: str) -> DataLoss:
    return DataLoss(f"the kernel's database is damaged ({text}); restore it from a backup", reason="STATE_CORRUPT")


def _refused(text: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"PostgreSQL refuses us ({text}); check the setting `database`, its password and its grants",
        reason="STORE_REFUSED",
    )


def _gone(text: str) -> Unavailable:
    return Unavailable(
        f"the kernel's PostgreSQL cannot be reached ({text}); whether a change in flight was made is unknown, so "
        "repeat it with its request_id",
        reason="STORE_UNAVAILABLE",
        retry_after_s=2.0,
    )
