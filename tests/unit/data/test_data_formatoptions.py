"""Options of image formats: unknown names, switches, choices, sizes, and errors that say what is right."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypersdk.data.formatoptions import Chain, FormatOptions, parse_size
from hypersdk.errors import InvalidArgument
from hypothesis import given, settings
from hypothesis import strategies as st

KNOWN = {"chain": "…", "fast": "…", "layout": "…", "block": "…"}


def options(letters=True, **values):
    return FormatOptions("box", values, KNOWN, doing="reading", letters=letters)


def refusal(call):
    with pytest.raises(InvalidArgument) as caught:
        call()
    return caught.value


def test_unknown_names_are_all_refused_with_the_known_ones_in_their_order():
    error = refusal(lambda: options(zeal="1", fast="on", ardour="2"))
    assert error.reason == "OPTION_UNKNOWN"
    assert error.message == "box has no option 'ardour' for reading; it has chain, fast, layout, block"
    assert [v.field for v in error.violations] == ["options.ardour", "options.zeal"]


def test_a_format_without_options_says_so_and_takes_none():
    FormatOptions("box", None, (), doing="creating")
    assert "it has none" in refusal(lambda: FormatOptions("box", {"a": "1"}, (), doing="creating")).message


def test_long_names_and_values_are_repeated_in_part():
    error = refusal(lambda: FormatOptions("box", {"n" * 500: ""}, KNOWN, doing="reading"))
    assert len(error.violations[0].field) < 100
    assert "n" * 81 not in error.message
    assert "v" * 41 not in refusal(lambda: options(fast="v" * 500).switch("fast")).message


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("on", True), ("YES", True), ("True", True), ("y", True),
     ("off", False), ("No", False), ("false", False), ("N", False)],
)  # fmt: skip
def test_switches_are_words_in_any_case(value, meaning):
    assert options(fast=value).switch("fast", default=not meaning) is meaning


@pytest.mark.parametrize("default", [True, False])
def test_a_switch_that_was_not_given_has_its_default(default):
    assert options().switch("fast", default=default) is default


@pytest.mark.parametrize(("value", "letters"), [("1", True), ("", True), ("onn", True), ("y", False), ("n", False)])
def test_other_words_are_no_switches(value, letters):
    error = refusal(lambda: options(letters, fast=value).switch("fast"))
    assert error.reason == "OPTION_INVALID"
    assert error.message == f"box option fast must be on or off, not {value!r}"
    assert error.violations[0].field == "options.fast"


def test_a_chain_is_refused_unless_the_user_decides():
    assert options().chain() is Chain.REFUSED
    assert options(chain="off").chain() is Chain.INFORMATION_ONLY
    assert options(chain="on").chain() is Chain.READ
    assert refusal(lambda: options(chain="maybe").chain()).reason == "OPTION_INVALID"


def test_choices_give_what_they_stand_for_and_list_themselves():
    values = {"v2": 2, "v3": 3}
    assert options().choice("layout", values, "v3") == 3
    assert options(layout="v2").choice("layout", values, "v3") == 2
    error = refusal(lambda: options(layout="V2").choice("layout", values, "v3"))
    assert error.message == "box option layout must be one of v2, v3, not 'V2'"
    assert options(layout="flat").one_of("layout", ("flat", "thin"), "thin") == "flat"
    assert refusal(lambda: options(layout="").one_of("layout", ("flat",), "flat")).reason == "OPTION_INVALID"


def test_a_size_is_judged_by_its_syntax_and_by_the_format():
    def block(**values):
        return options(**values).size("block", "8M", wanted="from 1M to 16M", accept=lambda n: 1 << 20 <= n <= 1 << 24)

    assert block() == 8 << 20
    assert block(block="2048k") == 2 << 20
    for wrong in ("big", "1G", "0"):
        assert refusal(lambda wrong=wrong: block(block=wrong)).message == (
            f"box option block must be from 1M to 16M, not {wrong!r}"
        )


@settings(max_examples=100, deadline=None)
@given(
    number=st.integers(0, 10**12 - 1), unit=st.sampled_from(["", *"kmgtKMGT"]),
    ending=st.sampled_from(["", "b", "B", "iB", "IB"]),
)  # fmt: skip
def test_sizes_are_numbers_with_units_of_1024(number, unit, ending):
    expected = None if ending.lower() == "ib" and not unit else number << 10 * " kmgt".index(unit.lower() or " ")
    assert parse_size(f"{number}{unit}{ending}", units="kmgt") == expected


@pytest.mark.parametrize("text", ["", "k", "-1", "+1", "1.5M", " 1M", "1M ", "1M\n", "1 M", "1e6", "0x10", "1MM", "1P",
                                  "1kib2", "\u0661M", "1\u212a", "1" * 13])  # fmt: skip
def test_what_is_no_size_is_none(text):
    assert parse_size(text, units="kmgt") is None


def test_units_that_a_format_does_not_have_are_none():
    assert parse_size("1G", units="km") is None
    assert parse_size("1KiB", units="km", iec=False) is None
    assert parse_size("1kB", units="km", iec=False) == 1024


def test_judging_options_imports_nothing_large():
    code = "import sys, hypersdk.data.formatoptions; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
