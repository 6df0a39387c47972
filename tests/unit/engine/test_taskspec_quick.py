"""The quick check of a spec never takes what the exact one refuses."""

from hypersdk.errors import InvalidArgument
from hypersdk_kernel.engine import taskspec
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["machine"],
    "properties": {
        "machine": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$", "x-hypersdk-resource": "connection"},
        "count": {"type": "integer", "minimum": 0, "maximum": 10}, "rate": {"type": "number", "exclusiveMinimum": 0},
        "mode": {"enum": ["full", "delta", None]},
        "disks": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
}  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 12), st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.text(max_size=3), st.sampled_from(["lab", "full", "delta"]),
)  # fmt: skip
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.sampled_from("ab"), scalars, max_size=2))
specs = st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]), values, max_size=5)


@given(st.one_of(specs, specs.map(lambda spec: {**spec, "machine": "lab"})))
def test_both_checks_agree_on_any_spec(spec):
    valid = Draft202012Validator(SCHEMA).is_valid(spec)
    try:
        taskspec.validate(SCHEMA, spec, "job.spec", "the spec is wrong")
        assert valid
    except InvalidArgument as exc:
        assert not valid
        assert exc.violations


def test_a_schema_with_references_has_no_quick_check_which_would_fetch_them():
    _, quick = taskspec._validator({"type": "object", "$ref": "http://127.0.0.1:9/never-asked"})
    assert quick is None
