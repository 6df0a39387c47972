"""PartialTarget: a file that is being made and has not got its name yet.

Its life: `begin` (a fresh file, or the one a dead process left), `save` now and then, then `publish` or
`discard`. It is locked while it lives, so two conversions to one name do not write into each other. An image of
several files has the others beside it (hypersdk.data.siblings), published just before it. What goes into it is the
caller's affair.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.siblings import NewSiblings, drop_leftovers, sync_directory
from hypersdk.errors import Aborted, InvalidArgument

_STATE_VERSION = 1
_MAX_STATE_BYTES = 64 << 20


_PREFIX, _SUFFIX = ".", ".partial-hypersdk"


def published_name(path: Path) -> str:
    """The name that the file at `path` will have, or has, when it is complete: for formats that note it inside."""
    name = path.name
    if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
        return name[len(_PREFIX) : -len(_SUFFIX)]
    return name


class PartialTarget:
    """`.<name>.partial-hypersdk` beside the target, and `.state` behind that when it can be resumed. An image of
    several files that replaces one may replace its other files too, but never the file `protected`."""

    def __init__(self, target: Path, *, protected: Path | None = None) -> None:
        self.target = target
        self._protected = protected
        self.path = target.with_name(f"{_PREFIX}{target.name}{_SUFFIX}")
        self.state_path = self.path.with_name(self.path.name + ".state")
        self._fresh_state_path = self.path.with_name(self.path.name + ".state.new")
        self._file: ImageFile | None = None

    @property
    def opened(self) -> ImageFile:
        """The file between `begin` and the end."""
        assert self._file is not None
        return self._file

    def begin(
        self, identity: dict[str, Any], *, resume: bool, durable: bool = True
    ) -> tuple[ImageFile, dict[str, Any] | None]:
        """The open file, and what the last `save` under the same `identity` stored if `resume`. Anything
        else that an earlier attempt left is dropped. Raises Aborted (TARGET_BUSY) while another process
        writes it, InvalidArgument (TARGET_NOT_A_FILE), OSError."""
        self._check_target()
        state = self._load(identity) if resume else None
        if state is not None:
            try:
                self._file = ImageFile.create(self.path, resume=True)
            except FileNotFoundError:
                state = None
            else:
                self._lock(self._file)
        if state is None:
            self._drop_leftover()
            self._file = ImageFile.create(self.path)
            self._lock(self._file)
        self.opened.durable = durable
        self.opened.new_siblings = NewSiblings(
            self.path, self.target, overwrite=self.target.exists(), protected=self._protected
        )
        return self.opened, state

    def save(self, identity: dict[str, Any], state: dict[str, Any]) -> None:
        """Store `state` durably, in place of the former one: whole or not at all."""
        text = json.dumps({"version": _STATE_VERSION, "identity": identity, "state": state})
        with self._fresh_state_path.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        self._fresh_state_path.replace(self.state_path)
        sync_directory(self.path.parent)

    def publish(self) -> None:
        """Give the finished, synced file its name, replacing what had it (whose permissions it takes
        over); its siblings first. Raises FileExistsError, OSError."""
        with suppress(FileNotFoundError):
            os.fchmod(self.opened.fileno(), stat.S_IMODE(self.target.stat().st_mode))
        siblings = self.opened.new_siblings
        assert siblings is not None
        try:
            siblings.publish()
            self.path.replace(self.target)
        except OSError:
            siblings.withdraw()
            raise
        siblings.tidy()
        self._drop_state()
        if self.opened.durable:
            sync_directory(self.path.parent)
        self.opened.close()

    def discard(self, *, keep: bool) -> None:
        """Close the file; delete it and its state unless `keep` and there is a state to resume from."""
        if self._file is None:
            return
        if not (keep and self.state_path.exists()):
            drop_leftovers(self.path)
            self.path.unlink(missing_ok=True)
            self._drop_state()
        self._file.close()

    def _check_target(self) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.stat().st_mode):
                raise InvalidArgument(
                    f"{str(self.target)!r} exists and is not a regular file; images are written to files only",
                    reason="TARGET_NOT_A_FILE",
                    metadata={"path": str(self.target)},
                )

    def _drop_leftover(self) -> None:
        """Delete what a dead process left; refuse if its writer is alive."""
        try:
            leftover = ImageFile.create(self.path, resume=True)
        except FileNotFoundError:
            pass
        else:
            with leftover:
                self._lock(leftover)
                self.path.unlink(missing_ok=True)
        drop_leftovers(self.path)
        self._drop_state()

    def _drop_state(self) -> None:
        self.state_path.unlink(missing_ok=True)
        self._fresh_state_path.unlink(missing_ok=True)

    def _lock(self, file: ImageFile) -> None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.close()
            self._file = None
            raise Aborted(
                f"another process is writing {str(self.target)!r} now; wait for it or choose another name",
                reason="TARGET_BUSY",
                metadata={"path": str(self.target)},
            ) from exc

    def _load(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The saved state, or None when there is none, or it is damaged or of another source or target."""
        try:
            if self.state_path.stat().st_size > _MAX_STATE_BYTES:
                return None
            saved = json.loads(self.state_path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(saved, dict) or saved.get("version") != _STATE_VERSION or saved.get("identity") != identity:
            return None
        state = saved.get("state")
        return state if isinstance(state, dict) else None
