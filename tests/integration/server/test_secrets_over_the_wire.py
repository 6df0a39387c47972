"""A vault's secret on its way from a file through two plugins, and nowhere else."""

import hashlib

import pytest
from hypersdk.client import Client
from hypersdk.errors import FailedPrecondition, InvalidArgument
from support.daemon import Daemon
from support.wheels import make_wheel

SECRET = "correct-horse-battery-staple"

TALKATIVE = """
import hashlib
from hypersdk.errors import Unavailable
from hypersdk.plugin import Health, Storage


class Plugin(Storage):
    def configure(self, config, secrets):
        self.password = secrets["password"]

    def health(self):
        print("logging in with", self.password)
        if self.password.startswith("wrong"):
            raise Unavailable(f"{self.password} was refused")
        return Health(True, details={"digest": hashlib.sha256(self.password.encode()).hexdigest()})

    def open_writer(self, *a, **k): raise NotImplementedError
    def read_range(self, *a, **k): raise NotImplementedError
    def stat(self, *a, **k): raise NotImplementedError
    def list(self, *a, **k): raise NotImplementedError
    def delete(self, *a, **k): raise NotImplementedError
"""
MANIFEST = {
    "manifest_version": 1, "name": "hypersdk-storage-talk", "api_version": "1.1", "summary": "Says too much",
    "components": {"storage/talk": {"config_schema": {
        "type": "object", "additionalProperties": False,
        "properties": {"password": {"type": "string", "secret": True}},
    }}},
}  # fmt: skip


@pytest.fixture
def running(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--log-level", "debug")
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def client(running):
    with Client(f"unix:{running.state / 'hypersdkd.sock'}") as client:
        yield client


@pytest.fixture
def vault(tmp_path, client):
    folder = tmp_path / "vault"
    folder.mkdir(mode=0o700)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(SECRET + "\n")
    client.connections.create("vault1", "secrets/file", {"path": str(folder), "ttl_s": 0})
    return folder


@pytest.fixture
def user(client, vault, tmp_path):
    wheel = make_wheel(
        tmp_path, distribution="hypersdk-storage-talk", kind="storage", component="talk", code=TALKATIVE,
        manifest=MANIFEST,
    )  # fmt: skip
    client.plugins.install(str(wheel))
    return client.connections.create("user", "storage/talk", {"password": "vault1:token"})


def test_a_secret_reaches_the_plugin_and_no_log_no_answer_and_no_file(client, running, vault, user):
    told = client.connections.test(user.name)
    assert told.details["digest"] == hashlib.sha256(SECRET.encode()).hexdigest()
    (vault / "token").write_text("wrong-" + SECRET)
    refused = client.connections.test(user.name)
    assert not refused.ok
    assert SECRET not in str(refused)
    assert "vault1:token" in str(client.connections.get(user.name).config)
    assert "logging in with" in running.log
    assert SECRET not in running.log
    running.stop()
    for path in running.state.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_secret_that_is_not_there_is_told_by_its_path(client, vault, user):
    (vault / "token").unlink()
    told = client.connections.test(user.name)
    assert told.details["reason"] == "SECRET_UNAVAILABLE"
    assert "vault1:token" in told.message
    vault.rmdir()
    assert client.connections.test(user.name).details["reason"] == "SECRET_SOURCE_UNAVAILABLE"


def test_a_vault_in_use_cannot_be_deleted(client, user):
    with pytest.raises(FailedPrecondition) as refused:
        client.connections.delete("connections/vault1")
    assert refused.value.reason == "CONNECTION_IN_USE"


def test_a_vault_can_be_tested_like_any_connection(client, vault):
    assert client.connections.test("connections/vault1").ok
    vault.rename(vault.with_name("gone"))
    assert not client.connections.test("connections/vault1").ok


def test_a_field_that_is_no_secret_takes_no_reference_as_one(client, vault, tmp_path):
    made = client.connections.create("plain", "storage/local", {"path": str(tmp_path / "vault1:token"), "create": True})
    assert made.config["path"].endswith("vault1:token")


def test_the_wire_refuses_other_kinds_as_connections(client):
    with pytest.raises(InvalidArgument):
        client.connections.create("x", "pricing/gcs", {})


def test_a_vault_of_nothing_is_refused(client):
    with pytest.raises(InvalidArgument):
        client.connections.create("v", "secrets/file", {"path": "relative"})
    with pytest.raises((InvalidArgument, FailedPrecondition)):
        client.connections.create("v", "secrets/nobody", {})
