"""The kernel's side and the Python host, with the plugins that are installed here."""

import pytest
from hypersdk.api.formats.v1 import formats_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.errors import HyperError
from hypersdk_kernel.hosting.discovery import discover
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.model.connection import ResolvedConnection


@pytest.fixture
def images(tmp_path):
    (tmp_path / "web.img").write_bytes(bytes(1 << 20))
    return tmp_path


@pytest.fixture
async def router(images):
    folders = {"connections/here": str(images), "connections/gone": str(images / "no-such-folder")}

    async def resolve(name):
        return ResolvedConnection(name, "provider/directory", {"path": folders[name]})

    async def connections(kind):
        return sorted(folders)

    clock = SystemClock()
    registry = Registry(discover(clock.now()))
    hosts = HostPool(clock, registry.redact)
    yield Router(registry, hosts, resolve, connections)
    await hosts.close(2)


@pytest.fixture
def routes(router):
    return {route.method: route for route in router.routes()}


async def test_every_installed_format_is_listed_by_its_own_host(router, routes):
    page = await router.call(routes["ListFormats"], formats_pb2.ListFormatsRequest(), 30)
    assert {"formats/raw", "formats/qcow2", "formats/vmdk"} <= {f.name for f in page.formats}
    assert list(page.unreachable) == []


async def test_an_image_is_inspected_by_the_format_that_an_alias_names(router, routes, images):
    request = formats_pb2.InspectImageRequest(name="formats/img", path=str(images / "web.img"))
    image = await router.call(routes["InspectImage"], request, 30)
    assert (image.format, image.virtual_size_bytes) == ("raw", 1 << 20)


async def test_machines_of_all_connections_are_merged_and_the_unreachable_named(router, routes):
    request = inventory_pb2.ListMachinesRequest(parent="connections/-")
    page = await router.call(routes["ListMachines"], request, 30)
    assert [m.name for m in page.machines] == ["connections/here/machines/web-img"]
    assert list(page.unreachable) == ["connections/gone"]
    machine = await router.call(
        routes["GetMachine"], inventory_pb2.GetMachineRequest(name=page.machines[0].name), 30
    )
    assert machine.display_name == "web"


async def test_an_error_of_a_plugin_arrives_with_its_reason(router, routes):
    request = inventory_pb2.GetMachineRequest(name="connections/here/machines/nobody")
    with pytest.raises(HyperError) as caught:
        await router.call(routes["GetMachine"], request, 30)
    assert (caught.value.kind, caught.value.reason) == ("NotFound", "MACHINE_NOT_FOUND")
