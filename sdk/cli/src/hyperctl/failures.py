"""How an error looks: what failed and why, which fields, the next command, the reason and the request id.

Plain text on stderr, without rich, because `hyperctl image` must not import it. Exit codes are not decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from hypersdk import errors
from hypersdk.errors import HyperError

from hyperctl import exits

_LISTED_NOUNS = frozenset({"connection", "event", "format", "job", "machine", "plugin"})
_BY_REASON: dict[str, str] = {
    "DAEMON_UNREACHABLE": "hypersdkd",
    "CREDENTIALS_UNREADABLE": "hyperctl config view --show-origin",
    "FORMAT_UNKNOWN": "hyperctl format list",
    "TASK_UNKNOWN": "hyperctl plugin list",
    "COMPONENT_UNKNOWN": "hyperctl plugin list",
    "CONNECTION_NOT_FOUND": "hyperctl connection list",
    "JOB_NOT_FOUND": "hyperctl job list",
}


def next_command(error: HyperError, command: str) -> str:
    """What the user may type next, or "". `command` is what was typed, without its arguments: "job get"."""
    job = error.metadata.get("job", "")
    noun = command.partition(" ")[0]
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    if isinstance(error, errors.Cancelled) and job:
        return f"hyperctl job retry {job}"
    if job and not isinstance(error, errors.NotFound):
        return f"hyperctl job logs {job}"
    if isinstance(error, errors.NotFound) and noun in _LISTED_NOUNS:
        return f"hyperctl {noun} list"
    if isinstance(error, errors.Unauthenticated | errors.PermissionDenied) and noun != "image":
        return "hyperctl config view --show-origin"
    if isinstance(error, errors.InvalidArgument) and command:
        return f"hyperctl {command} --help"
    if isinstance(error, errors.Unavailable) and noun != "image":
        return "hyperctl system info"
    return ""


def report(error: HyperError, command: str = "", stream: TextIO | None = None) -> int:
    """Print the error; return its exit code."""
    out = stream or sys.stderr
    lines = [f"hyperctl: {_printable(error.message)}"]
    if isinstance(error, errors.InvalidArgument):
        lines += [f"  {_printable(v.field)}: {_printable(v.description)}" for v in error.violations]
    hint = next_command(error, command)
    if hint:
        lines.append(f"  next: {hint}")
    request = error.metadata.get("request_id", "")
    lines.append(f"  reason: {error.reason}" + (f", request {_printable(request)}" if request else ""))
    out.write("\n".join(lines) + "\n")
    out.flush()
    return exits.code_for(error)


def guarded(run: Callable[[], int], command: str) -> int:
    """The exit status of `run()`, with every error of the tree, every OSError and Ctrl-C reported."""
    try:
        status = run()
        sys.stdout.flush()
    except HyperError as error:
        return report(error, command)
    except KeyboardInterrupt:
        sys.stderr.write("\nhyperctl: interrupted\n")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nobody is left to be told. The interpreter would still try to
        # flush stdout at exit, and complain.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 - lives until the process ends
        return exits.FAILED
    except OSError as exc:
        return report(errors.from_exception(exc), command)
    return status


def _printable(text: str) -> str:
    """Names in messages may come from images and platforms: no control characters reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
