"""Sizes and durations as people write them."""

import pytest
from hyperctl.units import format_bytes, format_duration, parse_duration, parse_size
from hypersdk.errors import InvalidArgument
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096), ("1k", 1024), ("10GiB", 10 << 30), ("200MiB", 200 << 20), ("1.5G", 3 << 29), ("10GB", 10**10),
        ("64 KiB", 65536), ("5kB", 5000), ("7B", 7), ("1T", 1 << 40), ("2p", 2 << 50),
    ],
)  # fmt: skip
def test_a_size_is_read_in_its_unit(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e9", "10XB", "1..5G", "9000000P", "1 0"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        parse_size(text)
    assert caught.value.reason == "SIZE_INVALID"


@given(st.integers(0, 2**63 - 1))
def test_plain_bytes_are_read_as_they_are(value):
    assert parse_size(str(value)) == value


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text):
    try:
        assert parse_size(text) >= 0
    except InvalidArgument as error:
        assert error.reason == "SIZE_INVALID"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172800), ("1m5s", 65), ("0.5h", 1800)]
)
def test_a_duration_is_the_sum_of_its_parts(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "1x", "1h 30m", "-5s", "5m3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        parse_duration(text)
    assert caught.value.reason == "DURATION_INVALID"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"), (500 << 20, "500 MiB"), (-1, "-")],
)
def test_bytes_are_written_in_the_largest_unit(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (125, "2m05s"), (3720, "1h02m"), (273600, "3d04h"), (-1, "-")]
)
def test_durations_are_written_in_two_units(seconds, text):
    assert format_duration(seconds) == text
