"""`python -I -m hypersdk.runner --spec-fd N`: execute the attempt that the memory file N describes.

`--brief-fd N`: serve batches of brief tasks instead (hypersdk.runner.brief).
"""

from __future__ import annotations

import sys

_ARGUMENTS = 3

if len(sys.argv) != _ARGUMENTS or sys.argv[1] not in {"--spec-fd", "--brief-fd"} or not sys.argv[2].isdecimal():
    sys.exit("usage: python -I -m hypersdk.runner --spec-fd N | --brief-fd N   (started by the kernel)")
if sys.argv[1] == "--brief-fd":
    from hypersdk.runner.brief import main
else:
    from hypersdk.runner.attempt import main
main(int(sys.argv[2]))
