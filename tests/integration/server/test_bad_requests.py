"""Every RPC of every service, given empty, wrong, oversized and hostile fields. The table is made from the
descriptors, so a new RPC or field is covered by itself."""

import importlib
import pkgutil
import re

import grpc
import hypersdk.api
import pytest
from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypersdk.api.buf.validate import validate_pb2

HOSTILE = [
    "../../etc/passwd", "jobs/../x", "a\x00b", "\u202eevil", "x" * 70_000, "$(reboot)", "\x1b[31m", "JOBS/X", "-", " ",
]  # fmt: skip
FREE = {
    ("prefix", None), ("etag", None), ("reason", None), ("page_token", "connections/x"),
    ("name", "connections/x/objects/x"),
}  # fmt: skip
"""Fields whose text is not the kernel's to judge, with the resource for which that holds (None: any): a prefix of
keys, an etag that just does not match, what an operator says, a plugin's own page token, an object's key."""
_ID = re.compile(r"\[a-z\]\(\[a-z0-9-\]\{0,61\}\[a-z0-9\]\)\?|\(-\|[^/]*\)|\[a-z0-9\]\([^/]*\)\?")


def _services():
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(hypersdk.api.__path__, "hypersdk.api.")
        if info.name.endswith("_pb2")
    ]
    for module in [*modules, operations_pb2]:
        yield from module.DESCRIPTOR.services_by_name.values()


METHODS = [
    pytest.param(method, id=method.full_name.removeprefix("hypersdk.api."))
    for service in _services()
    for method in service.methods
    if not (service.full_name == "google.longrunning.Operations" and method.name == "DeleteOperation")
]
"""DeleteOperation is UNIMPLEMENTED by design."""


def _call(channel, method, data: bytes, timeout: float = 20.0):
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.server_streaming:
        return next(iter(channel.unary_stream(path)(data, timeout=timeout)), None)
    return channel.unary_unary(path)(data, timeout=timeout)


def _judged(method):
    """The text fields that the kernel judges."""
    resource = _resource(_in_form(method))
    for field in method.input_type.fields:
        is_text = field.type == FieldDescriptor.TYPE_STRING
        if is_text and (field.name, None) not in FREE and (field.name, resource) not in FREE:
            yield field


def _resource(request):
    return getattr(request, "parent", "") or getattr(request, "name", "")


def _in_form(method):
    """A request whose resource names have the right form, so that another field is what is judged."""
    request = GetMessageClass(method.input_type)()
    for field in method.input_type.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        is_text = field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
        if is_text and rules.string.pattern and not rules.ignore:
            name = _ID.sub("x", rules.string.pattern).strip("^$")
            setattr(request, field.name, name.replace("[^\\x00]*", "x").replace(".+", "x"))
    return request


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_are_an_invalid_argument(daemon, refused, method):
    with daemon.unix() as channel:
        answer = refused(_call, channel, method, b"\xff\xff\xff\xff\x01")
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


@pytest.mark.parametrize("method", [m for m in METHODS if list(_judged(m.values[0]))])
def test_hostile_text_in_any_field_is_an_invalid_argument_naming_it(daemon, refused, method):
    with daemon.unix() as channel:
        for field in _judged(method):
            for text in HOSTILE:
                if (field.name, text) in {("parent", "-"), ("filter", " "), ("order_by", " ")}:
                    continue  # the wildcard; and no filter is a filter
                request = _in_form(method)
                if field.is_repeated:
                    getattr(request, field.name).append(text)
                else:
                    setattr(request, field.name, text)
                answer = refused(_call, channel, method, request.SerializeToString())
                case = (field.name, text[:20], answer)
                assert answer["code"] is grpc.StatusCode.INVALID_ARGUMENT, case
                assert any(name.split("[")[0] == field.name for name in answer["fields"]), case


@pytest.mark.parametrize("method", [m for m in METHODS if _resource(_in_form(m.values[0]))])
def test_an_empty_request_is_refused_naming_what_is_missing(daemon, refused, method):
    with daemon.unix() as channel:
        answer = refused(_call, channel, method, b"")
    assert answer["code"] is grpc.StatusCode.INVALID_ARGUMENT
    assert {"name", "parent"} & set(answer["fields"])


@pytest.mark.parametrize("method", [m for m in METHODS if "page_size" in m.values[0].input_type.fields_by_name])
def test_a_negative_page_size_is_refused(daemon, refused, method):
    request = _in_form(method)
    request.page_size = -1
    with daemon.unix() as channel:
        answer = refused(_call, channel, method, request.SerializeToString())
    assert answer["code"] is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_size" in answer["fields"]


@pytest.mark.parametrize("method", METHODS)
def test_a_message_above_the_limit_is_resource_exhausted(daemon, refused, method):
    with daemon.unix() as channel:
        answer = refused(_call, channel, method, b"\x00" * ((4 << 20) + 1))
    assert answer["code"] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", METHODS)
def test_tcp_without_the_token_is_refused_before_the_request_is_read(daemon, refused, method):
    with daemon.tcp(token="") as channel:
        answer = refused(_call, channel, method, b"\xff\xff")
    assert answer["code"] in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert answer["reason"] in {"TOKEN_MISSING", "AUTHENTICATION_THROTTLED"}


def test_text_that_is_not_utf_8_is_an_invalid_argument(daemon, refused):
    with daemon.unix() as channel:
        call = channel.unary_unary("/hypersdk.api.jobs.v1.JobService/GetJob")
        answer = refused(call, b"\n\x02\xff\xfe", timeout=10)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")
