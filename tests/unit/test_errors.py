"""The error tree crosses process borders as JSON; what arrives may come from a plugin and is not trusted."""

import errno

import pytest
from hypersdk import errors
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("cls", errors.KINDS.values(), ids=lambda c: c.kind)
def test_every_error_survives_the_wire(cls):
    sent = cls("it failed", reason="SOME_REASON", metadata={"a": "b"}, retryable=True, retry_after_s=2.5)
    got = errors.from_json(sent.to_json())
    assert type(got) is cls
    assert (got.message, got.reason, got.metadata, got.retryable, got.retry_after_s) == (
        "it failed", "SOME_REASON", {"a": "b"}, True, 2.5,
    )  # fmt: skip


def test_field_violations_survive_the_wire():
    sent = errors.InvalidArgument("wrong", violations=(errors.FieldViolation("spec.format", "is unknown"),))
    got = errors.from_json(sent.to_json())
    assert isinstance(got, errors.InvalidArgument)
    assert got.violations == sent.violations


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda c: st.lists(c, max_size=3))


@given(st.dictionaries(st.sampled_from(["kind", "reason", "message", "metadata", "retryable", "retry_after_s",
                                        "violations"]), _JSON))  # fmt: skip
def test_no_json_object_breaks_from_json(data):
    assert isinstance(errors.from_json(data), errors.HyperError)


def test_a_full_disk_is_a_retryable_error_with_a_reason_of_its_own():
    error = errors.from_exception(OSError(errno.ENOSPC, "No space left on device", "/x"))
    assert isinstance(error, errors.ResourceExhausted)
    assert error.reason == "DISK_FULL"
    assert error.retryable


def test_all_names_exactly_the_public_ones():
    public = {n for n, v in vars(errors).items() if isinstance(v, type) and v.__module__ == errors.__name__}
    assert set(errors.__all__) == public | {"KINDS", "from_exception", "from_json"}
