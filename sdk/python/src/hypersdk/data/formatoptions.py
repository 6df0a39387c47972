"""The options that users give to an image format: name=value texts, by qemu-img's names and value syntax.

A format makes a FormatOptions of what it was given, which refuses names that it does not have, and asks it for one
value after the other; everything behind works on the typed results. What an option means, and which options exclude
each other, is the format's own. Standard library only: options are judged before anything large is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import TypeVar

from hypersdk.errors import FieldViolation, InvalidArgument

T = TypeVar("T")

CHAIN_HELP = (
    "on: read the parents of a differencing disk from its own directory; off: open it for its information alone; "
    "default: refuse it"
)

_WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_LETTERS = {"y": True, "n": False}
_SIZE = re.compile(r"([0-9]{1,12})([kmgt]?)(|b|ib)", re.ASCII | re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_MOST_NAME = 80
_MOST_VALUE = 40
"""Characters of what the user gave that are repeated to them."""


class Chain(Enum):
    """What to do with a disk that has a parent."""

    REFUSED = "refused"
    INFORMATION_ONLY = "information only"
    READ = "read"


class FormatOptions:
    """What was given to one call of the format called `name`; immutable.

    known    names of the options that it has, in the order in which to list them
    doing    what it is asked for, for messages: "reading", "creating"
    letters  whether y and n are switches too

    Raises InvalidArgument (OPTION_UNKNOWN) with a violation for each name that is not known.
    """

    def __init__(
        self,
        name: str,
        given: Mapping[str, str] | None,
        known: Collection[str],
        *,
        doing: str,
        letters: bool = True,
    ) -> None:
        self._name = name
        self._given = dict(given or {})
        self._switches = _WORDS | _LETTERS if letters else _WORDS
        unknown = sorted(self._given.keys() - set(known))
        if unknown:
            raise InvalidArgument(
                f"{name} has no option {unknown[0][:_MOST_NAME]!r} for {doing}; it has {', '.join(known) or 'none'}",
                reason="OPTION_UNKNOWN",
                violations=tuple(
                    FieldViolation(f"options.{option[:_MOST_NAME]}", f"is not an option of {name}")
                    for option in unknown
                ),
            )

    def __contains__(self, option: str) -> bool:
        return option in self._given

    def text(self, option: str, default: str = "") -> str:
        return self._given.get(option, default)

    def switch(self, option: str, *, default: bool = False) -> bool:
        """on, yes, true; off, no, false; in any case. Raises InvalidArgument (OPTION_INVALID)."""
        if option not in self._given:
            return default
        value = self._given[option].lower()
        if value not in self._switches:
            raise self.refused(option, "on or off")
        return self._switches[value]

    def chain(self) -> Chain:
        """The option `chain`. Raises InvalidArgument (OPTION_INVALID)."""
        if "chain" not in self._given:
            return Chain.REFUSED
        return Chain.READ if self.switch("chain") else Chain.INFORMATION_ONLY

    def choice(self, option: str, values: Mapping[str, T], default: str) -> T:
        """What the value stands for. Raises InvalidArgument (OPTION_INVALID), which lists `values`."""
        value = self.text(option, default)
        if value not in values:
            raise self.refused(option, f"one of {', '.join(values)}")
        return values[value]

    def one_of(self, option: str, values: Collection[str], default: str) -> str:
        """Raises InvalidArgument (OPTION_INVALID), which lists `values`."""
        return self.choice(option, {value: value for value in values}, default)

    def size(
        self,
        option: str,
        default: str,
        *,
        wanted: str,
        accept: Callable[[int], bool],
        units: str = "kmg",
        iec: bool = True,
    ) -> int:
        """Bytes. `wanted` says what `accept` takes, for the message; `units`, `iec`: as `parse_size`. Raises
        InvalidArgument (OPTION_INVALID)."""
        size = parse_size(self.text(option, default), units=units, iec=iec)
        if size is None or not accept(size):
            raise self.refused(option, wanted)
        return size

    def refused(self, option: str, wanted: str) -> InvalidArgument:
        """The error for a value that is not `wanted`."""
        return self.wrong(option, f"must be {wanted}, not {self.text(option)[:_MOST_VALUE]!r}")

    def wrong(self, option: str, what: str) -> InvalidArgument:
        """The error for an option of which `what` is true."""
        return InvalidArgument(
            f"{self._name} option {option} {what}",
            reason="OPTION_INVALID",
            violations=(FieldViolation(f"options.{option}", what),),
        )


def parse_size(text: str, *, units: str, iec: bool = True) -> int | None:
    """Bytes: a number of at most 12 digits, then a unit or none, then B or none, in any case; None for anything else.
    All units are powers of 1024.

    units  letters of "kmgt"
    iec    whether KiB and the like are units too
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    unit = match[2].lower()
    if unit not in units or (match[3].lower() == "ib" and not (iec and unit)):
        return None
    return int(match[1]) << _SHIFT[unit]
