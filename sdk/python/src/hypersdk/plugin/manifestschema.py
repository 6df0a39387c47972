"""The manifest's JSON Schema and its reference page, both made from the parser's own tables and the texts below.

`manifest.schema.json` beside this module is for editors and for programs in other languages; docs/plugins/manifest.md
is for people. `python -m hypersdk.plugin.manifestschema SCHEMA PAGE` writes both; a test compares them with what is
committed, and the schema's verdict with the parser's.

Not here: parsing (manifest).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypersdk.plugin import manifest, needs
from hypersdk.plugin.hostcommand import MAX_WORDS

_STRINGS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "if": {"minProperties": 1},
    "then": {"properties": {"type": {"const": "object"}}, "required": ["type"]},
}

FIELDS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "summary": ("all", {"type": "string"}, "One line that says what the component is; shown in lists."),
    "aliases": ("format", _STRINGS, "Other names by which users may ask for the format."),
    "extensions": ("format", _STRINGS, "File name extensions, with the dot, that the format is taken for."),
    "capabilities": (
        "all",
        {"type": "array", "items": {"type": "string", "pattern": manifest._CAPABILITY.pattern}},  # noqa: SLF001
        "What it can do beyond what every component of its kind can; each kind's guide lists them. What is not "
        "declared is never asked for, what is declared must work.",
    ),
    "concurrency": (
        "all",
        {"enum": ["serial", "per_handle", "parallel"], "default": "serial"},
        "Calls that one host is sent at once: one (`serial`), one for each connection (`per_handle`), any number "
        "(`parallel`).",
    ),
    "config_schema": (
        "provider, storage, notifier, secrets, service, executor",
        _SCHEMA,
        "JSON Schema 2020-12 of `Connection.config`. A property with `\"secret\": true` takes a reference, never a "
        "value; of services, one with `\"listen\": true` is an address to listen on.",
    ),
    "spec_schema": (
        "task",
        _SCHEMA,
        "JSON Schema of `Job.spec`. A string property may carry `\"x-hypersdk-resource\"`: `\"connection\"`, "
        "`\"machine\"` or `\"format\"`; from these the kernel knows which connections a job is granted and "
        "which plugins it pins.",
    ),
    "uses": (
        "task, provider",
        _STRINGS,
        "Components that a runner imports beside it, such as `format/*`.",
    ),
    "network": (
        "all",
        _STRINGS,
        "Where it connects to: `host:443`, `:443`, `unix`; of anything else any port is taken. Of a confined host "
        "nothing else is let through: security.md.",
    ),
    "errors": (
        "all",
        {"type": "array", "items": {"type": "string", "pattern": manifest._REASON.pattern}},  # noqa: SLF001
        "Reasons of the errors that it raises on purpose. An error that is not declared counts as a defect while a new "
        "version is on probation.",
    ),
    "descriptor_set": (
        "all",
        {"type": "string", "pattern": f"^$|{manifest._FILE.pattern}"},  # noqa: SLF001
        "The name of a file beside manifest.json: the protobuf descriptors of a gRPC service of its own.",
    ),
    "methods": (
        "all",
        {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "idempotent": {"type": "boolean", "default": False},
                    "timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 30.0},
                },
            },
        },
        "How the kernel may call a method: `idempotent`, whether it may be repeated on a fresh host after a crash; "
        "`timeout_s`, seconds, where the caller's deadline is later or absent.",
    ),
}
"""Component field → the kinds that it is for, its schema, what it means."""

TOP: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "manifest_version": ({"const": 1}, "The form of this file: 1."),
    "name": ({"type": "string", "pattern": manifest._NAME.pattern}, "The distribution's name, as in pyproject.toml."),  # noqa: SLF001
    "api_version": (
        {"type": "string", "pattern": manifest._VERSION.pattern},  # noqa: SLF001
        "The contracts it was written against, `major.minor`: the lowest that has all it uses. See versioning.md.",
    ),
    "summary": ({"type": "string"}, "One line that says what the plugin is."),
    "host": (
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["command"],
            "properties": {
                "command": {
                    "type": "array", "minItems": 1, "maxItems": MAX_WORDS, "items": {"type": "string", "minLength": 1}
                }
            },
        },
        "Only of a plugin that is not written in Python: `{\"command\": [\"node\", \"${package}/host.mjs\"]}` starts "
        "its host. The first word is an interpreter that the operator allows, or a file below `${package}/`, the "
        "folder of manifest.json; `--fd N` is appended. See ../host-protocol.md.",
    ),
    "components": ({}, "What it contributes: `kind/id` → component, one for each entry point, at least one."),
    "filesystem": (
        {"type": ["array", "null"], "items": {"type": "string", "pattern": f"^({needs.NEED.pattern})$"}},
        "Files that its host needs beside Python and its own: `any:read`, `any:write`, `config:FIELD`, `path:/PATH`, "
        "`path:/PATH:write`. What is not named is not granted; without the field see security.md.",
    ),
    "limits": (
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"type": "integer" if kind is int else "number", "minimum": low, "maximum": high}
                for name, (kind, low, high) in needs.RANGES.items()
            },
        },
        "What its host may use at most: `memory_bytes`, `open_files`, `processes`, `cpu_share` of a core without a "
        "call. The daemon's settings are never exceeded.",
    ),
}
_REQUIRED = ("manifest_version", "name", "api_version", "components")


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of manifest.json."""
    kinds = "|".join(sorted(manifest.KINDS))
    pattern = manifest._COMPONENT.pattern.replace("[a-z]+", kinds, 1)  # noqa: SLF001
    component = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {**found, "description": text} for name, (_, found, text) in FIELDS.items()},
    }
    properties: dict[str, Any] = {name: {**found, "description": text} for name, (found, text) in TOP.items()}
    properties["components"] |= {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": pattern},
        "additionalProperties": component,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "HyperSDK plugin manifest",
        "type": "object",
        "additionalProperties": False,
        "required": list(_REQUIRED),
        "properties": properties,
    }


def page(example: str) -> str:
    """The reference page. `example`: the text of a manifest to show."""
    lines = [
        "# The manifest", "",
        "<!-- made by `python -m hypersdk.plugin.manifestschema`; change the texts there -->", "",
        "`manifest.json` is package data beside the module that the entry points name. The kernel reads it without",
        "running any of the plugin's code, and holds the plugin to it: what is not declared is refused or never asked",
        "for. As JSON Schema: `hypersdk/plugin/manifest.schema.json` in the SDK. At most 1 MiB; unknown fields are",
        "refused.", "",
        "| field | required | value | meaning |", "|---|---|---|---|",
        *(f"| `{name}` | {'yes' if name in _REQUIRED else ''} | {_value(found)} | {text} |"
          for name, (found, text) in TOP.items()), "",
        "## Components", "",
        f"Kinds: {', '.join(f'`{kind}`' for kind in sorted(manifest.KINDS))}.",
        "An id has up to 63 lower-case letters, digits and hyphens, and neither begins nor ends with a hyphen.", "",
        "| field | kinds | value | meaning |", "|---|---|---|---|",
        *(f"| `{name}` | {kinds} | {_value(found)} | {text} |" for name, (kinds, found, text) in FIELDS.items()), "",
        "Every field of a component may be left out; it is then empty, `concurrency` is `serial`.", "",
        "## An example", "", "```json", example.strip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _value(found: Mapping[str, Any]) -> str:
    if "const" in found:
        return f"`{json.dumps(found['const'])}`"
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"])
    if found.get("type") == "array":
        pattern = found["items"].get("pattern", "")
        return "list of strings" + (f" like `{pattern}`" if pattern else "")
    if isinstance(found.get("type"), list):
        return "list of strings"
    pattern = str(found.get("pattern", "")).removeprefix("^$|").replace("|", "\\|")
    return str(found.get("type", "object")) + (f" like `{pattern}`" if pattern else "")


def main(arguments: Sequence[str]) -> int:
    """Write the schema and the page."""
    from hypersdk.templates import plan

    schema_path, page_path = map(Path, arguments)
    files = plan("storage", "acme", Path("/nonexistent").with_name("x-manifest-page")).files
    example = next(text for name, text in files.items() if name.endswith("manifest.json"))
    schema_path.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page_path.write_text(page(example), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
