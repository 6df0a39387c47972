"""Runs one `hyperctl image` command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from hyperctl.failures import guarded
from hyperctl.image.arguments import Command, parser


def run(arguments: Sequence[str]) -> int:
    """The exit status of `hyperctl image <arguments>`."""
    try:
        parsed = parser().parse_args(arguments)
    except SystemExit as exc:  # argparse has printed the help or what is wrong
        return exc.code if isinstance(exc.code, int) else 2
    command = cast("Command", import_module(f"hyperctl.image.{parsed.command}"))
    return guarded(lambda: command.run(parsed), f"image {parsed.command}")
