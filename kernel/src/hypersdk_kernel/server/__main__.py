"""`hypersdkd [run | backup-state FILE | restore-state FILE]`: flags, logging, the loop, and the exit status.

0 stopped on request, 1 could not start or failed, 2 wrong flag or setting, 6 the state directory is another daemon's.
"""

from __future__ import annotations

import os

# Before anything imports grpc: its fork handlers cost a lock a call, and this process never forks.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import asyncio
import gc
import sys
from collections.abc import Sequence

from hypersdk.errors import Aborted, HyperError, InvalidArgument, from_exception

from hypersdk_kernel.server.config import CONFIG_VARIABLE, load, parse_command_line
from hypersdk_kernel.server.telemetry import configure

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFLICT = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; its exit status."""
    line = parse_command_line(sys.argv[1:] if arguments is None else arguments)
    try:
        if line.config is not None:
            if not line.config.is_file():
                raise InvalidArgument(f"--config: there is no file {line.config}", reason="CONFIG_INVALID")
            os.environ[CONFIG_VARIABLE] = str(line.config)
        settings = load(line.flags)
        configure(settings.log_level, settings.log_format)
        if line.file is not None:
            from hypersdk_kernel.server import statecommands

            change = statecommands.backup if line.command == "backup-state" else statecommands.restore
            sys.stdout.write(change(settings, line.file))
            return 0

        # Modules are for ever: collecting while they load costs 0.1 s of the start, and looking at them in every later
        # full collection would show in the slowest calls.
        gc.disable()
        from hypersdk_kernel.server.app import run

        gc.freeze()
        gc.enable()
        asyncio.run(run(settings))
    except HyperError as exc:
        return _failed(exc)
    except OSError as exc:
        return _failed(from_exception(exc, doing="hypersdkd"))
    return 0


def _failed(error: HyperError) -> int:
    sys.stderr.write(f"hypersdkd: {error.message} [{error.reason}]\n")
    if isinstance(error, InvalidArgument):
        return EXIT_USAGE
    return EXIT_CONFLICT if isinstance(error, Aborted) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
