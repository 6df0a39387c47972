"""`python -I -m hypersdk.runner --spec-fd N`: execute the attempt that the memory file N describes."""

from __future__ import annotations

import sys

from hypersdk.runner.attempt import main

_ARGUMENTS = 3

if len(sys.argv) != _ARGUMENTS or sys.argv[1] != "--spec-fd" or not sys.argv[2].isdecimal():
    sys.exit("usage: python -I -m hypersdk.runner --spec-fd N   (started by the kernel)")
main(int(sys.argv[2]))
