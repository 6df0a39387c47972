"""`python -I -m hypersdk.host --fd N`: serve one plugin generation on the connected socket N."""

from __future__ import annotations

import sys

from hypersdk.host.server import serve

_ARGUMENTS = 3

if len(sys.argv) != _ARGUMENTS or sys.argv[1] != "--fd" or not sys.argv[2].isdecimal():
    sys.exit("usage: python -I -m hypersdk.host --fd N   (started by the kernel; N is a connected socket)")
serve(int(sys.argv[2]))
