"""How the host of a generation that is not written in Python is started: its manifest's `host`, made absolute.

The rules of such a command are the contract's (hypersdk.plugin.hostcommand); which interpreters are allowed is the
operator's setting. Not here: starting it (host_process; for its disks, a runner).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypersdk.errors import FailedPrecondition
from hypersdk.plugin.hostcommand import INTERPRETERS

from hypersdk_kernel.hosting.discovery import MANIFEST, source_folders
from hypersdk_kernel.model.plugin import Generation


class HostCommands:
    """Immutable. `interpreters`: names that a host command may begin with."""

    def __init__(self, interpreters: Collection[str] = INTERPRETERS) -> None:
        self._interpreters = tuple(interpreters)

    def of(self, generation: Generation) -> Sequence[str]:
        """The words to start; none for a Python plugin. Looks at files. Raises FailedPrecondition
        (HOST_COMMAND_REFUSED, HOST_COMMAND_MISSING)."""
        host = generation.manifest.host if generation.manifest is not None else None
        if host is None:
            return ()
        for folder in source_folders(generation):
            if (folder / MANIFEST).is_file():
                return host.resolve(folder, self._interpreters)
        raise FailedPrecondition(
            f"the files of {generation.name} are not there; install it again", reason="HOST_COMMAND_MISSING"
        )
