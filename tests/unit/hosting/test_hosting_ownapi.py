"""Descriptor sets of plugins: what they may say, and that nothing in them reaches ours."""

import json
from dataclasses import replace

import pytest
from google.api import routing_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hosting_fakes import make_component, make_plugin
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.manifest import MAX_DESCRIPTOR_BYTES, ComponentManifest, Manifest
from hypersdk_kernel.hosting.ownapi import judge, services_of
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.hosting.routes import Target
from hypersdk_kernel.model.connection import ResolvedConnection
from hypothesis import given
from hypothesis import strategies as st

COMPONENT = ComponentManifest("service", "notes")
TEXT, INT = 9, 5


def file(name="notes.proto", package="example.notes.v1", *, imports=(), template="", streams=False, field="name"):
    made = FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=list(imports))
    made.message_type.add(name="Note").field.add(name=field, number=1, type=TEXT, label=1)
    method = made.service.add(name="NoteService").method.add(
        name="AddNote", input_type=f".{package}.Note", output_type=f".{package}.Note", server_streaming=streams
    )
    if template:
        rule = method.options.Extensions[routing_pb2.routing]
        rule.routing_parameters.add(field="name", path_template=template)
    return made


def serialized(*files):
    return FileDescriptorSet(file=files).SerializeToString()


def test_a_service_is_its_components_own_unless_it_names_a_connection():
    own = judge(COMPONENT, serialized(file()))
    assert own.methods == ("example.notes.v1.NoteService.AddNote",)
    assert own.names == {"file:notes.proto", "package:example.notes.v1"}
    _, route = services_of("service/notes", own.data).methods["/example.notes.v1.NoteService/AddNote"]
    assert (route.target, route.component) == (Target.ITSELF, "service/notes")
    routed = judge(COMPONENT, serialized(file(template="{connection=connections/*}/**")))
    _, route = services_of("service/notes", routed.data).methods["/example.notes.v1.NoteService/AddNote"]
    assert (route.target, route.name_field, route.deeper) == (Target.CONNECTION, "name", True)


def test_nothing_comes_into_our_own_pool_and_two_builds_live_side_by_side():
    one, two = (services_of("service/notes", serialized(file(field=name))) for name in ("name", "title"))
    path = "/example.notes.v1.NoteService/AddNote"
    assert one.methods[path][1].request_class(name="x")
    assert two.methods[path][1].request_class(title="x")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindServiceByName("example.notes.v1.NoteService")


def test_what_we_have_too_is_ours_whatever_the_plugin_ships():
    fake = FileDescriptorProto(name="google/protobuf/empty.proto", package="google.protobuf", syntax="proto3")
    fake.message_type.add(name="Empty").field.add(name="trap", number=1, type=TEXT, label=1)
    user = file(imports=["google/protobuf/empty.proto"])
    user.service[0].method[0].output_type = ".google.protobuf.Empty"
    own = services_of("service/notes", serialized(user, fake))
    method, _ = own.methods["/example.notes.v1.NoteService/AddNote"]
    assert not method.output_type.fields


def deep(count):
    files = [file()]
    files[0].dependency.append("0.proto")
    for number in range(count):
        one = FileDescriptorProto(name=f"{number}.proto", package="example.notes.v1", syntax="proto3")
        if number + 1 < count:
            one.dependency.append(f"{number + 1}.proto")
        files.append(one)
    return files


def wrong_sets():
    empty = FileDescriptorProto(name="a.proto", package="example.a", syntax="proto3")
    unresolved = file()
    unresolved.service[0].method[0].input_type = ".example.notes.v1.Nothing"
    back = FileDescriptorProto(name="b.proto", package="x", dependency=["a.proto"])
    looped = [file("a.proto", imports=["b.proto"]), back]
    return {
        "nothing": b"",
        "noise": b"\xff" * 50,
        "too large": b"\0" * (MAX_DESCRIPTOR_BYTES + 1),
        "no service": serialized(empty),
        "streams": serialized(file(streams=True)),
        "ours": serialized(file(package="hypersdk.api.jobs.v1")),
        "google's": serialized(file(package="google.rpc")),
        "no package": serialized(file(package="")),
        "a missing import": serialized(file(imports=["other.proto"])),
        "an import that nobody has": serialized(file(imports=["google/api/nothing.proto"])),
        "a circle": serialized(*looped),
        "an unresolved type": serialized(unresolved),
        "too many files": serialized(*deep(250)),
        "another collection": serialized(file(template="{note=notes/*}")),
        "no such field": serialized(file(template="{connection=connections/*}", field="title")),
        "twice the same type": serialized(file(), file("again.proto")),
    }


@pytest.mark.parametrize("case", wrong_sets())
def test_a_wrong_set_is_refused(case):
    with pytest.raises(FailedPrecondition) as refused:
        judge(COMPONENT, wrong_sets()[case])
    assert refused.value.reason == "DESCRIPTOR_SET_INVALID"
    assert "service/notes" in refused.value.message


def test_many_files_that_import_each_other_in_a_row_are_no_problem():
    assert judge(COMPONENT, serialized(*deep(150))).methods


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_damage_of_a_set_is_more_than_a_refusal(noise, where):
    whole = serialized(file())
    try:
        judge(COMPONENT, whole[:where] + noise + whole[where + len(noise) :])
    except FailedPrecondition as refused:
        assert refused.reason == "DESCRIPTOR_SET_INVALID"


def with_own(component, data):
    manifest = replace(component.manifest, own=judge(component.manifest, data))
    whole = replace(component.generation.manifest, components={component.name: manifest})
    return make_plugin(replace(component, manifest=manifest, generation=replace(component.generation, manifest=whole)))


def test_a_package_is_one_plugins_at_a_start_and_later():
    first = with_own(make_component("service/a", plugin="a"), serialized(file()))
    second = with_own(make_component("service/b", plugin="b"), serialized(file("other.proto")))
    registry = Registry([first])
    with pytest.raises(FailedPrecondition) as refused:
        registry.put(second)
    assert refused.value.reason == "COMPONENT_CONFLICT"
    assert "package example.notes.v1" in refused.value.message
    started = Registry([first, second])
    assert started.plugin("b").generations[0].failure_reason == "COMPONENT_CONFLICT"
    assert [c.name for c in started.components("service")] == ["service/a"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/b", ".hidden", 7, ["x"], "x" * 300])
def test_a_manifest_names_a_file_beside_it(name):
    components = {"service/x": {"descriptor_set": name}}
    text = {"manifest_version": 1, "name": "x", "api_version": "1.1", "components": components}
    with pytest.raises(InvalidArgument, match="descriptor_set"):
        Manifest.parse(json.dumps(text))


class Hosts:
    def __init__(self):
        self.asked = []

    async def ask(self, component, service, method, request, connection, timeout_s, accept):
        self.asked.append((component.name, service, method, request, connection and connection.name))
        return accept(component, dict(request))


@pytest.fixture
def routed():
    component = make_component("service/notes")
    hosts = Hosts()

    async def resolve(name):
        return ResolvedConnection(name, "service/notes" if name == "connections/mine" else "service/other", {})

    async def names(_kind):
        return []

    return Router(Registry([make_plugin(component)]), hosts, resolve, names), component, hosts


def own_route(template):
    own = services_of("service/notes", serialized(file(template=template)))
    return own.methods["/example.notes.v1.NoteService/AddNote"][1]


async def test_a_call_goes_to_the_component_itself(routed):
    router, component, hosts = routed
    route = own_route("")
    answer = await router.call_own(route, component, route.request_class(name="x"), 5)
    assert answer.name == "x"
    assert hosts.asked == [("service/notes", "example.notes.v1.NoteService", "AddNote", {"name": "x"}, None)]


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("connections/theirs", FailedPrecondition, "CONNECTION_KIND_MISMATCH"),
        ("notes/x", InvalidArgument, "NAME_INVALID"),
        ("connections/-", InvalidArgument, "ID_INVALID"),
        ("connections/mine/x", InvalidArgument, "NAME_INVALID"),
    ],
)
async def test_a_routed_call_needs_a_connection_of_the_component(routed, name, error, reason):
    router, component, hosts = routed
    route = own_route("{connection=connections/*}")
    await router.call_own(route, component, route.request_class(name="connections/mine"), 5)
    assert hosts.asked[-1][4] == "connections/mine"
    with pytest.raises(error) as refused:
        await router.call_own(route, component, route.request_class(name=name), 5)
    assert refused.value.reason == reason
