"""Runs one `hyperctl image` command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from hyperctl.failures import guarded
from hyperctl.image.arguments import Command, parser
from hyperctl.image.options import missing_files


def run(arguments: Sequence[str]) -> int:
    """The exit status of `hyperctl image <arguments>`."""
    syntax = parser()
    try:
        parsed = syntax.parse_args(arguments)
        if missing := missing_files(parsed):
            syntax.error(f"the following arguments are required: {', '.join(missing)}")
    except SystemExit as exc:  # argparse has printed the help or what is wrong
        return exc.code if isinstance(exc.code, int) else 2
    # numpy's linear algebra, which nobody here uses, starts a thread a core when it is imported: 10 to 60 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command = cast("Command", import_module(f"hyperctl.image.{parsed.command}"))
    return guarded(lambda: command.run(parsed), f"image {parsed.command}")
