"""examples/03-plugin-with-own-grpc-service: built, installed into a real daemon and called by a client that has no
stubs."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from hypersdk.client import Client
from hypersdk.errors import HyperError
from support.daemon import Daemon

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "03-plugin-with-own-grpc-service"
SERVICE = "example.retention.v1.RetentionService"
METHOD = f"{SERVICE}/PlanRetention"
REQUEST = {
    "times": [f"2026-03-{day:02}T02:00:00Z" for day in range(1, 11)],
    "keep_daily": 2, "keep_weekly": 1, "keep_monthly": 1,
}  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_03_{name}", EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generic = load("client")


def build(folder, version="1.0.0", change=lambda tree: None):
    tree = folder / f"tree-{version}"
    shutil.copytree(EXAMPLE, tree)
    project = (tree / "pyproject.toml").read_text().replace('version = "1.0.0"', f'version = "{version}"')
    (tree / "pyproject.toml").write_text(project)
    change(tree)
    subprocess.run(
        [Path(sys.executable).parent / "uv", "build", "-q", "--wheel", "--offline", "--no-build-isolation",
         "--python", sys.executable, "--out-dir", folder / "dist", tree],
        check=True,
    )  # fmt: skip
    return str(folder / "dist" / f"retention_planner-{version}-py3-none-any.whl")


@pytest.fixture
def running(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--probation-s", "1")
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def client(running):
    with Client(f"unix:{running.state / 'hypersdkd.sock'}") as client:
        yield client


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(f"unix:{running.state / 'hypersdkd.sock'}") as channel:
        yield channel


@pytest.fixture
def installed(client, tmp_path):
    return client.plugins.install(build(tmp_path))


def test_the_committed_descriptor_set_is_that_of_the_proto(tmp_path):
    assert load("make_descriptor_set").main(str(ROOT / "proto"), str(tmp_path / "fresh")) == 0
    assert (tmp_path / "fresh").read_bytes() == (EXAMPLE / "src/retention_planner/retention.binpb").read_bytes()


def test_it_passes_the_checks_that_every_plugin_must_pass():
    command = [Path(sys.executable).parent / "hyperctl", "plugin", "test", EXAMPLE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generic_client_finds_and_calls_it(client, channel, installed, running):
    assert SERVICE in generic.services(channel)
    health = generic.call(channel, "grpc.health.v1.Health/Check", {"service": SERVICE})
    assert health["status"] == "SERVING"
    decisions = generic.call(channel, METHOD, REQUEST)["decisions"]
    assert [d["reasons"] for d in decisions if d.get("keep")] == [["daily"], ["daily", "weekly", "monthly"]]
    assert len(decisions) == 10
    done = subprocess.run(
        [sys.executable, EXAMPLE / "client.py", f"unix:{running.state}/hypersdkd.sock", METHOD,
         '{"times": ["2026-03-01T02:00:00.123456789Z"]}'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "2026-03-01T02:00:00.123456Z" in done.stdout


def test_its_rules_deadlines_and_errors_are_the_kernels(channel, installed):
    with pytest.raises(grpc.RpcError) as invalid:
        generic.call(channel, METHOD, {"keep_daily": -1})
    assert invalid.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "times" in invalid.value.details()
    assert "keep_daily" in invalid.value.details()
    with pytest.raises(grpc.RpcError) as refused:
        generic.call(channel, METHOD, {"times": ["1969-01-01T00:00:00Z"]})
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert any(key == "grpc-status-details-bin" for key, _ in refused.value.trailing_metadata())
    with pytest.raises(grpc.RpcError) as malformed:
        channel.unary_unary(f"/{METHOD}")(b"\xff\xff", timeout=10)
    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=10)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_over_tcp_it_needs_the_token(running, installed):
    credentials = grpc.ssl_channel_credentials((running.state / "tls" / "ca.pem").read_bytes())
    with grpc.secure_channel((running.state / "address").read_text().strip(), credentials) as channel:
        with pytest.raises(grpc.RpcError) as nobody:
            channel.unary_unary(f"/{METHOD}")(b"", timeout=10)
        assert nobody.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = (running.state / "token").read_text().strip()
        with pytest.raises(grpc.RpcError) as known:
            channel.unary_unary(f"/{METHOD}")(b"", timeout=10, metadata=(("authorization", f"Bearer {token}"),))
        assert known.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # let in, and then refused for its content


def renamed_field(tree):
    proto = tree / "proto/example/retention/v1/retention.proto"
    proto.write_text(proto.read_text().replace("bool keep = 2", "bool retain = 2").replace("lte: 3650", "lte: 1"))
    code = tree / "src/retention_planner/__init__.py"
    code.write_text(code.read_text().replace('"keep": bool', '"retain": bool'))
    out = tree / "src/retention_planner/retention.binpb"
    subprocess.run([sys.executable, tree / "make_descriptor_set.py", ROOT / "proto", out], check=True)


def test_a_swap_swaps_its_messages_and_rules_and_an_uninstall_takes_it_away(client, channel, installed, tmp_path):
    assert generic.call(channel, METHOD, REQUEST)["decisions"][-1]["keep"]
    client.plugins.install(build(tmp_path, "2.0.0", renamed_field))
    with pytest.raises(grpc.RpcError, match="keep_daily"):
        generic.call(channel, METHOD, REQUEST)
    assert generic.call(channel, METHOD, REQUEST | {"keep_daily": 1})["decisions"][-1]["retain"]
    client.plugins.rollback("plugins/retention-planner")
    assert generic.call(channel, METHOD, REQUEST)["decisions"][-1]["keep"]
    client.plugins.uninstall("plugins/retention-planner")
    assert SERVICE not in generic.services(channel)
    with pytest.raises(LookupError):
        generic.call(channel, METHOD, REQUEST)


def unmarked(tree):
    code = tree / "src/retention_planner/__init__.py"
    code.write_text(code.read_text().replace('    @rpc("example.retention.v1.RetentionService.PlanRetention")\n', ""))


def no_set(tree):
    (tree / "src/retention_planner/retention.binpb").write_bytes(os.urandom(100))


@pytest.mark.parametrize(
    ("change", "reason"), [(unmarked, "HOST_START_FAILED"), (no_set, "DESCRIPTOR_SET_INVALID")]
)
def test_a_build_whose_service_is_not_whole_is_refused_and_the_old_one_serves(
    client, channel, installed, tmp_path, change, reason
):
    with pytest.raises(HyperError) as refused:
        client.plugins.install(build(tmp_path, "2.0.0", change))
    assert refused.value.reason == reason
    assert generic.call(channel, METHOD, REQUEST)["decisions"]


def test_a_daemon_remembers_it_over_a_restart(client, running, installed):
    running.kill()
    running.start()
    with grpc.insecure_channel(f"unix:{running.state / 'hypersdkd.sock'}") as again:
        assert generic.call(again, METHOD, REQUEST)["decisions"]
