"""`hyperctl image` starts fast because of what it does not import. Modules are counted, not milliseconds."""

import subprocess
import sys

import pytest

HEAVY = ("grpc", "rich", "typer", "yaml", "pydantic", "google.protobuf", "asyncio")


def modules_after(*arguments: str) -> set[str]:
    """Names of the modules loaded when a command line has run in a fresh interpreter."""
    script = "import sys; from hyperctl.__main__ import main; s = main(sys.argv[1:]); print('\\n'.join(sys.modules)); "
    done = subprocess.run(
        [sys.executable, "-c", script + "sys.exit(s)", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(1 << 20))
    return str(path)


def test_image_info_imports_nothing_heavy(raw):
    loaded = modules_after("image", "info", raw)
    assert "hypersdk.data.images" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_image_info_of_a_raw_image_needs_no_numpy(raw):
    assert "numpy" not in modules_after("image", "info", "-f", "raw", raw)


def test_image_help_imports_no_data_path():
    loaded = modules_after("image", "info", "-f", "raw", "--output", "json", "--help")
    assert not any(name.startswith("hypersdk.data") for name in loaded)
    assert sorted(loaded & {*HEAVY, "numpy"}) == []


def test_converting_imports_no_grpc_and_no_rich(raw, tmp_path):
    loaded = modules_after("image", "convert", "-O", "qcow2", raw, str(tmp_path / "b.qcow2"))
    assert sorted(loaded & set(HEAVY)) == []
