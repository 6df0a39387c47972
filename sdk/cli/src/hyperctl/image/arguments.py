"""The parser of `hyperctl image`: argparse, because it imports in 10 ms (typer: 60 to 100). Options are qemu-img's."""

from __future__ import annotations

import argparse
from typing import Protocol

from hypersdk.errors import HyperError

from hyperctl.units import parse_size


class Command(Protocol):
    """What a command's module has."""

    def run(self, arguments: argparse.Namespace, /) -> int: ...


def size(text: str) -> int:
    """An argparse type."""
    try:
        return parse_size(text)
    except HyperError as exc:
        raise argparse.ArgumentTypeError(exc.message) from exc


def count(text: str) -> int:
    """An argparse type: a whole number from 1 to 256."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The parser; the parsed namespace's `command` names the module that runs it."""
    top = argparse.ArgumentParser(
        prog="hyperctl image",
        description="Look at, convert, check and compare image files, without a daemon.",
        epilog="`hyperctl image COMMAND --help` tells more. Formats and options are those of the installed plugins.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _info(commands.add_parser("info", help="what an image is", description="Show an image's metadata."))
    _convert(
        commands.add_parser(
            "convert",
            help="write an image in another format",
            description="Write what SRC holds to DST. DST gets its name when it is complete and synced.",
        )
    )
    _compare(
        commands.add_parser(
            "compare",
            help="do two images hold the same",
            description="Compare contents, whatever the formats. Exit status: 0 same, 1 different, 2 or more: error.",
        )
    )
    _check(
        commands.add_parser(
            "check",
            help="look for damage",
            description="Check an image's tables. Exit status: 0 sound, 1 not checked, 2 corrupt, 3 leaks, 63 the "
            "format has no check.",
        )
    )
    _map(commands.add_parser("map", help="which ranges hold data", description="Show the extents of an image."))
    _measure(
        commands.add_parser(
            "measure", help="how large it would become", description="Upper bound of the converted file's size."
        )
    )
    return top


def _source_format(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", metavar="FMT", dest="source_format", default="", help="format; probed if left out")


def _output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", choices=("human", "json"), default="human", help="how to print")


def _target(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-O", metavar="FMT", dest="target_format", default="", help="target format; by DST's extension if left out"
    )
    command.add_argument(
        "-o", metavar="KEY=VALUE,…", dest="options", action="append", default=[],
        help="options of the target format; `-o help` lists them",
    )  # fmt: skip


def _talk(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", "--progress", action="store_true", help="show progress")
    command.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def _info(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    _output(command)
    command.add_argument(
        "--backing-chain", "--chain", dest="chain", action="store_true",
        help="also of its backing files in its own directory",
    )  # fmt: skip
    command.add_argument("file", metavar="FILE")


def _convert(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    _target(command)
    _talk(command)
    command.add_argument(
        "-B", metavar="BASE", dest="base", default="",
        help="write only what differs from BASE, a plain file name in DST's directory",
    )  # fmt: skip
    command.add_argument(
        "-F", metavar="FMT", dest="base_format", default="", help="format of BASE; probed if left out"
    )  # fmt: skip
    command.add_argument("-c", "--compress", action="store_true", help="compress the target, if its format can")
    command.add_argument("--chain", action="store_true", help="follow SRC's and BASE's backing files")
    command.add_argument("--parallel", metavar="N", type=count, default=0, help="threads; all cores if left out")
    command.add_argument("--rate-limit", metavar="SIZE", type=size, default=0, help="bytes a second, such as 200MiB")
    command.add_argument("--resume", action="store_true", help="go on where an interrupted --resume run stopped")
    command.add_argument(
        "--no-sync", dest="sync", action="store_false",
        help="as qemu-img does: do not wait until DST is on the disk; a power cut may damage it",
    )  # fmt: skip
    command.add_argument("source", metavar="SRC", nargs="?", default="")
    command.add_argument("target", metavar="DST", nargs="?", default="")


def _compare(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    command.add_argument("-F", metavar="FMT", dest="second_format", default="", help="format of the second image")
    command.add_argument("-s", "--strict", action="store_true", help="sizes and allocation must be equal too")
    command.add_argument("--chain", action="store_true", help="follow backing files in the images' directories")
    _talk(command)
    command.add_argument("first", metavar="A")
    command.add_argument("second", metavar="B")


def _check(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    _output(command)
    command.add_argument("-r", "--repair", choices=("leaks", "all"),
                         help="mend in place: what nothing uses, or whatever needs no guess")  # fmt: skip
    command.add_argument("file", metavar="FILE")


def _map(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    _output(command)
    command.add_argument("file", metavar="FILE")


def _measure(command: argparse.ArgumentParser) -> None:
    _source_format(command)
    _target(command)
    _output(command)
    command.add_argument("file", metavar="FILE", nargs="?", default="")
