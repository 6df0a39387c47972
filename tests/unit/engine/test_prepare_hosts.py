"""What a runner is told of components that are not written in Python."""

import json
from types import SimpleNamespace

import pytest
from hypersdk.errors import FailedPrecondition
from hypersdk.plugin.manifest import Manifest
from hypersdk_kernel.engine.prepare import Preparer
from hypersdk_kernel.engine.taskspec import component_to_wire
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, GenerationState

FOREIGN = Manifest.parse(
    '{"manifest_version": 1, "name": "acme", "api_version": "1.1", "host": {"command": ["node", "${package}/h"]},'
    ' "components": {"provider/acme": {}, "format/acme": {}}}'
)
PYTHON = Manifest.parse(
    '{"manifest_version": 1, "name": "own", "api_version": "1.1", "components": {"format/own": {}}}'
)


def active(manifest, name):
    generation = Generation(
        "acme", 1, "acme", "1.0", "d", "installed", GenerationState.ACTIVE, dict.fromkeys(manifest.components, "acme"),
        manifest,
    )  # fmt: skip
    return ActiveComponent(manifest.components[name], generation)


def preparer(command):
    return Preparer(SimpleNamespace(), SimpleNamespace(), None, host_command=command)


def missing(_generation):
    raise FailedPrecondition("node is not there", reason="HOST_COMMAND_MISSING")


def test_the_program_of_a_connections_provider_is_resolved_and_the_whole_manifest_goes_along():
    made = preparer(lambda _generation: ("/usr/bin/node", "/store/h"))
    provider = active(FOREIGN, "provider/acme")
    wire = component_to_wire(provider, made._host(provider, {"provider/acme"}))
    assert wire["host"] == ["/usr/bin/node", "/store/h"]
    assert Manifest.parse(json.dumps(wire["package"])) == FOREIGN


def test_a_missing_program_fails_the_job_that_needs_it_and_no_other():
    made = preparer(missing)
    with pytest.raises(FailedPrecondition):
        made._host(active(FOREIGN, "provider/acme"), {"provider/acme"})
    assert made._host(active(FOREIGN, "format/acme"), {"provider/other"}) == ("node", "${package}/h")


def test_a_python_component_has_none():
    own = active(PYTHON, "format/own")
    wire = component_to_wire(own, preparer(lambda _generation: ())._host(own, ()))
    assert "host" not in wire
    assert "package" not in wire
