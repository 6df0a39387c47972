"""examples/04-plugin-out-of-tree: copied out of this repository, it passes every check and runs in a daemon."""

from __future__ import annotations

import shutil

from hypersdk.client import Client
from hypersdk.testing.conformance import Status, run
from support.projects import REPOSITORY, build_wheel

EXAMPLE = REPOSITORY / "examples" / "04-plugin-out-of-tree"


def test_it_passes_every_check_and_writes_and_verifies_checksums_in_a_daemon(daemon, tmp_path):
    project = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, project)
    report = run(project)
    assert [o.to_json() for o in report.outcomes if o.status in {Status.FAILED, Status.WARNED}] == []
    assert {"suite.TestChecksums", "suite.TestManifest"} <= {o.id for o in report.outcomes}

    daemon.hyperctl("plugin", "install", build_wheel(project, tmp_path))
    objects = tmp_path / "objects"
    (objects / "nightly").mkdir(parents=True)
    (objects / "nightly" / "a.img").write_bytes(b"first")
    daemon.hyperctl("connection", "create", "backups", "-c", "storage/local", "--config", f"path={objects}")
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as client:

        def job(**spec):
            made = client.jobs.create("checksums", {"storage": "connections/backups", "prefix": "nightly/", **spec})
            return client.jobs.wait(made.name, timeout_s=60)

        assert job().result["sums"] == "nightly/SHA256SUMS"
        assert (objects / "nightly" / "SHA256SUMS").read_text().endswith("  a.img\n")
        assert job(verify=True).result["objects"] == 1
        (objects / "nightly" / "a.img").write_bytes(b"fIrst")
        assert job(verify=True).error.message.startswith("1 objects have other content")


def test_it_is_a_repository_of_its_own():
    for name in ("LICENSE", "README.md", "pyproject.toml", ".gitignore", ".github/workflows/ci.yml", "tests"):
        assert (EXAMPLE / name).exists(), name
    text = "".join(p.read_text() for p in EXAMPLE.rglob("*") if p.suffix in {".py", ".toml", ".yml", ".json"})
    assert "../" not in text
