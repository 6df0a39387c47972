"""A client in another language, from the proto files of the repository: submit, watch, list, error details."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NODE = REPOSITORY / "tests" / "e2e" / "node"

pytestmark = pytest.mark.peer


@pytest.fixture(scope="session")
def node_modules():
    assert shutil.which("npm"), "npm is missing; `make system-tools` installs it as root"
    stamp = NODE / "node_modules" / ".package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < (NODE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE, check=True, timeout=300)


@pytest.mark.parametrize("transport", ["unix", "tls"])
def test_a_node_client_submits_watches_lists_and_reads_error_details(daemon, node_modules, tmp_path, transport):
    image = tmp_path / "disk.raw"
    image.write_bytes(b"boot" + bytes(1 << 20) + b"data" * 1000)
    include = REPOSITORY / "build" / "proto-include"
    options = {
        "protoDirs": [str(REPOSITORY / "proto"), str(include)],
        "imagePath": str(image),
        "outPath": str(tmp_path / f"{transport}.qcow2"),
    }
    if transport == "unix":
        options["target"] = f"unix:{daemon.state / 'hypersdkd.sock'}"
    else:
        options |= {
            "target": (daemon.state / "address").read_text().strip(),
            "caFile": str(daemon.state / "tls" / "ca.pem"),
            "tokenFile": str(daemon.state / "token"),
        }
    done = subprocess.run(
        ["node", NODE / "client.mjs", json.dumps(options)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert seen["info"]["pid"] == daemon.process.pid
    assert "plugins/format-qcow2" in seen["plugins"]
    assert {"formats/qcow2", "formats/raw", "formats/vmdk"} <= set(seen["formats"])
    assert seen["created"]["state"] == "JOB_STATE_QUEUED"
    states = [state for _, state, _ in seen["watched"]]
    assert states[-1] == "JOB_STATE_SUCCEEDED"
    revisions = [revision for _, _, revision in seen["watched"]]
    assert revisions == sorted(set(revisions))
    assert seen["listed"] == [[seen["created"]["name"], "JOB_STATE_SUCCEEDED"]]
    assert seen["invalid"]["code"] == 3
    assert {v["field"] for v in seen["invalid"]["found"]["BadRequest"]["field_violations"]} == {"job.task"}
    assert seen["missing"]["found"]["ErrorInfo"] == {"reason": "JOB_NOT_FOUND", "domain": "hypersdk.dev"}
    if transport == "tls":
        assert seen["stranger"]["code"] == 16
    subprocess.run(["qemu-img", "compare", image, tmp_path / f"{transport}.qcow2"], check=True, capture_output=True)
