"""`hypersdk.plugin` gives every public name, and imports no more than what is asked for."""

import subprocess
import sys

import hypersdk.plugin as package


def test_every_public_name_is_there():
    assert set(package.__all__) == set(package._HOME_OF)
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert dir(package) == sorted(package.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(package, "Nonsense")


def test_a_format_does_not_import_the_contracts_of_providers():
    code = "import sys; from hypersdk.plugin import ImageFormat; print('hypersdk.plugin.provider' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
