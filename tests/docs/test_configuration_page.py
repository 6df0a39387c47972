"""docs/configuration.md has a row for every setting of the daemon, with its default and its variable."""

import re
from pathlib import Path

from hypersdk_kernel.server.config import ENV_PREFIX, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \|.*\| `(HYPERSDK_[A-Z_]+)` \|$", re.MULTILINE)


def test_every_setting_has_a_row_and_every_row_a_setting():
    assert [name for name, _, _ in ROW.findall(PAGE)] == list(Settings.model_fields)


def test_each_row_names_the_variable_that_is_read():
    assert {name: variable for name, _, variable in ROW.findall(PAGE)} == {
        name: ENV_PREFIX + name.upper() for name in Settings.model_fields
    }


def test_each_row_tells_the_default():
    for name, default, _ in ROW.findall(PAGE):
        field = Settings.model_fields[name]
        if field.default_factory is None and field.default != ():
            told = default.strip().strip("`")
            value = field.default
            assert told in {str(value), str(value).lower(), f"{value:g}" if isinstance(value, float) else ""}, name
