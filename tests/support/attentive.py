"""hyperctl as a process that hears Ctrl-C even when the tests run as a background job: a shell starts such jobs with
SIGINT
ignored, Python leaves it so, and a test that sends one would wait for ever."""

import sys

_CODE = """
import signal, sys
from hyperctl.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""

HYPERCTL = [sys.executable, "-u", "-c", _CODE]
"""The command; its arguments follow."""
