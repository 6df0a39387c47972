"""Values between proto and model, page tokens, and the status of an error."""

import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from hypersdk.errors import KINDS, FieldViolation, InvalidArgument, NotFound, Unavailable
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.status import MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, clip, status_of
from hypersdk_kernel.services.values import dict_of, duration, seconds_of, struct, timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
@settings(max_examples=150)
def test_a_json_object_comes_back_as_it_went(data):
    wire = struct(data).SerializeToString()
    assert dict_of(Struct.FromString(wire), "spec") == data


def test_whole_numbers_stay_whole():
    out = dict_of(struct({"a": 5, "b": 5.5, "c": 2.0**60}), "spec")
    assert {key: type(value) for key, value in out.items()} == {"a": int, "b": float, "c": float}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_by_place(number):
    request = Struct()
    request.fields["a"].list_value.values.add().number_value = 1
    request.fields["a"].list_value.values.add().struct_value.fields["b"].number_value = number
    with pytest.raises(InvalidArgument) as caught:
        dict_of(request, "job.spec")
    assert caught.value.violations[0].field == "job.spec.a[1].b"


def test_a_value_that_is_none_is_refused():
    request = Struct()
    request.fields["a"].SetInParent()
    with pytest.raises(InvalidArgument, match=r"spec\.a has no value"):
        dict_of(request, "spec")


@given(st.floats(0, 4e9))
def test_times_and_lengths_keep_their_microseconds(seconds):
    assert timestamp(seconds).seconds + timestamp(seconds).nanos / 1e9 == pytest.approx(seconds, abs=1e-6)
    assert seconds_of(duration(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_a_page_token_carries_its_key_and_only_for_the_same_question():
    token = pages.token((1.5, "job-x"), "jobs", "state = failed", "create_time desc")
    assert pages.key_of(token, (float, str), "jobs", "state = failed", "create_time desc") == (1.5, "job-x")
    with pytest.raises(InvalidArgument) as caught:
        pages.key_of(token, (float, str), "jobs", "", "create_time desc")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@given(st.text(max_size=80))
@settings(max_examples=150)
def test_no_text_passes_for_a_page_token(text):
    if text:
        with pytest.raises(InvalidArgument):
            pages.key_of(text, (int,), "events")


def test_a_page_is_cut_and_the_last_one_has_no_token():
    assert pages.cut([1, 2, 3], 2, str) == ([1, 2], "2")
    assert pages.cut([1, 2], 2, str) == ([1, 2], "")
    assert [pages.page_size(n) for n in (0, 7, 5000)] == [50, 7, 1000]


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_class_has_a_code_and_its_reason_travels(kind):
    status = status_of(kind("it failed"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.code != 0
    assert (info.reason, info.domain) == (kind.default_reason, "hypersdk.dev")


def test_violations_and_waits_travel():
    error = InvalidArgument("wrong", violations=(FieldViolation('job.labels["a"]', "too long"),), retry_after_s=1.5)
    found = {detail.TypeName(): detail for detail in status_of(error).details}
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    found["google.rpc.BadRequest"].Unpack(bad)
    found["google.rpc.RetryInfo"].Unpack(retry)
    assert bad.field_violations[0].field == 'job.labels["a"]'
    assert seconds_of(retry.retry_delay) == 1.5


@given(st.text(max_size=3000), st.lists(st.tuples(st.text(max_size=400), st.text(max_size=400)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_status_always_fits_into_a_trailer(message, violations):
    error = InvalidArgument(
        message * 3, violations=tuple(FieldViolation(*v) for v in violations), metadata=dict(violations)
    )
    status = status_of(error)
    assert len(status.message.encode()) <= MAX_MESSAGE_BYTES
    assert status.ByteSize() <= MAX_DETAILS_BYTES + 64
    assert status.details[0].TypeName() == "google.rpc.ErrorInfo"


def test_text_is_clipped_between_characters():
    assert clip("ü" * 10, 11) == "üüüü…"
    assert clip("a\ud800", 10) == "a?"
    assert status_of(NotFound("x" * 5000)).message.endswith("…")
    assert status_of(Unavailable("short")).message == "short"
