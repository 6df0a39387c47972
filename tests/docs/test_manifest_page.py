"""docs/plugins/manifest.md, manifest.schema.json and the parser say the same."""

import copy
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypersdk.errors import InvalidArgument
from hypersdk.plugin import manifest, manifestschema
from hypersdk.plugin.manifest import Manifest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "sdk" / "python" / "src" / "hypersdk" / "plugin" / "manifest.schema.json"
PAGE = ROOT / "docs" / "plugins" / "manifest.md"
MAKE = f"run: .venv/bin/python -m hypersdk.plugin.manifestschema {SCHEMA.relative_to(ROOT)} {PAGE.relative_to(ROOT)}"
MANIFESTS = sorted((ROOT / "plugins").glob("*/src/*/manifest.json"))


def test_schema_and_page_are_fresh(tmp_path):
    manifestschema.main([str(tmp_path / "schema"), str(tmp_path / "page")])
    assert SCHEMA.read_text() == (tmp_path / "schema").read_text(), MAKE
    assert PAGE.read_text() == (tmp_path / "page").read_text(), MAKE


def test_the_schema_is_package_data():
    assert json.loads(files("hypersdk.plugin").joinpath("manifest.schema.json").read_text()) == manifestschema.schema()


def test_every_field_that_the_parser_knows_is_described():
    assert set(manifestschema.FIELDS) == manifest._FIELDS
    jsonschema.Draft202012Validator.check_schema(manifestschema.schema())


VALIDATOR = jsonschema.Draft202012Validator(manifestschema.schema())


def parsed(document) -> bool:
    try:
        Manifest.parse(json.dumps(document))
    except InvalidArgument:
        return False
    return True


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.parent.name)
def test_our_manifests_satisfy_both(path):
    document = json.loads(path.read_text())
    assert parsed(document)
    VALIDATOR.validate(document)


SAMPLE = {
    "manifest_version": 1, "name": "hypersdk-storage-x", "api_version": "1.0", "summary": "s",
    "components": {
        "storage/x": {
            "summary": "s", "capabilities": ["usage"], "concurrency": "parallel", "config_schema": {"type": "object"},
            "errors": ["AN_ERROR"], "methods": {"Health": {"idempotent": True, "timeout_s": 5}},
        }
    },
}  # fmt: skip
ODD = st.sampled_from(
    [None, True, 0, 1, 1.5, "", "x", "1.0", "2", [], ["x"], ["A_REASON"], [1], {}, {"type": "object"},
     {"type": "string"}, {"x": 1},
     {"Health": {}}, {"Health": {"timeout_s": 0}}, {"Health": {"timeout_s": True}}, {"storage/y": {}},
     {"widget/y": {}}, {"storage/-": {}}, {"storage/y": []}, "serial", "sometimes"]
)  # fmt: skip
PLACES = st.sampled_from(
    [*((name,) for name in (*manifestschema.TOP, "other")),
     *(("components", "storage/x", name) for name in (*manifestschema.FIELDS, "other"))]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(PLACES, ODD), min_size=1, max_size=2))
def test_the_schema_and_the_parser_agree(changes):
    document = copy.deepcopy(SAMPLE)
    for place, value in changes:
        target = document
        for key in place[:-1]:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[place[-1]] = value
    assert parsed(document) == VALIDATOR.is_valid(document), document
