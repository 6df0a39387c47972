"""From a proto message to a plugin and back."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from hosting_fakes import make_component, make_plugin
from hypersdk.api.formats.v1 import formats_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.api.pricing.v1 import pricing_pb2
from hypersdk.api.storage.v1 import storage_pb2
from hypersdk.errors import FailedPrecondition, HyperError, Internal, InvalidArgument, NotFound, Unavailable
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.hosting.routes import Target, api_routes
from hypersdk_kernel.model.connection import ResolvedConnection
from hypothesis import given, settings
from hypothesis import strategies as st

ROUTES = {route.method: route for route in api_routes()}
COMPONENTS = [
    make_component("provider/dir", plugin="dir"),
    make_component("storage/disk", plugin="disk"),
    make_component("format/vhd", plugin="vhd", aliases=("vpc",)),
    make_component("format/raw", plugin="raw"),
    make_component("pricing/dear", plugin="dear"),
    make_component("pricing/cheap", plugin="cheap"),
]
CONNECTIONS = {
    "connections/lab": "provider/dir", "connections/lab2": "provider/dir",
    "connections/away": "provider/dir", "connections/store": "storage/disk",
}  # fmt: skip


class Hosts:
    """A HostPool that answers what it is told to and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.answer = {}

    async def ask(self, component, service, method, request, connection, timeout_s, accept):
        return accept(component, await self.call(component, service, method, request, connection, timeout_s))

    async def call(self, component, service, method, request, connection, timeout_s):
        self.asked.append((component.name, service, method, request, connection, timeout_s))
        if connection is not None and connection.name == "connections/away":
            raise Unavailable("cannot reach it")
        return self.answer(component, request) if callable(self.answer) else self.answer


@pytest.fixture
def hosts():
    return Hosts()


@pytest.fixture
def router(hosts):
    async def resolve(name):
        if name not in CONNECTIONS:
            raise NotFound(f"no {name}", reason="CONNECTION_NOT_FOUND")
        return ResolvedConnection(name, CONNECTIONS[name], {}, {"password": "p"})

    async def names(kind):
        return [name for name, component in CONNECTIONS.items() if component.startswith(f"{kind}/")]

    return Router(Registry([make_plugin(c) for c in COMPONENTS]), hosts, resolve, names)


def test_routes_are_read_from_the_annotations_of_every_domain_service():
    assert {m: (r.kind, r.target, r.name_field, r.deeper, r.items_field) for m, r in ROUTES.items()} == {
        "GetMachine": ("provider", Target.CONNECTION, "name", True, ""),
        "ListMachines": ("provider", Target.CONNECTION, "parent", False, "machines"),
        "ListFormats": ("format", Target.ALL, "", False, "formats"),
        "GetFormat": ("format", Target.COMPONENT, "name", False, ""),
        "InspectImage": ("format", Target.COMPONENT, "name", False, ""),
        "ListObjects": ("storage", Target.CONNECTION, "parent", False, "objects"),
        "GetObject": ("storage", Target.CONNECTION, "name", True, ""),
        "DeleteObject": ("storage", Target.CONNECTION, "name", True, ""),
        "GetUsage": ("storage", Target.CONNECTION, "name", True, ""),
        "ListPriceTables": ("pricing", Target.ALL, "", False, "price_tables"),
        "GetPriceTable": ("pricing", Target.COMPONENT, "name", False, ""),
        "ListPrices": ("pricing", Target.COMPONENT, "parent", False, "prices"),
        "Estimate": ("pricing", Target.COMPONENT, "name", False, ""),
        "Compare": ("pricing", Target.ALL, "", False, "prices"),
    }
    assert ROUTES["Estimate"].collection == "prices"
    assert ROUTES["GetMachine"].path == "/hypersdk.api.inventory.v1.InventoryService/GetMachine"


async def test_a_named_resource_goes_to_the_component_of_its_connection(router, hosts):
    name = "connections/lab/machines/web"
    hosts.answer = {"name": name, "cpu_count": 4, "memory_bytes": str(1 << 40), "power_state": "POWER_STATE_ON"}
    machine = await router.call(ROUTES["GetMachine"], inventory_pb2.GetMachineRequest(name=name), 7.0)
    assert machine == inventory_pb2.Machine(name=name, cpu_count=4, memory_bytes=1 << 40, power_state=2)
    component, service, method, request, connection, timeout_s = hosts.asked[0]
    assert (component, service) == ("provider/dir", "hypersdk.api.inventory.v1.InventoryService")
    assert (method, request, timeout_s) == ("GetMachine", {"name": name}, 7.0)
    assert connection.secrets == {"password": "p"}


async def test_a_page_size_of_zero_is_the_default(router, hosts):
    await router.call(ROUTES["ListMachines"], inventory_pb2.ListMachinesRequest(parent="connections/lab"), 5)
    assert hosts.asked[0][3] == {"parent": "connections/lab", "page_size": 50}


async def test_a_component_is_called_by_its_own_name_when_an_alias_was_given(router, hosts):
    await router.call(ROUTES["GetFormat"], formats_pb2.GetFormatRequest(name="formats/vpc"), 5)
    assert hosts.asked[0][0] == "format/vhd"
    assert hosts.asked[0][3] == {"name": "formats/vhd"}
    assert hosts.asked[0][4] is None


async def test_an_answer_without_fields_is_an_empty_message(router, hosts):
    request = storage_pb2.DeleteObjectRequest(name="connections/store/objects/a/b")
    assert (await router.call(ROUTES["DeleteObject"], request, 5)).ByteSize() == 0


@pytest.mark.parametrize(
    ("method", "request_message", "error", "reason"),
    [
        ("GetMachine", inventory_pb2.GetMachineRequest(), InvalidArgument, "NAME_INVALID"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="formats/raw"), InvalidArgument, "NAME_INVALID"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="connections/A!/x"), InvalidArgument, "ID_INVALID"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="connections/../x"), InvalidArgument, "ID_INVALID"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="connections/-/x"), InvalidArgument,
         "WILDCARD_UNSUPPORTED"),
        ("GetFormat", formats_pb2.GetFormatRequest(name="formats/-"), InvalidArgument, "WILDCARD_UNSUPPORTED"),
        ("GetFormat", formats_pb2.GetFormatRequest(name="formats/raw/x"), InvalidArgument, "NAME_INVALID"),
        ("GetFormat", formats_pb2.GetFormatRequest(name="formats/qed"), NotFound, "COMPONENT_UNKNOWN"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="connections/no/x"), NotFound, "CONNECTION_NOT_FOUND"),
        ("GetMachine", inventory_pb2.GetMachineRequest(name="connections/store/x"), FailedPrecondition,
         "CONNECTION_KIND_MISMATCH"),
        ("ListMachines", inventory_pb2.ListMachinesRequest(parent="connections/-", page_token="x"), InvalidArgument,
         "PAGE_TOKEN_INVALID"),
    ],
)  # fmt: skip
async def test_a_request_that_leads_nowhere_is_refused(router, hosts, method, request_message, error, reason):
    with pytest.raises(error) as caught:
        await router.call(ROUTES[method], request_message, 5)
    assert caught.value.reason == reason
    assert hosts.asked == []


@pytest.mark.parametrize(
    "answer",
    [{"cpu_count": "many"}, {"no_such_field": 1}, {"disks": {"a": 1}}, {"power_state": "SIDEWAYS"}, {"labels": [1]},
     {"memory_bytes": 1 << 70}],
)  # fmt: skip
async def test_an_answer_that_is_not_the_response_message_is_the_plugins_defect(router, hosts, answer):
    hosts.answer = answer
    request = inventory_pb2.GetMachineRequest(name="connections/lab/machines/web")
    with pytest.raises(Internal, match="provider/dir") as caught:
        await router.call(ROUTES["GetMachine"], request, 5)
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([f.name for f in inventory_pb2.Machine.DESCRIPTOR.fields]), JSON, max_size=5))
async def test_whatever_a_plugin_answers_is_a_message_or_a_typed_error(answer):
    hosts = Hosts()
    hosts.answer = answer

    async def resolve(name):
        return ResolvedConnection(name, "provider/dir", {})

    router = Router(Registry([make_plugin(COMPONENTS[0])]), hosts, resolve, lambda kind: None)
    request = inventory_pb2.GetMachineRequest(name="connections/lab/machines/web")
    try:
        assert isinstance(await router.call(ROUTES["GetMachine"], request, 5), inventory_pb2.Machine)
    except HyperError as exc:
        assert exc.reason == "PLUGIN_RESULT_INVALID"


async def test_a_wildcard_asks_every_connection_of_the_kind_and_names_the_unreachable(router, hosts):
    def answer(component, request):
        assert request["parent"] in {"connections/lab", "connections/lab2"}
        rows = [{"name": f"{request['parent']}/machines/m{i}"} for i in range(3)]
        start = int(request["page_token"] or 0)
        end = start + request["page_size"]
        return {"machines": rows[start:end], "next_page_token": str(end) if end < 3 else ""}

    hosts.answer = answer
    request = inventory_pb2.ListMachinesRequest(parent="connections/-", page_size=2)
    names, unreachable = [], []
    while True:
        page = await router.call(ROUTES["ListMachines"], request, 5)
        names += [m.name for m in page.machines]
        unreachable += page.unreachable
        assert len(page.machines) <= 2
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [f"connections/{c}/machines/m{i}" for c in ("lab", "lab2") for i in range(3)]
    assert unreachable == ["connections/away"]


async def test_a_page_token_is_bound_to_the_rest_of_its_request(router, hosts):
    hosts.answer = {"objects": [{"key": "a"}], "next_page_token": "1"}
    request = storage_pb2.ListObjectsRequest(parent="connections/-", page_size=1, prefix="a")
    request.page_token = (await router.call(ROUTES["ListObjects"], request, 5)).next_page_token
    request.page_size = 7
    await router.call(ROUTES["ListObjects"], request, 0.2)
    request.prefix = "b"
    with pytest.raises(InvalidArgument) as caught:
        await router.call(ROUTES["ListObjects"], request, 5)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_list_without_a_parent_asks_every_component_of_the_kind(router, hosts):
    hosts.answer = lambda component, request: {"formats": [{"name": f"formats/{component.manifest.id}"}]}
    page = await router.call(ROUTES["ListFormats"], formats_pb2.ListFormatsRequest(), 5)
    assert [f.name for f in page.formats] == ["formats/raw", "formats/vhd"]
    assert {a[3]["page_size"] for a in hosts.asked} == {50}


async def test_the_wildcard_asks_every_component_by_its_own_name_when_the_answer_is_a_list(router, hosts):
    hosts.answer = lambda component, request: {"prices": [{"table": request["parent"]}]}
    page = await router.call(ROUTES["ListPrices"], pricing_pb2.ListPricesRequest(parent="prices/-"), 5)
    assert [price.table for price in page.prices] == ["prices/cheap", "prices/dear"]


def test_a_service_without_our_annotation_is_not_routed_and_a_wrong_one_is_refused():
    from google.api import routing_pb2
    from hypersdk.api.routing.v1 import routing_pb2 as ours
    from hypersdk_kernel.hosting.routes import routes_of

    def build(kind, template):
        file = FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
        file.message_type.add(name="M").field.add(name="name", number=1, type=9, label=1)
        service = file.service.add(name="S")
        method = service.method.add(name="Do", input_type=".t.M", output_type=".t.M")
        if kind:
            service.options.Extensions[ours.kind] = kind
        if template:
            rule = method.options.Extensions[routing_pb2.routing]
            rule.routing_parameters.add(field="name", path_template=template)
        pool = DescriptorPool()
        pool.Add(file)
        return [pool.FindFileByName("t.proto")]

    assert routes_of(build("", "{x=formats/*}")) == []
    assert routes_of(build("format", "{x=formats/*}"))[0].target is Target.COMPONENT
    for template in ("{x=jobs/*}", "{x=formats/**}", "formats", ""):
        with pytest.raises(Internal) as caught:
            routes_of(build("format", template))
        assert caught.value.reason == "ROUTING_ANNOTATION_INVALID"
