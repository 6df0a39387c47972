"""The store of plugins on disk: one folder a build, filled once, never modified.

    plugins/staging/<random>/                          being filled; whatever is left here by a crash is removed
    plugins/store/<distribution>/<version>-<digest>/   a build with the dependencies that the kernel does not have

A folder is filled by uv in staging, judged, synced and renamed into its place, so that a name in the store always
means a whole build. `digest` says what the plugin is (names and contents of its files, digest.py); `seal` says that
nothing in the folder has been touched, byte code and installer's notes included, and is compared at every start.

Not here: which build is active (lifecycle), running it (swap). All of this blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from hypersdk import signing
from hypersdk.errors import DataLoss, FailedPrecondition, Unavailable, from_exception
from packaging.requirements import Requirement

from hypersdk_kernel.hosting import wheelfolder
from hypersdk_kernel.hosting.digest import digest_files, package_files
from hypersdk_kernel.hosting.discovery import discover, normalize
from hypersdk_kernel.hosting.requirements import SHARED, unmet
from hypersdk_kernel.hosting.trust import Trust, signature_missing
from hypersdk_kernel.hosting.wheel import Wheel, inspect
from hypersdk_kernel.model.plugin import Generation, GenerationState, Provenance

log = structlog.get_logger(__name__)

UV_TIMEOUT_S = 300.0
_NOTES = frozenset({"direct_url.json", "uv_cache.json", "INSTALLER", "REQUESTED", "RECORD"})
"""What an installer writes about itself: where the wheel lay, when it was fetched. Another machine has others."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where wheels come from beside the one given: a folder of them, or an index. Empty: from nowhere."""

    wheels: Path | None = None
    index_url: str = ""

    def __bool__(self) -> bool:
        return self.wheels is not None or bool(self.index_url)


@dataclass(frozen=True, slots=True)
class Build:
    """A build in the store. `generation` is numbered 0: its plugin has not taken it in yet."""

    generation: Generation
    summary: str
    folder: Path


class PluginStore:
    """Installs into and reads from `root`. Thread-safe: every installation has a staging folder of its own."""

    def __init__(self, root: Path, sources: Sources | None = None, trust: Trust | None = None) -> None:
        self.root = root
        self._trust = trust or Trust()
        self._marks: dict[str, str] = {}
        self._sources = sources or Sources()
        self._store = root / "store"
        self._staging = root / "staging"

    def prepare(self) -> None:
        """Make the folders, and remove what a kernel that died left half-installed."""
        self._store.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()

    def add_wheel(self, path: Path, *, keep: bool = True, signature: bytes = b"") -> Build:
        """Install a wheel. Not `keep`: only judge it. `signature`: its signature file's content; empty: that of the
        file beside it, if there is one. Raises InvalidArgument (WHEEL_INVALID, MANIFEST_INVALID),
        FailedPrecondition (SIGNATURE_MISSING, SIGNATURE_INVALID, SIGNER_UNKNOWN, PLUGIN_NOT_ALLOWED, NOT_A_PLUGIN,
        DEPENDENCY_UNMET, INSTALL_FAILED, MANIFEST_MISSING, MANIFEST_UNTRUE, PLUGIN_MODULE_MISSING), Unsupported
        (API_VERSION_UNSUPPORTED); then nothing is left behind."""
        with self.staging() as staging:
            private = staging / path.name  # judged and installed are the same bytes, whatever happens to `path`
            shutil.copyfile(path, private)
            sha256 = signing.digest_of(private)
            signer = self._trust.signer(sha256, signature or signing.read_signature(path))
            wheel = inspect(private)
            self._trust.check_allowed(wheel.distribution, wheel.version, sha256)
            target = staging / "target"
            self._install([str(private)], target, self._dependencies(wheel))
            origin = Provenance("path", path.name, sha256, signer)
            return self._take_in(target, wheel.distribution, origin, keep=keep)

    def add_named(self, requirement: str, distribution: str, *, keep: bool = True) -> Build:
        """Install `requirement` (PEP 508) of `distribution` from the configured sources. Raises as add_wheel, and
        FailedPrecondition (NO_PLUGIN_SOURCE, WHEEL_VERSION_MISSING). A name that lies in the folder of wheels is never
        taken from the index: who can publish there must not be able to outbid what the operator put here."""
        if not self._sources:
            raise FailedPrecondition(
                "there is nowhere to look for a plugin by name: set plugin_wheels or plugin_index, or give a wheel",
                reason="NO_PLUGIN_SOURCE",
            )
        near = wheelfolder.best(self._sources.wheels, Requirement(requirement))
        if near is not None:
            build = self.add_wheel(near, keep=keep)
            origin = replace(build.generation.provenance, via="wheels")
            return replace(build, generation=replace(build.generation, provenance=origin))
        if self._trust.required and self._sources.index_url:
            raise signature_missing("an index gives out none: fetch the wheel and its signature, and install those")
        with self.staging() as staging:
            target = staging / "target"
            self._install([requirement], target, [*self._from_sources(staging), *_without(staging)])
            return self._take_in(target, distribution, Provenance("index", requirement), keep=keep)

    def load(self, generation: Generation) -> Generation:
        """An installed generation as it was recorded, with what its files say. Raises DataLoss (PLUGIN_TAMPERED) and
        what its manifest raises."""
        folder = self.folder(generation)
        if not folder.is_dir():
            raise FailedPrecondition(
                f"{folder} is not there any more; install the wheel again", reason="PLUGIN_FILES_MISSING"
            )
        self._trust.check_stored(generation)
        self.check(generation)
        found = _only(folder, generation.distribution)[0]
        return replace(
            generation, entries=found.entries, manifest=found.manifest, search_path=found.search_path, present=True
        )

    def check(self, generation: Generation) -> None:
        """Whether the files of an installed generation are those that were installed; of others nothing is said.
        Cheap as long as nothing has touched them: change times, which nobody can set, are compared first. Raises
        DataLoss (PLUGIN_TAMPERED)."""
        if generation.origin != "installed":
            return
        folder = self.folder(generation)
        try:
            mark = _mark_of(folder)
            if self._marks.get(generation.seal) == mark:
                return
            whole = seal_of(folder) == generation.seal
        except OSError:  # a file that has gone, or cannot be read, is not as it was
            whole = False
        if not whole:
            raise DataLoss(
                f"the files below {folder} are not those that were installed; find out who changed them, "
                "then uninstall this version and install its wheel again",
                reason="PLUGIN_TAMPERED",
                metadata={"generation": generation.name},
            )
        self._marks[generation.seal] = mark

    def remove(self, generation: Generation) -> None:
        """Take a build out of the store. No-op when it has gone."""
        folder = self.folder(generation)
        if folder.is_dir():
            grave = self._staging / secrets.token_hex(8)
            folder.rename(grave)  # at once, or not at all
            shutil.rmtree(grave, ignore_errors=True)
            _sync(folder.parent)

    def sweep(self, known: Iterable[Generation]) -> None:
        """Remove the builds that no generation in `known` names: a kernel died after storing one and before it was
        written down, or before it had removed one that was no longer wanted."""
        named = {self.folder(g) for g in known if g.origin == "installed"}
        for folder in self._store.glob("*/*"):
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)
                log.info("build_swept", folder=str(folder))

    def folder(self, generation: Generation) -> Path:
        name = f"{generation.version}-{generation.digest}"
        return self._store / normalize(generation.distribution) / name

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the store's file system that is gone afterwards."""
        folder = self._staging / secrets.token_hex(8)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _dependencies(self, wheel: Wheel) -> list[str]:
        """uv's flags about what the wheel requires."""
        missing = unmet(wheel.requires)
        if not missing:
            return ["--no-deps", "--no-index"]
        ours = [r for r in missing if normalize(r.name) == SHARED]
        if ours or not self._sources:
            listed = ", ".join(str(r) for r in (ours or missing))
            hint = "install a matching version of either" if ours else "set plugin_wheels to a folder that has them"
            raise FailedPrecondition(
                f"{wheel.path.name} requires {listed}, which the kernel's environment does not have; {hint}",
                reason="DEPENDENCY_UNMET",
                metadata={"requires": listed},
            )
        met = {r.name for r in wheel.requires} - {r.name for r in missing}
        return [*self._from_sources(wheel.path.parent), *_without(wheel.path.parent, met)]

    def _from_sources(self, staging: Path) -> list[str]:
        """uv's flags about where it may look. With signatures required only at signed wheels of the folder, and never
        in an index, which has none; and what lies in the folder is never taken from the index."""
        folder = self._sources.wheels
        if self._trust.required:
            signed = staging / "signed"
            wheelfolder.copy_signed(folder, signed, self._trust.keys)
            return ["--no-index", "--find-links", str(signed)]
        if not self._sources.index_url:
            return ["--no-index", "--find-links", str(folder)]
        flags = ["--default-index", self._sources.index_url]
        pins = wheelfolder.pins(folder)
        if pins:
            constraints = staging / "constraints.txt"
            constraints.write_text("".join(f"{line}\n" for line in pins))
            flags += ["--constraints", str(constraints)]
        return flags

    def _install(self, what: Sequence[str], target: Path, flags: Sequence[str]) -> None:
        uv = Path(sys.executable).parent / "uv"
        command = [
            str(uv), "pip", "install", "--quiet", "--no-config", "--no-progress", "--no-cache",
            "--python", sys.executable, "--target", str(target), "--link-mode", "copy", "--compile-bytecode",
            "--only-binary", ":all:", *flags, *what,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
                timeout=UV_TIMEOUT_S, env={"PATH": os.defpath, "HOME": str(target.parent), "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except FileNotFoundError as exc:
            text = f"{uv} is missing; install the kernel with its dependencies"
            raise FailedPrecondition(text, reason="INSTALLER_MISSING") from exc
        except subprocess.TimeoutExpired as exc:
            text = f"uv did not come to an end in {UV_TIMEOUT_S:g} s; look at where plugin_index leads"
            raise Unavailable(text, reason="INSTALL_TIMED_OUT") from exc
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:600] or f"exit status {done.returncode}"
            raise FailedPrecondition(f"uv refused to install it: {said}", reason="INSTALL_FAILED")

    def _take_in(self, target: Path, distribution: str, origin: Provenance, *, keep: bool) -> Build:
        (target / ".lock").unlink(missing_ok=True)  # uv's own
        generation, summary = _only(target, distribution)
        self._trust.check_allowed(distribution, generation.version, origin.sha256)
        generation = replace(generation, digest=tree_digest(target), provenance=origin)
        folder = self.folder(generation)
        seal = seal_of(target)
        if keep and folder.is_dir():
            seal = self._check_twin(folder, generation.digest)
        elif keep:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sync_tree(target)
            target.rename(folder)
            _sync(folder.parent)
            log.info("plugin_stored", distribution=distribution, version=generation.version, digest=generation.digest)
        return Build(replace(generation, search_path=(str(folder),), seal=seal), summary, folder)

    @staticmethod
    def _check_twin(folder: Path, digest: str) -> str:
        """The seal of a build that is in the store already. Raises DataLoss when it is not what its name says."""
        if tree_digest(folder) != digest:
            raise DataLoss(
                f"{folder} is in the store already, and its files have been changed; uninstall that version first",
                reason="PLUGIN_TAMPERED",
            )
        return seal_of(folder)


def _without(staging: Path, met: Iterable[str] = ()) -> list[str]:
    """uv's flags that keep out what is `met`, and `hypersdk` always: a second SDK in front of the first would be
    another contract than the host's."""
    overrides = staging / "overrides.txt"
    overrides.write_text("".join(f"{name} ; python_version < '3'\n" for name in sorted({SHARED, *met})))
    return ["--overrides", str(overrides)]


def tree_digest(folder: Path) -> str:
    """What a build is: all files of the plugin and of what was installed with it, but byte code and notes."""
    files = {
        name.removeprefix("./"): path
        for name, path in package_files(folder, ".")
        if not (path.name in _NOTES and path.parent.name.endswith(".dist-info"))
    }
    return digest_files(files, {})


def seal_of(folder: Path) -> str:
    """Hex SHA-256 over every file of a folder, with links told from files. Raises OSError."""
    total = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if Path(parent, f).is_symlink())]):
            path = Path(parent, name)
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
            label = f"{'l' if path.is_symlink() else 'f'}{path.relative_to(folder).as_posix()}"
            encoded = label.encode("utf-8", "surrogateescape")
            total.update(len(encoded).to_bytes(4, "big") + encoded + len(content).to_bytes(8, "big"))
            total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def _mark_of(folder: Path) -> str:
    """Changes when a file of the folder is changed, added or removed, without reading any. Raises OSError."""
    total = hashlib.sha256()
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in ["", *sorted([*files, *folders])]:
            path = os.path.join(parent, name)  # Path costs more than all the rest here
            found = os.lstat(path)
            total.update(repr((path, found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns,
                               found.st_ctime_ns)).encode("utf-8", "surrogateescape"))  # fmt: skip
    return total.hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _only(folder: Path, distribution: str) -> tuple[Generation, str]:
    """The plugin `distribution` below `folder`, sound, with its summary; raises what is wrong with it."""
    wanted = normalize(distribution)
    found = [p for p in discover(0.0, [str(folder)]) if normalize(p.distribution) == wanted]
    if not found:
        text = f"{distribution} is no plugin: it has no entry points in a group hypersdk.<kind>"
        raise FailedPrecondition(text, reason="NOT_A_PLUGIN")
    generation = found[0].generations[0]
    if generation.state is GenerationState.FAILED:
        raise FailedPrecondition(
            f"{generation.distribution} {generation.version} is refused: {generation.failure_message}",
            reason=generation.failure_reason,
        )
    state = {"origin": "installed", "state": GenerationState.INSTALLED, "activate_time": None, "number": 0}
    return replace(generation, **state), found[0].summary  # type: ignore[arg-type]  # a mapping of its fields


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as exc:
        raise from_exception(exc, doing="storing the plugin") from exc
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
