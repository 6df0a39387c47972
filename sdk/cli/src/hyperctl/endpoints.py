"""What SOURCE and TARGET of an export mean.

A name is taken as it is. A path becomes a connection of `provider/directory` or `storage/local` for its directory, made
once and reused: its id is derived from the directory, `path-<slug>-<hash>`, and it carries the label
`hyperctl.dev/auto=true`. The user is told. Something that could be both is a path when it exists.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk.errors import AlreadyExists, InvalidArgument, NotFound

from hyperctl.messages import to_plain

if TYPE_CHECKING:
    from hypersdk.api.inventory.v1.inventory_pb2 import Disk, Machine

    from hyperctl.session import Session

AUTO_LABEL = "hyperctl.dev/auto"
_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MACHINE = re.compile(rf"connections/{_ID}/machines/{_ID}")
_SHORT_MACHINE = re.compile(rf"({_ID})/({_ID})")
_CONNECTION = re.compile(rf"(?:connections/)?{_ID}")


@dataclass(frozen=True, slots=True)
class Source:
    """A machine by its full name; `disks` only where the user named one file of several."""

    machine: str
    disks: tuple[str, ...] = ()


class PathConnections:
    """The connections of paths. With `dry_run` none is made: those that would be are only checked by the daemon and
    collected in `pending`."""

    def __init__(self, session: Session, *, dry_run: bool = False) -> None:
        self.session = session
        self.pending: list[str] = []
        self._dry_run = dry_run

    def ensure(self, component: str, directory: Path, config: dict[str, object]) -> str:
        """The name of the directory's connection. Raises AlreadyExists when another one has taken its id."""
        connections = self.session.client.connections
        name = f"connections/{connection_id(component, directory)}"
        try:
            present = connections.get(name)
        except NotFound:
            connections.create(
                name.removeprefix("connections/"), component, config, display_name=str(directory)[-200:],
                labels={AUTO_LABEL: "true"}, validate_only=self._dry_run,
            )  # fmt: skip
            if self._dry_run:
                self.pending.append(name)
            self.session.say(
                f"{'would make' if self._dry_run else 'made'} {name} ({component}) for {directory}"
            )
            return name
        if present.component != component or to_plain(present.config).get("path") != config["path"]:
            raise AlreadyExists(
                f"{name} exists and is not what hyperctl would make for {directory}; delete it, or make a connection "
                "of your own and name that",
                reason="CONNECTION_EXISTS", metadata={"name": name},
            )  # fmt: skip
        self.session.say(f"using {name} for {directory}")
        return name


def resolve_source(paths: PathConnections, text: str) -> Source:
    """The machine that SOURCE means. Raises NotFound (SOURCE_NOT_FOUND, MACHINE_NOT_FOUND)."""
    if _MACHINE.fullmatch(text):
        return Source(text)
    path = Path(text).expanduser()
    short = _SHORT_MACHINE.fullmatch(text)
    if short and not path.exists():
        return Source(f"connections/{short[1]}/machines/{short[2]}")
    if not path.exists():
        raise NotFound(
            f"{text!r} is neither a file here nor a machine (connections/x/machines/y, x/y)",
            reason="SOURCE_NOT_FOUND", metadata={"source": text},
        )  # fmt: skip
    path = path.resolve()
    if path.is_dir():
        raise InvalidArgument(
            f"{str(path)!r} is a directory; name one image or OVF in it, or make it a connection: hyperctl connection "
            f"create ID --component provider/directory --config path={path}",
            reason="SOURCE_IS_A_DIRECTORY",
        )
    connection = paths.ensure("provider/directory", path.parent, {"path": str(path.parent)})
    if connection in paths.pending:
        return Source(f"{connection}/machines/… (of {path.name})")
    return _machine_of(paths.session, connection, path)


def resolve_target(paths: PathConnections, text: str) -> str:
    """The connection that TARGET means: an existing directory or anything that looks like a path, else a name."""
    path = Path(text).expanduser()
    if _CONNECTION.fullmatch(text) and not path.is_dir():
        return text if text.startswith("connections/") else f"connections/{text}"
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InvalidArgument(
            f"{str(path)!r} is a file; --to takes a directory or a storage connection", reason="TARGET_IS_A_FILE"
        )
    return paths.ensure("storage/local", path, {"path": str(path), "create": True})


def connection_id(component: str, directory: Path) -> str:
    """`path-<slug>-<hash>`: the same for the same directory and component, readable, a legal id."""
    digest = hashlib.sha256(f"{component}\0{directory}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", directory.name.lower()).strip("-")[:40].rstrip("-") or "root"
    return f"path-{slug}-{digest}"


def _machine_of(session: Session, connection: str, path: Path) -> Source:
    """The machine of the directory that is this file, or has it as a disk."""
    machines = list(session.client.inventory.list_machines(connection))
    for machine in machines:
        if _means(machine, path):
            return Source(machine.name)
    for machine in machines:
        disks = [disk for disk in machine.disks if _means(disk, path)]
        if disks:
            named = tuple(disk.name.rpartition("/")[2] for disk in disks)
            return Source(machine.name, named if len(machine.disks) > len(disks) else ())
    raise NotFound(
        f"{path.name} is not among the images and OVF packages that {connection} finds in {path.parent}; "
        "is it an image of an installed format?",
        reason="MACHINE_NOT_FOUND", metadata={"path": str(path), "connection": connection},
    )  # fmt: skip


def _means(item: Machine | Disk, path: Path) -> bool:
    """Platforms of directories give a file's path, absolute or below the directory, as the platform id."""
    return item.platform_id in {str(path), path.name} or item.details.get("path") == str(path)
