"""The adapters: contracts on one side, proto3 JSON of the services on the other, judged by the generated messages."""

import os

import pytest
from google.protobuf.json_format import ParseDict
from hypersdk.api.formats.v1 import formats_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.api.storage.v1 import storage_pb2
from hypersdk.data.source import BlockSource
from hypersdk.errors import Internal, InvalidArgument, MalformedImage, Unsupported
from hypersdk.host import image_format, provider, storage, task
from hypersdk.host.request import Call
from hypersdk.plugin import (
    Health,
    ImageFormat,
    Machine,
    MachineDisk,
    Nic,
    ObjectInfo,
    Page,
    Provider,
    Storage,
    Task,
)

LAB = "connections/lab"
WEB = Machine(
    "web-1", "Web \udcff 1", "vm-17", [MachineDisk("disk-0", "Disk", 5 << 40, "qcow2", "/x/y.qcow2", -1, "scsi")],
    [Nic("nic-0", "52:54:00:00:00:01", "lan", "virtio")], "on", 4, 8 << 30, "efi", "debian", {"a": "b"}, {"k": "v"},
)  # fmt: skip


class OneMachine(Provider):
    def __init__(self, machine=WEB):
        self.found = machine
        self.asked = None

    def configure(self, config, secrets): ...
    def health(self):
        return Health(False, "no route; check the address", 0.25, {"host": "x"})

    def machines(self, page_size, page_token):
        self.asked = (page_size, page_token)
        return Page([self.found], "next")

    def machine(self, machine_id):
        self.asked = machine_id
        return self.found

    def open_source(self, machine_id, disk_id, context): ...


def call(methods, method, instance, message=None, **parts):
    return methods[method](instance, Call("kind/x", parts.get("manifest", {}), LAB, message or {}))


def test_a_machine_becomes_the_services_message():
    answer = call(provider.METHODS, "GetMachine", OneMachine(), {"name": f"{LAB}/machines/web-1"})
    message = ParseDict(answer, inventory_pb2.Machine())
    assert message.name == f"{LAB}/machines/web-1"
    assert message.display_name == "Web ? 1"
    assert message.power_state == inventory_pb2.POWER_STATE_ON
    assert message.firmware == inventory_pb2.FIRMWARE_EFI
    assert message.disks[0].name == f"{LAB}/machines/web-1/disks/disk-0"
    assert message.disks[0].size_bytes == 5 << 40
    assert message.disks[0].allocated_bytes == -1
    assert message.nics[0].mac_address == "52:54:00:00:00:01"
    assert dict(message.labels) == {"a": "b"}


@pytest.mark.parametrize(("asked", "given"), [(None, 50), (0, 50), ("7", 7), (5000, 1000)])
def test_a_page_of_machines_has_a_size_within_bounds(asked, given):
    one = OneMachine()
    answer = call(provider.METHODS, "ListMachines", one, {"page_size": asked, "page_token": "t"})
    assert one.asked == (given, "t")
    assert ParseDict(answer, inventory_pb2.ListMachinesResponse()).next_page_token == "next"


def test_health_is_told():
    answer = call(provider.METHODS, "Health", OneMachine())
    assert answer == {
        "ok": False, "message": "no route; check the address", "latency_s": 0.25, "details": {"host": "x"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "field"),
    [
        (None, "machine"),
        ({"id": "web-1"}, "machine"),
        (Machine("Web_1", "", ""), "machine.id"),
        (Machine("../etc", "", ""), "machine.id"),
        (Machine("a", 7, ""), "machine.display_name"),
        (Machine("a", "", "", cpu_count=1 << 31), "machine.cpu_count"),
        (Machine("a", "", "", memory_bytes=1.5), "machine.memory_bytes"),
        (Machine("a", "", "", disks=["d"]), "machine.disks"),
        (Machine("a", "", "", disks=[MachineDisk("d", "", 1 << 63)]), "disk.size_bytes"),
        (Machine("a", "", "", labels={"k": 1}), "machine.labels['k']"),
    ],
)
def test_a_wrong_result_names_the_field_that_is_wrong(machine, field):
    with pytest.raises(Internal) as caught:
        call(provider.METHODS, "GetMachine", OneMachine(machine), {"name": f"{LAB}/machines/a"})
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"
    assert caught.value.metadata == {"field": field}


@pytest.mark.parametrize("name", ["", LAB, f"{LAB}/machines/", "connections/other/machines/a", 7])
def test_a_name_that_is_not_of_the_connection_is_refused(name):
    with pytest.raises(InvalidArgument) as caught:
        call(provider.METHODS, "GetMachine", OneMachine(), {"name": name})
    assert caught.value.violations[0].field == "name"


@pytest.mark.parametrize("size", [-1, "many", []])
def test_a_page_size_that_is_none_is_refused(size):
    with pytest.raises(InvalidArgument):
        call(provider.METHODS, "ListMachines", OneMachine(), {"page_size": size or {"a": 1}})


class Shelf(Storage):
    def __init__(self, **objects):
        self.objects = objects
        self.deleted = []

    def configure(self, config, secrets): ...
    def health(self):
        return Health(True)

    def open_writer(self, key, *, if_absent=False, resume=""): ...
    def read_range(self, key, offset, length): ...
    def stat(self, key):
        return ObjectInfo(key, 10, 1_700_000_000.25, "e1", {"a": "b"})

    def list(self, prefix, page_size, page_token):
        return Page([self.stat(prefix + "k")])

    def delete(self, key):
        self.deleted.append(key)

    def usage(self):
        return {"used_bytes": 1, "free_bytes": -1}


def test_an_object_becomes_the_services_message():
    answer = call(storage.METHODS, "GetObject", Shelf(), {"name": f"{LAB}/objects/exports/a/disk.raw"})
    message = ParseDict(answer, storage_pb2.Object())
    assert message.key == "exports/a/disk.raw"
    assert message.name == f"{LAB}/objects/exports/a/disk.raw"
    assert message.update_time.ToJsonString() == "2023-11-14T22:13:20.250Z"
    listed = call(storage.METHODS, "ListObjects", Shelf(), {"prefix": "ex/"})
    assert ParseDict(listed, storage_pb2.ListObjectsResponse()).objects[0].key == "ex/k"


def test_usage_that_is_not_told_is_minus_one():
    answer = call(storage.METHODS, "GetUsage", Shelf(), {"name": f"{LAB}/usage"})
    message = ParseDict(answer, storage_pb2.Usage())
    assert (message.used_bytes, message.free_bytes, message.object_count) == (1, -1, -1)


def test_deleting_is_only_checked_with_validate_only():
    shelf = Shelf()
    name = f"{LAB}/objects/a/b"
    assert call(storage.METHODS, "DeleteObject", shelf, {"name": name, "validate_only": True}) == {}
    assert shelf.deleted == []
    assert call(storage.METHODS, "DeleteObject", shelf, {"name": name}) == {}
    assert shelf.deleted == ["a/b"]


@pytest.mark.parametrize("key", ["../x", "a//b", "a/../b", "a\\b", "a\x00b"])
def test_a_hostile_key_never_reaches_the_plugin(key):
    shelf = Shelf()
    with pytest.raises(InvalidArgument) as caught:
        call(storage.METHODS, "DeleteObject", shelf, {"name": f"{LAB}/objects/{key}"})
    assert caught.value.reason == "OBJECT_KEY_INVALID"
    assert shelf.deleted == []


@pytest.mark.parametrize("when", [float("nan"), -1, 1e18, "now"])
def test_a_time_that_is_none_is_a_wrong_result(when):
    shelf = Shelf()
    shelf.stat = lambda key: ObjectInfo(key, 1, when)
    with pytest.raises(Internal):
        call(storage.METHODS, "GetObject", shelf, {"name": f"{LAB}/objects/a"})


class FlatSource(BlockSource):
    def __init__(self, file):
        self.file = file

    @property
    def size(self):
        return self.file.size

    def extents(self, offset=0, length=None): ...
    def readinto(self, offset, buffer): ...
    def info(self):
        return {"format": "flat", "virtual_size": self.size, "details": {"a": [1, None]}}

    def close(self):
        self.file.close()


class Flat(ImageFormat):
    name = "flat"

    def probe(self, head, tail, size):
        return 1

    def open(self, file, options=None):
        if file.size == 0:
            raise MalformedImage("empty", structure="header", offset=0)
        return FlatSource(file)

    def create(self, file, size, options=None, resume=None): ...
    def create_options(self):
        return {"cluster_size": "bytes"}


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_an_image_is_inspected_and_its_file_closed(tmp_path):
    path = tmp_path / "a.flat"
    path.write_bytes(bytes(1000))
    before = open_descriptors()
    answer = call(image_format.METHODS, "InspectImage", Flat(), {"name": "formats/flat", "path": str(path)})
    message = ParseDict(answer, formats_pb2.InspectImageResponse())
    assert (message.format, message.virtual_size_bytes, message.file_size_bytes) == ("flat", 1000, 1000)
    assert message.details["details"]["a"][0] == 1
    path.write_bytes(b"")
    with pytest.raises(MalformedImage):
        call(image_format.METHODS, "InspectImage", Flat(), {"path": str(path)})
    assert open_descriptors() == before


def test_a_format_is_described_by_its_manifest_and_its_options():
    manifest = {"summary": "Flat", "aliases": ["f"], "extensions": [".flat"], "capabilities": ["write", "read"]}
    answer = call(image_format.METHODS, "ListFormats", Flat(), manifest=manifest)
    found = ParseDict(answer, formats_pb2.ListFormatsResponse()).formats[0]
    assert (found.display_name, list(found.aliases), list(found.capabilities)) == ("Flat", ["f"], ["read", "write"])
    assert dict(found.create_options) == {"cluster_size": "bytes"}


class Planned(Task):
    def run(self, context):
        return {}

    def plan(self, spec):
        if not spec:
            raise Unsupported("nothing to do")
        return {"steps": (1, 2), "spec": spec}


def test_a_plan_is_json():
    assert call(task.METHODS, "Plan", Planned(), {"spec": {"a": 1}}) == {"steps": [1, 2], "spec": {"a": 1}}
    with pytest.raises(Unsupported):
        call(task.METHODS, "Plan", Planned(), {})
    with pytest.raises(InvalidArgument):
        call(task.METHODS, "Plan", Planned(), {"spec": 7})


def test_formats_and_tasks_are_healthy_when_they_could_be_made():
    assert call(image_format.METHODS, "Health", Flat())["ok"] is True
    assert call(task.METHODS, "Health", Planned())["ok"] is True
