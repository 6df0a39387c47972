"""Signatures, allow-list, provenance and tampering, through the daemon's face and the command line."""

import json
import os
import shutil
import signal

import pytest
from hypersdk import signing
from hypersdk.client import Client
from hypersdk.errors import FailedPrecondition, Unavailable
from support.daemon import Daemon
from support.wheels import make_wheel

NAME = "plugins/format-swapped"
TASK = """
from hypersdk.plugin.task import Task


class Plugin(Task):
    def run(self, context):
        return {"said": "hello"}
"""


@pytest.fixture
def daemon(tmp_path):
    """Makes daemons over one state directory, one at a time."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    started = []

    def start(*flags):
        for old in started:
            old.close()
        started.append(Daemon(folder, "--probation-s", "0", *flags))
        return started[-1].start()

    yield start
    for made in started:
        made.close()


def connect(daemon):
    client = Client(f"unix:{daemon.state / 'hypersdkd.sock'}")
    client.system.info()  # tried again until it answers, which an upload is not
    return client


def test_the_command_line_makes_keys_signs_verifies_and_a_strict_daemon_believes_it(daemon, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "first.pub").write_bytes(signing.generate_key()[1])
    strict = daemon("--plugin-keys", str(keys), "--require-signatures")
    key = tmp_path / "key"
    made = json.loads(strict.hyperctl("plugin", "keygen", key, "-o", "json").stdout)
    assert key.stat().st_mode & 0o077 == 0
    assert strict.hyperctl("plugin", "keygen", key, check=False).returncode != 0
    wheel = make_wheel(tmp_path)
    unsigned = strict.hyperctl("plugin", "install", wheel, check=False)
    assert "SIGNATURE_MISSING" in unsigned.stderr
    strict.hyperctl("plugin", "sign", wheel, "--key", key)
    assert "SIGNER_UNKNOWN" in strict.hyperctl("plugin", "install", wheel, check=False).stderr
    verified = strict.hyperctl("plugin", "verify", wheel, "--key", made["public"], "-o", "json").stdout
    assert json.loads(verified) == {"sha256": signing.digest_of(wheel), "signer": made["key"]}
    assert "SIGNER_UNKNOWN" in strict.hyperctl("plugin", "verify", wheel, "--keys", keys, check=False).stderr

    shutil.copy(made["public"], keys / "second.pub")
    strict = daemon("--plugin-keys", str(keys), "--require-signatures")
    strict.hyperctl("plugin", "install", wheel)
    table = strict.hyperctl("plugin", "generations", "format-swapped", "-o", "wide").stdout
    assert made["key"] in table
    with connect(strict) as client:
        generation = client.plugins.get(NAME).active_generation
        assert (generation.provenance.via, generation.provenance.source) == ("upload", wheel.name)
        assert (generation.provenance.signer, generation.provenance.actor) == (made["key"], "local")
        assert generation.provenance.sha256 == signing.digest_of(wheel)
        refused = [e.outcome for e in client.audit.list(filter='outcome != "OK"')]
        assert {"SIGNATURE_MISSING", "SIGNER_UNKNOWN"} <= set(refused)

    (keys / "second.pub").unlink()
    strict = daemon("--plugin-keys", str(keys), "--require-signatures")
    with connect(strict) as client:
        plugin = client.plugins.get(NAME)
        assert not plugin.HasField("active_generation")
        assert plugin.generations[0].failure_reason == "SIGNER_UNKNOWN"


def test_a_signature_dropped_after_its_wheel_lets_it_in(daemon, tmp_path):
    private, public = signing.generate_key()
    key = tmp_path / "key"
    key.write_bytes(private)
    key.chmod(0o600)
    (tmp_path / "key.pub").write_bytes(public)
    strict = daemon("--plugin-keys", str(tmp_path / "key.pub"), "--require-signatures")
    with connect(strict) as client:
        changes = client.plugins.watch()
        wheel = make_wheel(strict.state / "plugins.d")
        signature = signing.sign(signing.digest_of(wheel), signing.load_private_key(key))
        (wheel.parent / f"{wheel.name}.sig").write_bytes(signature)
        found = next(c for c in changes if c.type == "plugin.activated")
        assert found.plugin.active_generation.provenance.via == "plugins.d"


def test_what_is_not_on_the_allow_list_is_refused_whichever_way_it_comes(daemon, tmp_path):
    choosy = daemon("--plugin-allow", "acme-*", "hypersdk-format-swapped==1.0")
    with connect(choosy) as client:
        client.plugins.upload(make_wheel(tmp_path, "1.0"))
        wheel = make_wheel(tmp_path, "2.0")
        for call in (lambda: client.plugins.upload(wheel), lambda: client.plugins.install(str(wheel))):
            with pytest.raises(FailedPrecondition) as caught:
                call()
            assert caught.value.reason == "PLUGIN_NOT_ALLOWED"
        assert client.plugins.get(NAME).active_generation.version == "1.0"


def installed_file(daemon, package):
    [file] = (daemon.state / "plugins" / "store").glob(f"*/*/{package}/__init__.py")
    return file


def test_a_host_is_not_started_from_files_that_were_touched(daemon, tmp_path):
    running = daemon()
    with connect(running) as client:
        client.plugins.upload(make_wheel(tmp_path))
        assert client.formats.get("formats/swapped").create_options["version"] == "1.0"
        file = installed_file(running, "hypersdk_format_swapped")
        file.write_text(file.read_text().replace("1.0", "6.6"))
        os.kill(client.plugins.get(NAME).active_generation.host.pid, signal.SIGKILL)
        with pytest.raises(Unavailable) as caught:
            client.formats.get("formats/swapped")
        assert caught.value.reason in {"HOST_START_FAILED", "HOST_CRASHED"}
        assert "not those that were installed" in client.plugins.get(NAME).active_generation.host.last_error


def test_a_runner_is_not_started_from_files_that_were_touched(daemon, tmp_path):
    running = daemon()
    wheel = make_wheel(
        tmp_path, distribution="hypersdk-task-greet", kind="task", component="greet", code=TASK,
        manifest={
            "manifest_version": 1, "name": "hypersdk-task-greet", "api_version": "1.0", "summary": "Greets",
            "components": {"task/greet": {"spec_schema": {"type": "object"}}},
        },
    )  # fmt: skip
    with connect(running) as client:
        client.plugins.upload(wheel)
        done = client.jobs.wait(client.jobs.create("greet", {}).name, timeout_s=30)
        assert done.result["said"] == "hello"
        file = installed_file(running, "hypersdk_task_greet")
        file.write_text(TASK.replace("hello", "boo"))
        job = client.jobs.wait(client.jobs.create("greet", {}, max_attempts=1).name, timeout_s=30)
        assert job.error.reason == "PLUGIN_TAMPERED"


def test_a_wrong_policy_stops_the_start_and_says_which_setting(daemon):
    with pytest.raises(AssertionError) as caught:
        daemon("--require-signatures")
    assert "require_signatures needs plugin_keys" in str(caught.value)

