"""`make test`: the two halves of the suite side by side.

    python -m tests.together [PYTEST ARGUMENT ...]

One half computes on one core: units, formats, documents. The other starts daemons and waits for them most of the time.
What that half says comes when both have ended. With one core, or with arguments that name what to run, it is one
pytest after all. The exit status is pytest's, the higher of the two; that nothing was collected (5) counts only when it
is so in both.

Not split further: tests with real processes have their deadlines, which three of them on two cores would miss.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_DAEMONS = ["tests", "plugins/executor-ray", "--ignore=tests/unit", "--ignore=tests/docs"]
_REST = ["tests/unit", "tests/docs", "plugins", "--ignore=plugins/executor-ray"]
_INTERRUPTED, _NOTHING_COLLECTED = 2, 5


def main(arguments: list[str]) -> int:
    pytest = [str(Path(sys.executable).with_name("pytest")), *arguments, "-m", "not soak"]
    if (os.cpu_count() or 1) < 2 or not all(argument.startswith("-") for argument in arguments):
        return subprocess.run(pytest, check=False).returncode
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        other = subprocess.Popen([*pytest, *_DAEMONS], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            codes = {subprocess.run([*pytest, *_REST], check=False).returncode}
            codes.add(other.wait())
        except KeyboardInterrupt:  # both have heard it
            codes = {other.wait(), _INTERRUPTED}
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    print(f"both halves took {time.monotonic() - began:.0f} s", flush=True)
    return max(codes - {_NOTHING_COLLECTED}, default=_NOTHING_COLLECTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
