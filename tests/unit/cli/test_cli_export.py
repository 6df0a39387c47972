"""export and convert: what SOURCE and TARGET mean, and what is submitted."""

import json

import pytest
from hyperctl.endpoints import connection_id
from hypersdk.api.connections.v1 import connections_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.api.jobs.v1 import jobs_pb2


@pytest.fixture(autouse=True)
def _jobs_succeed(kernel):
    kernel.end_new_jobs_with = jobs_pb2.JOB_STATE_SUCCEEDED


def spec_of(kernel) -> dict:
    request = next(r for r in reversed(kernel.requests) if isinstance(r, jobs_pb2.CreateJobRequest))
    return dict(request.job.spec)


@pytest.fixture
def image(kernel, tmp_path):
    """A file that the directory provider shows as a machine of one disk."""
    path = tmp_path / "My Images" / "disk.vmdk"
    path.parent.mkdir()
    path.write_bytes(b"x")
    name = f"connections/{connection_id('provider/directory', path.parent)}/machines/disk"
    kernel.machines = [
        inventory_pb2.Machine(name=name, platform_id="disk.vmdk", disks=[{"name": f"{name}/disks/d0"}])
    ]
    return path


@pytest.mark.parametrize("source", ["lab/web", "connections/lab/machines/web"])
def test_a_machine_is_exported_by_name(hyperctl, kernel, source):
    done = hyperctl("export", source, "--to", "backups", "-o", "cluster_size=65536,lazy_refcounts=on", "--prefix", "p")
    assert (done.status, done.out) == (0, "")
    assert spec_of(kernel) == {
        "machine": "connections/lab/machines/web", "target": "connections/backups", "format": "qcow2", "prefix": "p",
        "options": {"cluster_size": "65536", "lazy_refcounts": "on"}, "compress": False,
    }  # fmt: skip
    assert "jobs/job-1  SUCCEEDED: read 512 B, wrote 512 B" in done.err


def test_a_machine_is_exported_as_one_package_whose_format_is_its_own_affair(hyperctl, kernel):
    done = hyperctl("export", "lab/web", "--to", "backups", "--package", "ova")
    assert done.status == 0
    assert spec_of(kernel) == {
        "machine": "connections/lab/machines/web", "target": "connections/backups", "package": "ova",
        "options": {}, "compress": False,
    }  # fmt: skip
    hyperctl("export", "lab/web", "--to", "backups", "--package", "ova", "--format", "vmdk")
    assert spec_of(kernel)["format"] == "vmdk"


def test_an_unknown_package_is_a_usage_error(hyperctl, kernel):
    done = hyperctl("export", "lab/web", "--to", "backups", "--package", "zip")
    assert done.status == 2
    assert kernel.jobs == {}


def test_a_path_becomes_a_connection_of_its_directory(hyperctl, kernel, image, tmp_path):
    target = tmp_path / "out"
    done = hyperctl("export", image, "--to", target, "--format", "raw")
    assert done.status == 0
    source_name = f"connections/{connection_id('provider/directory', image.parent)}"
    target_name = f"connections/{connection_id('storage/local', target)}"
    assert f"made {source_name} (provider/directory) for {image.parent}" in done.err
    assert kernel.connections[source_name].labels["hyperctl.dev/auto"] == "true"
    assert dict(kernel.connections[target_name].config) == {"path": str(target), "create": True}
    assert spec_of(kernel)["machine"] == f"{source_name}/machines/disk"
    assert spec_of(kernel)["target"] == target_name
    assert "disks" not in spec_of(kernel)


def test_a_dry_run_of_paths_makes_no_connection(hyperctl, kernel, image, tmp_path):
    done = hyperctl("export", image, "--to", tmp_path / "out", "--dry-run", "--output", "json")
    assert (done.status, kernel.connections, kernel.jobs) == (0, {}, {})
    assert done.err.count("would make connections/path-") == 2
    assert json.loads(done.out)["spec"]["target"].startswith("connections/path-out-")


def test_the_connection_of_a_path_is_reused(hyperctl, kernel, image, tmp_path):
    hyperctl("export", image, "--to", tmp_path / "out")
    count = len(kernel.connections)
    done = hyperctl("export", image, "--to", tmp_path / "out")
    assert (done.status, len(kernel.connections)) == (0, count)
    assert "using connections/path-my-images-" in done.err


def test_a_foreign_connection_with_that_id_is_never_used(hyperctl, kernel, image, tmp_path):
    name = f"connections/{connection_id('provider/directory', image.parent)}"
    kernel.connections[name] = connections_pb2.Connection(name=name, component="provider/other")
    assert hyperctl("export", image, "--to", "backups").status == 6


def test_one_disk_file_of_a_larger_machine_exports_that_disk(hyperctl, kernel, image):
    name = kernel.machines[0].name.rpartition("/")[0] + "/web"
    kernel.machines = [
        inventory_pb2.Machine(
            name=name,
            platform_id="web.ovf",
            disks=[
                {"name": f"{name}/disks/system", "platform_id": "disk.vmdk"},
                {"name": f"{name}/disks/data", "platform_id": "data.vmdk"},
            ],
        )
    ]
    hyperctl("export", image, "--to", "backups")
    assert spec_of(kernel)["machine"] == name
    assert list(spec_of(kernel)["disks"]) == ["system"]


def test_a_file_that_the_provider_does_not_show_is_exit_5(hyperctl, kernel, image):
    kernel.machines = []
    done = hyperctl("export", image, "--to", "backups")
    assert done.status == 5
    assert "MACHINE_NOT_FOUND" in done.err


def test_a_source_that_is_nothing_is_exit_5(hyperctl, kernel):
    done = hyperctl("export", "nonsense", "--to", "backups")
    assert done.status == 5
    assert "SOURCE_NOT_FOUND" in done.err


def test_a_directory_is_no_source_and_a_file_no_target(hyperctl, kernel, image):
    assert hyperctl("export", image.parent, "--to", "backups").status == 2
    assert hyperctl("export", "a/b", "--to", image).status == 2


def test_detach_prints_the_name_and_leaves_the_job(hyperctl, kernel):
    kernel.end_new_jobs_with = None
    done = hyperctl("export", "lab/web", "--to", "backups", "--detach", "--priority", "9", "--rate-limit", "1MiB")
    assert (done.status, done.out) == (0, "jobs/job-1\n")
    assert kernel.jobs["jobs/job-1"].priority == 9
    assert kernel.jobs["jobs/job-1"].bandwidth_limit_bytes == 1 << 20


def test_dry_run_checks_and_shows_the_job(hyperctl, kernel):
    done = hyperctl("export", "lab/web", "--to", "backups", "--dry-run", "--output", "json")
    assert done.status == 0
    assert json.loads(done.out)["task"] == "export"
    assert kernel.jobs == {}


def test_the_ended_job_is_printed_when_asked(hyperctl, kernel):
    done = hyperctl("export", "lab/web", "--to", "backups", "--output", "json")
    assert json.loads(done.out)["state"] == "SUCCEEDED"


def test_convert_submits_absolute_paths(hyperctl, kernel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hyperctl("convert", "a.vmdk", "b.qcow2", "-O", "qcow2", "-f", "vmdk", "-c", "-o", "compression_type=zstd")
    assert done.status == 0
    assert spec_of(kernel) == {
        "source_path": str(tmp_path / "a.vmdk"), "target_path": str(tmp_path / "b.qcow2"), "source_format": "vmdk",
        "format": "qcow2", "options": {"compression_type": "zstd"}, "compress": True, "overwrite": False,
    }  # fmt: skip


def test_the_id_of_a_directory_is_stable_legal_and_its_own(tmp_path):
    import re

    paths = [tmp_path, tmp_path / "A b!", tmp_path / ("x" * 200), tmp_path / "ü"]
    ids = {connection_id(component, p) for p in paths for component in ("provider/directory", "storage/local")}
    assert len(ids) == 8
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", i) for i in ids)
    assert connection_id("storage/local", tmp_path) == connection_id("storage/local", tmp_path)
