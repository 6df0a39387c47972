"""Which label a filter demands, so that an index on labels may answer it."""

import pytest
from hypersdk_kernel.model.filter import parse


@pytest.mark.parametrize(
    ("text", "demanded"),
    [
        ("labels.env = prod", ("env", "prod")),
        ('state = QUEUED AND labels."example.com/team" = "a b"', ("example.com/team", "a b")),
        ("labels.env = prod AND labels.team = a", ("env", "prod")),
        ("labels.env = prod OR labels.team = a", None),
        ("NOT labels.env = prod", None),
        ("labels.env = pro*", None),
        ("labels:env", None),
        ("labels.env != prod", None),
        ("labels.env > a", None),
        ("other.env = prod", None),
        ("", None),
    ],
)
def test_only_what_everything_that_passes_must_have_is_demanded(text, demanded):
    assert parse(text).demanded("labels") == demanded
