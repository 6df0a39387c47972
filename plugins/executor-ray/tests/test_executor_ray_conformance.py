"""executor/ray keeps the contract, on a real cluster; its manifest says the truth."""

from typing import ClassVar

import pytest
from hypersdk.errors import FailedPrecondition, Unavailable
from hypersdk.testing import ExecutorContract, ManifestContract
from hypersdk_executor_ray import RayExecutor
from support.raycluster import PYTHON, ray_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_cluster(tmp_path_factory.mktemp("ray")) as made:
        yield made


class TestContract(ExecutorContract):
    @pytest.fixture
    def executor(self, cluster):
        executor = RayExecutor()
        executor.agent_arguments = ("-I", "-c", self.agent_program)
        executor.configure({"address": cluster.address, "python": str(PYTHON)}, {})
        yield executor
        executor.close()

    @pytest.fixture
    def placement(self):
        return {"site": "branch", "cpus": "0.1"}

    def test_an_engine_that_is_away_is_unavailable(self, cluster):
        executor = RayExecutor()
        executor.configure({"address": "127.0.0.1:9", "python": str(PYTHON)}, {})
        with pytest.raises(Unavailable):
            executor.status("some-reference-1")
        assert not executor.health().ok
        executor.close()


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-executor-ray"
    package = "hypersdk_executor_ray"
    good: ClassVar = {
        "executor/ray": [{"address": "10.0.0.5:6379"}, {"address": "head.example:6379", "namespace": "lab"}]
    }
    bad: ClassVar = {
        "executor/ray": [{}, {"address": "nowhere"}, {"address": "a:1", "python": "py"}, {"address": "a:1", "x": 1}]
    }


def test_a_python_without_ray_is_said_to_be_one(tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\nexit 1\n")
    empty.chmod(0o755)
    for python in (str(empty), str(tmp_path / "none")):
        executor = RayExecutor()
        executor.configure({"address": "127.0.0.1:1", "python": python}, {})
        with pytest.raises(FailedPrecondition) as caught:
            executor.nodes()
        assert caught.value.reason == "RAY_MISSING"
        executor.close()
