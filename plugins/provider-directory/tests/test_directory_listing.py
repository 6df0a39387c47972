"""Which files are machines, what they are called, and how fast ten thousand of them are listed."""

import json
import os
import time
from dataclasses import asdict

import pytest
from hypersdk.data.ovf.names import printable
from hypersdk.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from hypersdk.testing import LocalTaskContext
from hypersdk_provider_directory import DirectoryProvider
from hypersdk_provider_directory.names import ID, resource_id
from hypothesis import given, settings
from hypothesis import strategies as st

OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f1" ovf:href="appliance-disk1.vmdk"/></References>
  <DiskSection><Disk ovf:diskId="vmdisk1" ovf:fileRef="f1" ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^30"/>
  </DiskSection>
  <VirtualSystem ovf:id="appliance"/>
</Envelope>"""


def provider_of(path):
    provider = DirectoryProvider()
    provider.configure({"path": str(path)}, {})
    return provider


def ids(provider):
    return [machine.id for machine in provider.machines(1000, "").items]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("web01.qcow2", "web01-qcow2"), ("a.raw", "a-raw"), ("web-01.vmdk", "web-01-vmdk")],
)
def test_a_simple_name_is_its_own_id(tmp_path, name, wanted):
    (tmp_path / name).touch()
    assert ids(provider_of(tmp_path)) == [wanted]


def test_ids_stay_whatever_other_files_come(tmp_path):
    (tmp_path / "Web 01.vmdk").touch()
    before = ids(provider_of(tmp_path))
    for name in ("web-01.vmdk", "Web-01.vmdk", "web 01.vmdk", "Web 01.VMDK", "Web 01.qcow2"):
        (tmp_path / name).touch()
    after = ids(provider_of(tmp_path))
    assert set(before) < set(after)
    assert len(set(after)) == 6


@given(st.sets(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b and b"/" not in b), max_size=20))
@settings(max_examples=100, deadline=None)
def test_ids_are_resource_ids_and_never_shared(raw_names):
    names = {os.fsdecode(raw + b".vmdk") for raw in raw_names}
    made = {resource_id(name, "vmdk") for name in names}
    assert len(made) == len(names)
    assert all(ID.match(one) for one in made)
    assert len({printable(name) for name in names}) == len(names)
    json.dumps([printable(name) for name in names], ensure_ascii=False).encode("utf-8")


def test_hostile_names_are_listed_readably(tmp_path):
    for raw in (
        b"new\nline.img",
        b"rtl\xe2\x80\xaegnp.img",
        b"bytes\xff.img",
        b"back\\slash.img",
        b"\xf0\x9f\x92\xbe.img",
    ):
        with open(os.path.join(os.fsencode(tmp_path), raw), "wb"):
            pass
    machines = provider_of(tmp_path).machines(1000, "").items
    shown = {machine.display_name for machine in machines}
    assert shown == {"new\\u000aline", "rtl\\u202egnp", "bytes\\xff", "back\\\\slash", "\U0001f4be"}
    for machine in machines:
        json.dumps(asdict(machine), ensure_ascii=False).encode("utf-8")


def test_other_files_and_directories_are_no_machines(tmp_path):
    for name in ("notes.txt", "disk.vmdk.lock", ".vmdk", "noextension", "a.mf"):
        (tmp_path / name).touch()
    (tmp_path / "folder.vmdk").mkdir()
    os.mkfifo(tmp_path / "pipe.img")
    assert ids(provider_of(tmp_path)) == []


def test_the_disks_of_a_package_are_not_machines_of_their_own(tmp_path):
    (tmp_path / "appliance.ovf").write_text(OVF)
    (tmp_path / "appliance-disk1.vmdk").touch()
    (tmp_path / "other.vmdk").touch()
    assert ids(provider_of(tmp_path)) == ["appliance-ovf", "other-vmdk"]


def test_extents_belong_to_the_descriptor_that_names_them(tmp_path):
    (tmp_path / "split.vmdk").write_text('# Disk DescriptorFile\nRW 4192256 SPARSE "split-s001.vmdk"\n')
    (tmp_path / "flat.vmdk").write_text('# Disk DescriptorFile\nRW 4192256 FLAT "flat-flat.vmdk" 0\n')
    for name in ("split-s001.vmdk", "split-s002.vmdk", "flat-flat.vmdk", "orphan-flat.vmdk", "orphan-s001.vmdk"):
        (tmp_path / name).touch()
    found = ids(provider_of(tmp_path))
    assert found == ["flat-vmdk", "orphan-flat-vmdk", "orphan-s001-vmdk", "split-s002-vmdk", "split-vmdk"]


def test_sizes_are_told_where_a_stat_tells_them(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(5000))
    (tmp_path / "b.qcow2").write_bytes(bytes(5000))
    raw, qcow2 = (machine.disks[0] for machine in provider_of(tmp_path).machines(10, "").items)
    assert (raw.size_bytes, raw.format) == (5000, "raw")
    assert (qcow2.size_bytes, qcow2.format) == (-1, "qcow2")


def test_paging_goes_on_after_a_file_that_was_removed_meanwhile(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.raw").touch()
    provider = provider_of(tmp_path)
    first = provider.machines(2, "")
    (tmp_path / "b.raw").unlink()
    assert [m.id for m in provider.machines(10, first.next_token).items] == ["c-raw", "d-raw", "e-raw"]


def test_ten_thousand_files_are_listed_without_opening_any(tmp_path, monkeypatch):
    for number in range(10_000):
        os.close(os.open(tmp_path / f"vm{number:05}.qcow2", os.O_CREAT | os.O_WRONLY))
    provider = provider_of(tmp_path)
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **kw: opened.append(a))
    monkeypatch.setattr(os, "open", lambda *a, **kw: opened.append(a))
    start = time.monotonic()
    page = provider.machines(1000, "")
    spent = time.monotonic() - start
    assert len(page.items) == 1000
    assert opened == []
    assert spent < 2.0  # 0.1 s on an idle core; the margin is for a busy one


def test_a_link_out_of_the_directory_is_listed_but_never_followed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.raw").write_bytes(b"secret")
    (root / "door.raw").symlink_to(tmp_path / "secret.raw")
    (root / "up.raw").symlink_to("../secret.raw")
    (root / "real.raw").write_bytes(b"real")
    (root / "alias.raw").symlink_to("real.raw")
    provider = provider_of(root)
    listed = {machine.id: machine for machine in provider.machines(10, "").items}
    assert listed["door-raw"].details["error"] == "LINK_LEAVES_DIRECTORY"
    context = LocalTaskContext({}, tmp_path)
    for machine_id in ("door-raw", "up-raw"):
        with pytest.raises(PermissionDenied) as caught:
            provider.open_source(machine_id, "disk-0", context)
        assert caught.value.reason == "LINK_LEAVES_DIRECTORY"
    with provider.open_source("alias-raw", "disk-0", context) as source:
        assert source.size == 4


def test_a_missing_directory_is_told(tmp_path):
    provider = provider_of(tmp_path / "gone")
    assert not provider.health().ok
    with pytest.raises(FailedPrecondition) as caught:
        provider.machines(10, "")
    assert caught.value.reason == "DIRECTORY_MISSING"


@pytest.mark.parametrize("config", [{}, {"path": "relative"}, {"path": 7}, {"path": "/a\0b"}])
def test_a_wrong_configuration_names_its_field(config):
    with pytest.raises(InvalidArgument) as caught:
        DirectoryProvider().configure(config, {})
    assert caught.value.violations[0].field == "config.path"
