"""Checks of what lies there, without running any of it: manifest, entry points, packaging, documents, imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypersdk.host.calls import ADAPTERS
from hypersdk.host.instances import CONNECTED_KINDS
from hypersdk.plugin.manifest import API_VERSION, ComponentManifest, Manifest
from hypersdk.testing.conformance.checks import Failed, Group, Skipped, Warned
from hypersdk.testing.conformance.kinds import DISK_METHODS, RUNTIME, methods_of
from hypersdk.testing.conformance.project import Project

STATIC: Group[Project] = Group()

_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?", re.IGNORECASE)
_REASON_ROW = re.compile(r"`([A-Z][A-Z0-9_]{2,62})`")
_MOST_SOURCE = 4 << 20


def _manifest(project: Project) -> Manifest:
    if project.manifest is None:
        raise Skipped("there is no sound manifest to look at")
    return project.manifest


def _components(project: Project) -> Iterator[ComponentManifest]:
    yield from _manifest(project).components.values()


@STATIC.check(
    "manifest.sound", "The package has a manifest.json that the kernel can read.",
    mend="Put manifest.json beside the entry point's module, as package data; docs/plugins/manifest.md has the fields.",
)  # fmt: skip
def _sound(project: Project) -> None:
    if project.manifest is None:
        raise Failed(project.manifest_fault)


@STATIC.check(
    "manifest.name", "The manifest names its own distribution.",
    mend="Set `name` to [project].name.",
)  # fmt: skip
def _name(project: Project) -> None:
    if normal(_manifest(project).name) != normal(project.distribution):
        raise Failed(f"the manifest says {_manifest(project).name!r}, the distribution is {project.distribution!r}")


@STATIC.check(
    "manifest.api", "It was written against contracts that this SDK has.",
    mend="Set `api_version` to the lowest version that has all you use; install a newer hypersdk for a newer one.",
)  # fmt: skip
def _api(project: Project) -> None:
    version = _manifest(project).api_version
    if version[0] != API_VERSION[0] or version > API_VERSION:
        raise Failed(f"api_version {version[0]}.{version[1]}; this SDK has {API_VERSION[0]}.{API_VERSION[1]}")


@STATIC.check(
    "entries.agree", "Components and entry points are the same set.",
    mend='One entry point `<id> = "module:Class"` in [project.entry-points."hypersdk.<kind>"] for each component, and '
    "none besides.",
)  # fmt: skip
def _entries(project: Project) -> None:
    declared, offered = set(_manifest(project).components), set(project.entries)
    faults = [f"no entry point for {name}" for name in sorted(declared - offered)]
    faults += [f"the manifest has no {name}" for name in sorted(offered - declared)]
    if faults:
        raise Failed("; ".join(faults))


@STATIC.check(
    "entries.present", "The modules that entry points name are in the distribution.",
    mend="Correct the entry point, or ship the module; `module:Class` is a dotted module name and a class in it.",
)  # fmt: skip
def _present(project: Project) -> None:
    for component, entry in project.entries.items():
        module, colon, name = entry.partition(":")
        path = project.modules.joinpath(*module.split("."))
        if project.manifest is not None and project.manifest.host is not None:
            if not path.is_dir():
                raise Failed(f"{component}: there is no package {module!r}")
            continue  # a plugin in another language: a package of files without a module
        if not colon or not name:
            raise Failed(f"{component}: {entry!r} is not module:Class")
        if not path.with_suffix(".py").is_file() and not (path / "__init__.py").is_file():
            raise Failed(f"{component}: there is no module {module!r}")


@STATIC.check(
    "manifest.summaries", "Plugin and components say in a line what they are.",
    mend="Give `summary` to the plugin and to every component; people see it in lists.",
)  # fmt: skip
def _summaries(project: Project) -> None:
    missing = [c.name for c in _components(project) if not c.summary]
    missing += [] if _manifest(project).summary else ["the plugin"]
    if missing:
        raise Failed(f"no summary: {', '.join(missing)}")


@STATIC.check(
    "schema.closed", "Schemas refuse unknown fields, so a misspelt one is noticed when it is typed.",
    mend='Set "additionalProperties": false on every object that has properties.',
)  # fmt: skip
def _closed(project: Project) -> None:
    for component in _components(project):
        for schema in (component.config_schema, component.spec_schema):
            where = _open_object(schema, component.name)
            if where:
                raise Failed(f"{where} takes unknown fields")


@STATIC.check(
    "schema.present", "Kinds that are configured have a config schema, tasks a spec schema.",
    mend="Add `config_schema` (providers, storages, notifiers, …) or `spec_schema` (tasks); an empty one has no "
    "properties.",
)  # fmt: skip
def _schemas(project: Project) -> None:
    for component in _components(project):
        connected = component.kind in CONNECTED_KINDS or "run" in component.capabilities
        if connected and not component.config_schema:
            raise Failed(f"{component.name} has no config_schema")
        if component.kind == "task" and not component.spec_schema:
            raise Failed(f"{component.name} has no spec_schema")


@STATIC.check(
    "schema.secrets", "Secrets are marked, and are strings that take references.",
    mend='Give such a property "secret": true and "type": "string"; its value then comes in `secrets`, not in config.',
)  # fmt: skip
def _secrets(project: Project) -> None:
    suspicious = re.compile(r"(password|passwd|secret|api_?key|private_key|credential)", re.IGNORECASE)
    for component in _components(project):
        properties = component.config_schema.get("properties")
        for name, schema in properties.items() if isinstance(properties, dict) else ():
            marked = isinstance(schema, dict) and schema.get("secret") is True
            if marked and schema.get("type") != "string":
                raise Failed(f"{component.name}: secret {name!r} is not of type string")
            if not marked and suspicious.search(name) and not name.endswith(("_file", "_name", "_id")):
                raise Failed(f"{component.name}: {name!r} looks like a secret and is not marked as one")


@STATIC.check(
    "methods.known", "Method policies name methods of their kind.",
    mend="Use the names of docs/host-protocol.md; a policy for a method that nobody calls is a typing mistake.",
)  # fmt: skip
def _methods(project: Project) -> None:
    for component in _components(project):
        known = methods_of(component.kind)
        if component.kind == "provider" and _manifest(project).host is not None:
            known |= DISK_METHODS
        unknown = set(component.methods) - known
        if known and unknown and not component.descriptor_set:  # methods of its own service have policies too
            raise Failed(f"{component.name}: {', '.join(sorted(unknown))}; the kind has {', '.join(sorted(known))}")


@STATIC.check(
    "methods.reads", "Methods that only read are declared idempotent, so that they survive a crash of the host.",
    mend='Add {"idempotent": true} for Get…, List…, Health and Plan.',
)  # fmt: skip
def _reads(project: Project) -> None:
    for component in _components(project):
        known = methods_of(component.kind)
        reads = {m for m in known if m.startswith(("Get", "List", "Health", "Plan", "Inspect", "Estimate", "Compare"))}
        missing = sorted(m for m in reads if not (m in component.methods and component.methods[m].idempotent))
        if missing:
            raise Warned(f"{component.name}: {', '.join(missing)}")


@STATIC.check(
    "errors.documented", "Every reason that the manifest declares is explained in the README.",
    mend="A table with reason, class and when; users meet these words in their terminal.",
)  # fmt: skip
def _documented(project: Project) -> None:
    text = _readme(project)
    known = set(_REASON_ROW.findall(text))
    missing = sorted({r for c in _components(project) for r in c.errors} - known - RUNTIME)
    if missing:
        raise Warned(f"not in the README: {', '.join(missing[:12])}")


@STATIC.check(
    "package.readme", "There is a README that tells how it is configured and used.",
    mend="Write one, and name it in [project].readme.",
)  # fmt: skip
def _has_readme(project: Project) -> None:
    if len(_readme(project)) < 200:
        raise Failed("it says next to nothing")


@STATIC.check(
    "package.metadata", "The distribution has a name, a version, a Python version and a license.",
    mend="Complete [project] of pyproject.toml: name, version, requires-python, license.",
)  # fmt: skip
def _metadata(project: Project) -> None:
    if not project.distribution or not _VERSION.fullmatch(project.version):
        raise Failed(f"name {project.distribution!r}, version {project.version!r}")
    missing = [n for n, v in (("requires-python", project.requires_python), ("license", project.license)) if not v]
    if missing:
        raise Warned(f"[project] has no {' and no '.join(missing)}")


@STATIC.check(
    "package.requires", "It requires hypersdk, and neither the kernel nor another plugin.",
    mend="Depend on hypersdk with a lower bound; what two plugins share is a library of its own.",
)  # fmt: skip
def _requires(project: Project) -> None:
    names = [normal(re.split(r"[\s\[<>=!~;(]", text, maxsplit=1)[0]) for text in project.requires]
    if "hypersdk" not in names and any(project.modules.rglob("*.py")):
        raise Failed("hypersdk is not among its dependencies")
    kinds = tuple(f"hypersdk-{kind}-" for kind in ADAPTERS)
    wrong = [n for n in names if n in {"hypersdk-kernel", "hyperctl"} or n.startswith(kinds)]
    if wrong:
        raise Failed(f"it requires {', '.join(wrong)}")


@STATIC.check(
    "package.imports", "Its modules import neither the kernel nor another plugin.",
    mend="Use the contracts of hypersdk.plugin and the context that a call is given.",
)  # fmt: skip
def _imports(project: Project) -> None:
    own = {folder.name for folder in project.packages()}
    for folder in project.packages():
        for path in sorted(folder.rglob("*.py")):
            for name in _imported(path):
                top = name.partition(".")[0]
                foreign = top in {"hypersdk_kernel", "hyperctl"} or re.match(rf"hypersdk_({'|'.join(ADAPTERS)})_", top)
                if foreign and top not in own:
                    raise Failed(f"{path.relative_to(project.modules)} imports {name}")


@STATIC.check(
    "package.tests", "It has tests, and they subclass the conformance class of each of its kinds.",
    mend="Subclass the class of hypersdk.testing that docs/plugins/<kind>.md names, as the templates do.",
)  # fmt: skip
def _tests(project: Project) -> None:
    if project.is_wheel:
        raise Skipped("a wheel has no tests in it; point to the source folder")
    if project.tests is None:
        raise Failed("there is no folder tests/")
    text = "".join(path.read_text("utf-8", "replace") for path in sorted(project.tests.rglob("*.py")))
    wanted = {
        "provider": "ProviderContract", "format": "FormatContract", "storage": "StorageContract",
        "task": "TaskContract", "notifier": "NotifierContract", "pricing": "PriceTableContract",
        "secrets": "SecretSourceContract", "service": "ServiceContract",
        "carbon": "CarbonSourceContract",
    }  # fmt: skip
    judged = [c for c in _components(project) if c.kind != "service" or "run" in c.capabilities]
    missing = [wanted[c.kind] for c in judged if c.kind in wanted and wanted[c.kind] not in text]
    if missing and any(project.modules.rglob("*.py")):
        raise Warned(f"no test mentions {', '.join(sorted(set(missing)))}")


def normal(name: str) -> str:
    """A distribution's name as it compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _readme(project: Project) -> str:
    places = (project.root / (project.readme or "README.md"), _installed_readme(project))
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise Failed("there is none")
    return path.read_text("utf-8", "replace")[:_MOST_SOURCE]


def _installed_readme(project: Project) -> Path:
    return next(project.root.glob("*.dist-info/METADATA"), project.root / "METADATA")


def _open_object(schema: Any, where: str) -> str:
    """The first object of a schema that takes unknown fields."""
    if isinstance(schema, list):
        return next((found for value in schema if (found := _open_object(value, where))), "")
    if not isinstance(schema, dict) and not hasattr(schema, "items"):
        return ""
    if schema.get("type") == "object" and "properties" in schema and schema.get("additionalProperties") is not False:
        return where
    return next((found for key, value in schema.items() if (found := _open_object(value, f"{where}.{key}"))), "")


def _imported(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes()[:_MOST_SOURCE])
    except SyntaxError as exc:
        raise Failed(f"{path.name} does not compile: {exc}") from exc
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
