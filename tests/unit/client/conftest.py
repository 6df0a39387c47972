"""A fake kernel per test, and clients of it that retry at once."""

from __future__ import annotations

import pytest
from hypersdk.client import AsyncClient, CallOptions, Client
from unit.client.fake_kernel import FakeKernel

FAST = CallOptions(timeout_s=5.0, tries=4, backoff_s=0.001, backoff_max_s=0.002, watch_leg_s=5.0, reconnect_s=1.0)


@pytest.fixture
def kernel(tmp_path):
    kernel = FakeKernel()
    kernel.start(tmp_path)
    yield kernel
    kernel.stop()


@pytest.fixture
def client(kernel):
    with Client(kernel.address, options=FAST) as client:
        yield client


@pytest.fixture
async def async_client(kernel):
    async with AsyncClient(kernel.address, options=FAST) as client:
        yield client
