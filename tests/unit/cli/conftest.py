"""`hyperctl` run in this process against the fake kernel of the client's tests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hyperctl.__main__ import main
from unit.client.fake_kernel import FakeKernel


@dataclass
class Outcome:
    """What a command line did."""

    status: int
    out: str
    err: str


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    kernel = FakeKernel()
    kernel.start(tmp_path)
    for name in ("HYPERSDK_OUTPUT", "HYPERSDK_PROFILE", "HYPERSDK_STATE_DIR", "HYPERSDK_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HYPERSDK_ADDRESS", kernel.address)
    monkeypatch.setenv("HYPERSDK_TIMEOUT", "5s")
    yield kernel
    kernel.stop()


@pytest.fixture
def hyperctl(capsys):
    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run
