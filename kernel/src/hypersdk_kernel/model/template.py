"""Variables in a job template: `${name}` in any string value is replaced; `$${name}` stands for the text `${name}`;
any other `$` is itself. Pure.

Strict: a name that is no variable, or a `${` that is never closed, is refused, so that a slip is seen when the schedule
is made and not in a file's name months later. Values are put in as they are and not looked at again. Keys of objects,
numbers and booleans are left alone. Not here: expressions, defaults, conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from hypersdk_kernel.model.schedule import Schedule
from hypersdk_kernel.model.timing import invalid, zone

BUILT_IN = ("schedule", "scheduled_time", "scheduled_date", "scheduled_stamp", "run_number")
MAX_TEXT = 65_536
"""Characters that one string may grow to."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MARK = re.compile(r"(\$?)\$\{([^}]*)(\}?)")


def check_variables(variables: Mapping[str, str], field: str = "schedule.variables") -> None:
    """Raises InvalidArgument (SCHEDULE_INVALID) for a name that cannot be used."""
    for name in variables:
        if _NAME.fullmatch(name) is None:
            raise invalid(field, f"{name[:80]!r} must be a-z, 0-9 and _, begin with a letter, and have at most 63")
        if name in BUILT_IN:
            raise invalid(field, f"{name} has a meaning already; choose another name")


def values(schedule: Schedule, occurrence: float, run_number: int) -> dict[str, str]:
    """The variables of one run. The date is that of the schedule's zone, the time and the stamp are UTC."""
    utc = datetime.fromtimestamp(occurrence, UTC)
    there = datetime.fromtimestamp(occurrence, zone(schedule.timing.time_zone))
    return {
        **schedule.variables,
        "schedule": schedule.id,
        "scheduled_time": utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scheduled_date": there.strftime("%Y-%m-%d"),
        "scheduled_stamp": utc.strftime("%Y%m%dT%H%M%SZ"),
        "run_number": str(run_number),
    }


def expand(value: Any, variables: Mapping[str, str], path: str = "schedule.job_template") -> Any:
    """`value` with its variables replaced. Raises InvalidArgument (SCHEDULE_INVALID) naming the place."""
    if isinstance(value, str):
        return _text(value, variables, path)
    if isinstance(value, Mapping):
        return {key: expand(inner, variables, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [expand(inner, variables, f"{path}[{index}]") for index, inner in enumerate(value)]
    return value


def _text(text: str, variables: Mapping[str, str], path: str) -> str:
    def put(match: re.Match[str]) -> str:
        escaped, name, closed = match.groups()
        if escaped:
            return match[0][1:]
        if not closed:
            raise invalid(path, "a ${ is not closed; write $${ for the text itself")
        if name not in variables:
            raise invalid(path, f"there is no variable {name[:80]!r}; there are {_listed(variables)}")
        return variables[name]

    out = _MARK.sub(put, text)
    if len(out) > MAX_TEXT:
        raise invalid(path, f"grows to {len(out)} characters with its variables; at most {MAX_TEXT} are taken")
    return out


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
