"""Page tokens of merged lists."""

import base64

import pytest
from hypersdk.errors import Internal, InvalidArgument
from hypersdk_kernel.hosting.pagetoken import Cursor, decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st

CURSORS = st.builds(Cursor, st.text(max_size=40), st.text(max_size=100), st.integers(0, 1000), st.integers(0, 1000))


@settings(max_examples=100, deadline=None)
@given(CURSORS, st.text(max_size=20))
def test_a_token_gives_back_its_cursor_in_its_scope(cursor, scope):
    assert decode(encode(cursor, scope), scope) == cursor


@settings(max_examples=100, deadline=None)
@given(CURSORS, st.data())
def test_a_damaged_token_is_refused(cursor, data):
    raw = bytearray(base64.urlsafe_b64decode(encode(cursor, "s") + "=="))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidArgument):
        decode(base64.urlsafe_b64encode(raw).decode().rstrip("="), "s")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=50))
def test_any_other_text_is_refused_with_the_field_named(text):
    with pytest.raises(InvalidArgument) as caught:
        decode(text, "s")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert caught.value.violations[0].field == "page_token"


def test_a_token_is_not_good_for_another_request():
    with pytest.raises(InvalidArgument):
        decode(encode(Cursor("a"), "ListMachines x"), "ListMachines y")


def test_a_source_whose_token_cannot_be_passed_on_is_told():
    with pytest.raises(Internal) as caught:
        encode(Cursor("connections/a", "t" * 5000), "s")
    assert caught.value.reason == "PAGE_TOKEN_TOO_LONG"
