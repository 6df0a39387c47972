"""What a job's spec names, found through the task's JSON Schema without knowing the task (hypersdk.plugin.manifest):
the connections a job is granted, and the components whose generations it pins."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jsonschema_rs
from hypersdk.errors import FieldViolation, InvalidArgument, NotFound, Unsupported
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from hypersdk_kernel.model.job import Pin
from hypersdk_kernel.model.names import connection_of
from hypersdk_kernel.model.plugin import ActiveComponent, Generation


class Components(Protocol):
    """What we need of hosting.Registry."""

    def component(self, name: str) -> ActiveComponent: ...
    def components(self, kind: str) -> list[ActiveComponent]: ...
    def pinned(self, pin: Pin) -> Generation: ...


class Registry(Components, Protocol):
    """hosting.Registry, as far as dispatching needs it."""

    def draw(self) -> Components: ...


@dataclass(frozen=True, slots=True)
class Needs:
    """What a spec names: ids of connections, formats and repositories, each with the field that names it."""

    connections: Mapping[str, str]
    formats: Mapping[str, str]
    repositories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where in a schema resources are named: what of it leads to an `x-hypersdk-resource`."""

    resource: str = ""
    properties: Mapping[str, _Mark] = field(default_factory=dict)
    items: _Mark | None = None


_marks_of: dict[int, tuple[Mapping[str, Any], _Mark]] = {}

_MAX_VIOLATIONS = 20


def validate(schema: Mapping[str, Any], value: Any, path: str, what: str) -> None:
    """Raises InvalidArgument (SPEC_INVALID) with a violation for each fault, `path` before each field."""
    exact, quick = _validator(schema)
    if quick is not None and quick.is_valid(value):
        return
    faults = []
    for error in exact.iter_errors(value):
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
        faults.append(FieldViolation(path + where, error.message[:300]))
        if len(faults) == _MAX_VIOLATIONS:
            break
    if faults:
        listed = "; ".join(f"{f.field}: {f.description}" for f in faults[:3])
        raise InvalidArgument(f"{what}: {listed}", reason="SPEC_INVALID", violations=tuple(faults))


def _validator(schema: Mapping[str, Any]) -> _Validators:
    """The one that says what is wrong, and, where it can be had, one that says in 0.3 µs instead of 90 that nothing is.
    By identity: manifests hold their schemas as long as they live, and writing one out costs more than a check."""
    held = _validators.get(id(schema))
    if held is not None and held[0] is schema:
        return held[1]
    given = dict(schema) or {"type": "object"}
    try:
        Draft202012Validator.check_schema(given)
    except SchemaError as exc:
        raise Unsupported(f"a plugin's JSON Schema is invalid: {exc.message}", reason="SCHEMA_INVALID") from exc
    if len(_validators) >= _VALIDATORS_KEPT:
        _validators.clear()
    made = Draft202012Validator(given), _quick(given)
    _validators[id(schema)] = (schema, made)
    return made


def _quick(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator | None:
    """None for a schema with references, which this library would fetch, and one with patterns that it cannot read."""
    text = json.dumps(schema)
    if '"$ref"' in text or '"$dynamicRef"' in text:
        return None
    try:
        return jsonschema_rs.Draft202012Validator(schema)
    except ValueError:
        return None


_Validators = tuple[Draft202012Validator, "jsonschema_rs.Draft202012Validator | None"]
_VALIDATORS_KEPT = 256
_validators: dict[int, tuple[Mapping[str, Any], _Validators]] = {}
"""With the schema itself, so that its id is not another's meanwhile."""


def needs(schema: Mapping[str, Any], spec: Mapping[str, Any]) -> Needs:
    """Raises InvalidArgument for a value that is no name of its kind."""
    connections: dict[str, str] = {}
    formats: dict[str, str] = {}
    repositories: dict[str, str] = {}
    for path, resource, value in _marked(_marks(schema), spec, "job.spec"):
        if resource in {"connection", "machine"}:
            connections.setdefault(connection_of(value, path), path)
        elif resource == "format":
            formats.setdefault(value, path)
        elif resource == "repository":
            repositories.setdefault(value.split("/")[1] if value.startswith("repositories/") else value, path)
    return Needs(connections, formats, repositories)


def _marks(schema: Mapping[str, Any]) -> _Mark:
    """By identity, as `_validator`."""
    held = _marks_of.get(id(schema))
    if held is not None and held[0] is schema:
        return held[1]
    if len(_marks_of) >= _VALIDATORS_KEPT:
        _marks_of.clear()
    made = _mark(schema) or _Mark()
    _marks_of[id(schema)] = (schema, made)
    return made


def _mark(schema: Mapping[str, Any]) -> _Mark | None:
    """None when nothing in it is marked."""
    resource, properties, items = (schema.get(key) for key in ("x-hypersdk-resource", "properties", "items"))
    inner = {key: _mark(s) for key, s in properties.items()} if isinstance(properties, dict) else {}
    made = _Mark(
        resource if isinstance(resource, str) else "",
        {key: mark for key, mark in inner.items() if mark is not None},
        _mark(items) if isinstance(items, dict) else None,
    )
    return made if made != _Mark() else None


def _marked(mark: _Mark, value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if mark.resource and isinstance(value, str) and value:
        yield path, mark.resource, value
    if mark.properties and isinstance(value, dict):
        for key, inner in mark.properties.items():
            if key in value:
                yield from _marked(inner, value[key], f"{path}.{key}")
    if mark.items is not None and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marked(mark.items, item, f"{path}[{index}]")


def choose(
    registry: Components, task: ActiveComponent, connection_components: Iterable[str], formats: Mapping[str, str]
) -> list[ActiveComponent]:
    """The components a runner of this job imports: the task, those of its connections, the formats it names, and
    whatever all of these say they use. `registry`: for a job that starts, a draw (hosting.canary). Raises NotFound
    (COMPONENT_UNKNOWN) or, for a format, InvalidArgument."""
    chosen = named(registry, task, connection_components, formats)
    for component in list(chosen.values()):
        for pattern in component.manifest.uses:
            for used in registry.components(pattern.partition("/")[0]):
                if fnmatch.fnmatchcase(used.name, pattern) and used.name not in chosen:
                    chosen[used.name] = registry.component(used.name)
    return list(chosen.values())


def named(
    registry: Components, task: ActiveComponent, connection_components: Iterable[str], formats: Mapping[str, str]
) -> dict[str, ActiveComponent]:
    """Of these, the ones that the job itself names, by name: all that can be missing. Raises as `choose`."""
    chosen = {task.name: task}
    for name in connection_components:
        chosen.setdefault(name, registry.component(name))
    for name, path in formats.items():
        try:
            found = registry.component(f"format/{name}")
        except NotFound as exc:
            raise InvalidArgument(
                exc.message, reason="FORMAT_UNKNOWN", violations=(FieldViolation(path, exc.message),)
            ) from exc
        chosen.setdefault(found.name, found)
    return chosen


def pins_of(components: Sequence[ActiveComponent]) -> tuple[Pin, ...]:
    """One pin for each generation among `components`."""
    by_generation: dict[str, list[ActiveComponent]] = {}
    for component in components:
        by_generation.setdefault(component.generation.name, []).append(component)
    return tuple(
        Pin(
            name,
            found[0].generation.distribution,
            found[0].generation.version,
            found[0].generation.digest,
            found[0].generation.api_version,
            tuple(sorted(c.name for c in found)),
        )
        for name, found in sorted(by_generation.items())
    )


def pinned_components(registry: Components, pins: Iterable[Pin]) -> list[ActiveComponent]:
    """The components that `pins` name. Raises FailedPrecondition (PIN_UNAVAILABLE) when a generation has gone."""
    out = []
    for pin in pins:
        generation = registry.pinned(pin)
        manifests = generation.manifest.components if generation.manifest is not None else {}
        out += [ActiveComponent(manifests[name], generation) for name in pin.components if name in manifests]
    return out


def component_to_wire(component: ActiveComponent, host: Sequence[str] = ()) -> dict[str, Any]:
    """A component as a runner's spec has it. `host`: what starts its host when it is not written in Python."""
    return {
        "entry": component.entry,
        "search_path": list(component.generation.search_path),
        "manifest": component.manifest.to_json(),
        "generation": component.generation.name,
        "digest": component.generation.digest,
        "version": component.generation.version,
        **(_host_to_wire(component, host) if host else {}),
    }


def _host_to_wire(component: ActiveComponent, host: Sequence[str]) -> dict[str, Any]:
    """What a runner needs to start a host of its own: the words, and the whole manifest to introduce it with."""
    assert component.generation.manifest is not None
    return {"host": list(host), "package": component.generation.manifest.to_json()}
