"""Every numbered example runs, as its README says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.peer
def test_example_01_exports_a_real_disk_and_all_checksums_agree():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "01-export-a-disk" / "demo.py"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All checksums agree." in done.stdout
    assert done.stdout.count("job.succeeded") == 1
    shas = {line.rsplit(None, 1)[-1] for line in done.stdout.splitlines() if "content" in line and "sha256" in line}
    assert len(shas) == 1


def test_every_example_has_a_readme_and_is_named_in_a_test():
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    for folder in sorted(p for p in EXAMPLES.iterdir() if p.is_dir()):
        assert (folder / "README.md").exists(), folder.name
        assert folder.name in tests, folder.name
