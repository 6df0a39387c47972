"""Secrets are taken out of texts and JSON values."""

from hypersdk.wire.redact import MASK, Redactor
from hypothesis import given, settings
from hypothesis import strategies as st


def test_a_secret_is_replaced_wherever_it_stands():
    redactor = Redactor(["hunter2!"])
    assert redactor.text("a hunter2! b hunter2!hunter2!") == f"a {MASK} b {MASK}{MASK}"
    assert redactor.value({"hunter2!": ["x", {"y": "=hunter2!"}, 7, None, True]}) == {
        MASK: ["x", {"y": f"={MASK}"}, 7, None, True]
    }


def test_values_shorter_than_four_characters_are_left_alone():
    assert Redactor(["abc", ""]).text("abc") == "abc"


def test_a_secret_that_contains_another_is_replaced_whole():
    redactor = Redactor(["pass"])
    redactor.add(["password1"])
    assert redactor.text("password1 pass") == f"{MASK} {MASK}"


@settings(max_examples=100)
@given(st.lists(st.text(alphabet="xyz", min_size=4, max_size=8), max_size=4), st.text(alphabet="xyz ", max_size=60))
def test_no_secret_is_left_in_any_text(secrets, text):
    redacted = Redactor(secrets).text(text)
    assert not any(secret in redacted for secret in secrets)
