"""ManifestContract: is what a plugin's manifest says true, and strict enough for the kernel to rely on?

Not here: behaviour, which the contract of each kind tests.
"""

from __future__ import annotations

import importlib.resources
from importlib.metadata import distribution
from typing import Any, ClassVar

import jsonschema
import pytest

from hypersdk.plugin import API_VERSION, Manifest
from hypersdk.plugin.loading import contract_of
from hypersdk.testing.conformance.kinds import methods_of


class ManifestContract:
    """Subclass it and set:

    distribution_name   the distribution, as in its pyproject
    package             the import package that holds manifest.json
    good                component name → configs or specs its schema must accept
    bad                 component name → configs or specs its schema must refuse
    """

    distribution_name: ClassVar[str]
    package: ClassVar[str]
    good: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    bad: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    @pytest.fixture
    def manifest(self) -> Manifest:
        text = importlib.resources.files(self.package).joinpath("manifest.json").read_bytes()
        return Manifest.parse(text)

    def classes(self) -> dict[str, type]:
        points = distribution(self.distribution_name).entry_points
        return {
            f"{p.group.removeprefix('hypersdk.')}/{p.name}": p.load() for p in points if p.group.startswith("hypersdk.")
        }

    def test_the_manifest_names_its_own_distribution_and_a_spoken_api(self, manifest: Manifest) -> None:
        """Mend: `name` equals [project].name; `api_version` is at most the SDK's."""
        assert manifest.name == self.distribution_name
        assert manifest.api_version[0] == API_VERSION[0]
        assert manifest.api_version <= API_VERSION

    def test_components_and_entry_points_are_the_same_set(self, manifest: Manifest) -> None:
        """Mend: one entry point in group `hypersdk.<kind>` for each component `<kind>/<id>`, and none
        besides."""
        assert set(manifest.components) == set(self.classes())

    def test_each_entry_point_is_a_class_of_its_contract_that_needs_no_arguments(self) -> None:
        """Mend: subclass the contract, implement every abstract method, and configure in `configure`."""
        for name, cls in self.classes().items():
            contract = contract_of(name.partition("/")[0])
            assert contract is None or issubclass(cls, contract), f"{name} is no {contract}"
            assert cls() is not None

    def test_every_component_says_what_it_is(self, manifest: Manifest) -> None:
        """Mend: a one-line `summary` for the plugin and each component; people see it in lists."""
        assert manifest.summary
        assert all(component.summary for component in manifest.components.values())

    def test_schemas_are_valid_and_closed(self, manifest: Manifest) -> None:
        """An unknown or misspelt field must be refused when it is typed, not ignored at three in the
        morning. Mend: `additionalProperties: false` on every object with properties."""
        for component in manifest.components.values():
            for schema in (component.config_schema, component.spec_schema):
                if schema:
                    jsonschema.Draft202012Validator.check_schema(dict(schema))
                    _assert_closed(schema, component.name)

    def test_configurable_kinds_have_a_schema(self, manifest: Manifest) -> None:
        """Mend: providers, storages and notifiers carry `config_schema`, tasks `spec_schema`."""
        for component in manifest.components.values():
            if component.kind in {"provider", "storage", "notifier", "secrets", "executor"}:
                assert component.config_schema, component.name
            if component.kind == "task":
                assert component.spec_schema, component.name

    def test_schemas_accept_the_good_and_refuse_the_bad(self, manifest: Manifest) -> None:
        """Mend: the schema, or the examples in the subclass."""
        for name, component in manifest.components.items():
            validator = jsonschema.Draft202012Validator(dict(component.spec_schema or component.config_schema))
            for value in self.good.get(name, []):
                validator.validate(value)
            for value in self.bad.get(name, []):
                assert not validator.is_valid(value), f"{name} accepts {value!r}"

    def test_secret_fields_are_strings_that_take_references(self, manifest: Manifest) -> None:
        """Mend: a property with `secret: true` has type string; the kernel puts the resolved value in
        `secrets`."""
        for component in manifest.components.values():
            for field in component.secret_fields():
                assert component.config_schema["properties"][field].get("type") == "string", field

    def test_method_policies_name_methods_of_the_kind(self, manifest: Manifest) -> None:
        """A policy for a method that nobody calls is a typing mistake. Mend: the names of
        docs/host-protocol.md."""
        for component in manifest.components.values():
            known = methods_of(component.kind)
            if known and not component.descriptor_set:  # its own methods may have policies too
                assert set(component.methods) <= known, set(component.methods) - known

    def test_declared_capabilities_are_implemented(self, manifest: Manifest) -> None:
        """Mend: override the method that the capability promises, or take the capability back."""
        promises = {
            "provider": {"cbt": "changes", "import": "open_target"},
            "storage": {"usage": "usage", "local_path": "local_path"},
            "service": {"run": "run"},
            "format": {"check": "check", "measure": "measure"},
        }
        classes = self.classes()
        for name, component in manifest.components.items():
            contract = contract_of(component.kind)
            for capability, method in promises.get(component.kind, {}).items():
                overridden = getattr(classes[name], method) is not getattr(contract, method)
                assert overridden == (capability in component.capabilities), f"{name}: {capability}"


def _assert_closed(schema: Any, where: str) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            assert schema.get("additionalProperties") is False, f"{where}: an object is open to unknown fields"
        for key, value in schema.items():
            _assert_closed(value, f"{where}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            _assert_closed(value, where)
