"""Every installed image format against damaged images of its own, for SOAK_SECONDS each (default 120).

The damage follows from a seed, SOAK_SEED or by the clock, which a failure tells: run it again with that and
SOAK_SECONDS=0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypersdk.data.images import FormatRegistry
from soak.samples import build

CHILD = Path(__file__).with_name("fuzz_child.py")
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
SEED = int(os.environ.get("SOAK_SEED") or time.time() * 1000)


@pytest.mark.soak
@pytest.mark.parametrize("name", FormatRegistry.installed().names())
def test_damaged_images_give_typed_errors_or_right_lengths(tmp_path, name):
    samples = build(name, tmp_path)
    assert samples, f"no sample of {name}: qemu-img (qemu-utils) writes it"
    done = subprocess.run(
        [sys.executable, CHILD, name, str(SEED), str(SECONDS), *samples],
        capture_output=True, text=True, check=False, timeout=SECONDS * 3 + 120,
    )  # fmt: skip
    last = "\n".join(done.stdout.splitlines()[-1:])
    print(f"{name}: from seed {SEED}: {last}")
    assert done.returncode == 0, f"{name}: status {done.returncode}, last tried: {last}\n{done.stderr[-6000:]}"
