"""Jobs on a real Ray cluster: a head and two workers, which die. The plugin's own code, without a host."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from hypersdk.plugin.executor import Order
from hypersdk_executor_ray import RayExecutor
from hypersdk_kernel.engine.executors import OrderStatus, Placement
from hypersdk_kernel.model.job import AttemptState
from support.databases import Database
from support.raycluster import PYTHON, ray_cluster
from support.remote import Remote, with_executor

ENDS = ("succeeded", "failed", "cancelled")
PLANTED = "planted-s3cr3t-1f0e9d8c"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_cluster(tmp_path_factory.mktemp("ray")) as made:
        yield made


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path)


@pytest.fixture
def registry(registry):
    return with_executor(registry)


def parent(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


class OnRay:
    """As engine.executors.Executors."""

    def __init__(self, cluster):
        self.nodes: dict[str, str] = {}
        self.ray = RayExecutor()
        self.ray.configure({"address": cluster.address, "python": str(PYTHON)}, {})

    async def submit(self, executor, reference, agent, placement):
        return self._noted(reference, await asyncio.to_thread(self.ray.submit, Order(reference, agent, placement)))

    async def status(self, executor, reference):
        return self._noted(reference, await asyncio.to_thread(self.ray.status, reference))

    reattach = status

    async def cancel(self, executor, reference):
        await asyncio.to_thread(self.ray.cancel, reference)

    def _noted(self, reference, status):
        return OrderStatus(Placement(status.placement.value), status.node, status.message)


@pytest.fixture
async def remote(kernel, tmp_path, cluster):
    executor = OnRay(cluster)
    made = Remote(kernel, tmp_path, executor)
    made.changes = {"orphan_s": 4, "lost_after_s": 12.0, "place_s": 60.0, "poll_s": 0.3}
    made.patience_s = 120.0  # Ray was seen to need half a minute for an actor on a busy machine
    await made.open()
    yield made
    for runner in list(kernel.dispatcher.runners.values()):
        await executor.cancel("fake", runner.reference)
    made.link.close()
    await made.remotes.stop()
    executor.ray.close()


async def test_labels_and_resources_choose_the_machine(remote, cluster):
    await remote.submit("a", {"site": "hq"}, steps=60, step_s=0.05)
    await remote.submit("b", {"resource:at-branch": "1"}, steps=60, step_s=0.05)
    await asyncio.gather(remote.runs("a"), remote.runs("b"))
    assert [len(cluster.workers(name)) for name in ("head", "hq", "branch")] == [0, 1, 1]
    for name in ("a", "b"):
        assert (await remote.kernel.until(name, *ENDS)).state.value == "succeeded"


@pytest.mark.soak
async def test_a_cancelled_job_ends_on_its_machine(remote, cluster, tmp_path):
    hold = tmp_path / "held"
    made = await remote.submit("j", {"site": "hq"}, steps=1000, step_s=0.02, hold=str(hold))
    await remote.runs()
    pid = remote.runner_pid(made.uid)
    await remote.kernel.jobs.cancel("j", actor="test")
    assert (await remote.kernel.until("j", *ENDS)).state.value == "cancelled"
    assert not hold.exists()
    assert not os.path.exists(f"/proc/{pid}")


async def test_a_killed_worker_process_has_its_job_finished_elsewhere_from_the_checkpoint(remote, cluster):
    made = await remote.submit(steps=80, step_s=0.05)
    await remote.runs(step=5)
    pid = remote.runner_pid(made.uid)
    worker = parent(parent(pid))  # of the agent
    assert worker in cluster.workers("hq") + cluster.workers("branch")
    os.kill(worker, signal.SIGKILL)
    job = await remote.kernel.until("j", *ENDS, timeout_s=60)
    assert job.state.value == "succeeded", job.error
    assert (job.result["attempt"], job.result["start"] >= 1) == (2, True)
    assert not os.path.exists(f"/proc/{pid}")
    assert remote.kernel.successes() == 1


async def test_a_restarted_kernel_finds_what_it_had_placed(remote):
    await remote.submit(steps=80, step_s=0.05)
    number = (await remote.runs(step=3)).number
    remote.executor.ray.close()  # the plugin's host goes with the kernel
    await remote.restart()
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", number), job.error


async def test_what_a_job_is_told_is_in_no_log_and_no_store_of_ray(remote, cluster, tmp_path):
    await remote.submit(steps=40, step_s=0.05, hold=str(tmp_path / PLANTED))
    await remote.runs(step=5)
    needles = [PLANTED.encode(), b"PRIVATE KEY"]
    found, looked = [], 0
    for file in [*cluster.temp.rglob("*"), *cluster.folder.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            looked += 1
            found += [f"{needle!r} in {file}" for needle in needles if needle in file.read_bytes()]
    for file in cluster.shared_memory():
        looked += 1
        with open(file, "rb") as memory:
            data = memory.read()
        found += [f"{needle!r} in {file}" for needle in needles if needle in data]
    assert found == []
    assert looked > 10
    assert (await remote.kernel.until("j", *ENDS)).state.value == "succeeded"


@pytest.mark.soak
async def test_a_lost_machine_has_its_job_finished_on_another_one(remote, cluster):
    """Last: the machine does not come back."""
    made = await remote.submit("j", {}, steps=400, step_s=0.05)
    await remote.runs(step=5)
    agent = parent(remote.runner_pid(made.uid))
    cluster.kill("hq" if agent in cluster.agents("hq") else "branch")
    job = await remote.kernel.until("j", *ENDS, timeout_s=120)
    assert (job.state.value, job.result["attempt"]) == ("succeeded", 2), job.error
    assert job.result["start"] >= 1
    states = [a.state for a in await remote.kernel.jobs.attempts("j", 10, 0)]
    assert states == [AttemptState.LOST, AttemptState.SUCCEEDED]
    assert remote.kernel.successes() == 1
