"""ExtentLawContract: a full copy and its increments are the source, byte for byte, whatever the disk goes through.

For providers with the capability `cbt`. The suite keeps a replica as a backup would: it takes the whole disk and a
change token, lets the disk be changed, applies what `changes` tells, and compares. What a provider cannot know it must
answer in full; what it must never do is answer too little.

Not here: how fast, how small (a provider that always answers in full keeps the law, and is told so by one check).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.errors import HyperError
from hypersdk.plugin import ChangeSet, Provider
from hypersdk.testing.task_context import LocalTaskContext

_ROUNDS = 12
_PIECE = 1 << 20


class Replica:
    """What a backup has of a disk: its bytes, and the token that names their state."""

    def __init__(self, provider: Provider, disk: tuple[str, str], context: LocalTaskContext) -> None:
        self.provider = provider
        self.disk = disk
        self.context = context
        self.content = bytearray()
        self.token = ""
        self.last: ChangeSet | None = None

    def sync(self, since: str | None = None) -> list[Extent]:
        """Take over what changed since the own token (or `since`). What was told, checked for its form."""
        with self.provider.open_source(*self.disk, self.context) as source:
            found = self.provider.changes(*self.disk, self.token if since is None else since, self.context)
            extents = list(found.extents)
            _check_form(found, extents, source.size)
            if found.full:
                self.content = bytearray(source.size)
            elif len(self.content) < source.size:
                self.content += bytes(source.size - len(self.content))
            del self.content[source.size :]
            for extent in extents:
                if extent.kind == ExtentKind.ZERO:
                    self.content[extent.offset : extent.end] = bytes(extent.length)
                else:
                    for at in range(extent.offset, extent.end, _PIECE):
                        end = min(at + _PIECE, extent.end)
                        buffer = bytearray(end - at)
                        source.readinto(at, memoryview(buffer))
                        self.content[at:end] = buffer
        self.token, self.last = found.token, found
        return extents

    def source(self) -> bytes:
        with self.provider.open_source(*self.disk, self.context) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
            return bytes(buffer)


def _check_form(found: ChangeSet, extents: list[Extent], size: int) -> None:
    at = 0
    for extent in extents:
        assert extent.length > 0, "an extent has no length"
        assert extent.offset >= at, "extents overlap or are not in order"
        assert extent.end <= size, "an extent ends behind the disk"
        assert not found.full or extent.offset == at, "a full answer leaves a gap: its extents must cover the disk"
        at = extent.end
    assert not found.full or at == size, "a full answer does not reach the end of the disk"
    assert not found.full or found.reason, "a full answer does not say why it is one (`reason`)"


class ExtentLawContract:
    """Subclass it and give:

    provider          fixture: a configured Provider
    disk              fixture: (machine id, disk id) of a disk of 128 KiB to 16 MiB that the tests may change
    write(offset, data)     change the disk behind the provider's back, as its guest would
    trim(offset, length)    the guest discards a range, which reads as zeros from then on
    resize(size)            None (the default) where the platform cannot; grown bytes read as zeros
    lose_changes()          the platform forgets its change records; None where that cannot happen
    """

    resize: Callable[..., None] | None = None
    lose_changes: Callable[..., None] | None = None

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError("give a `provider` fixture in the subclass: configured, with capability cbt")

    @pytest.fixture
    def disk(self) -> tuple[str, str]:
        raise NotImplementedError("give a `disk` fixture in the subclass: (machine id, disk id)")

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError("give `write` in the subclass")

    def trim(self, offset: int, length: int) -> None:
        raise NotImplementedError("give `trim` in the subclass")

    @pytest.fixture
    def replica(self, provider: Provider, disk: tuple[str, str], tmp_path: Path) -> Replica:
        return Replica(provider, disk, LocalTaskContext({}, tmp_path / "law-scratch"))

    def need(self, hook: str) -> Callable[..., None]:
        found: Callable[..., None] | None = getattr(self, hook)
        if found is None:
            pytest.skip(f"this platform has no way to {hook.replace('_', ' ')} (the test class gives no `{hook}`)")
        return found

    def test_without_a_token_the_answer_is_full_and_has_one(self, replica: Replica) -> None:
        """A backup begins with `changes(…, since="")`. Mend: answer in full, with a reason and a token."""
        replica.sync("")
        assert replica.last is not None
        assert replica.last.full
        assert replica.token, "there is no token, so there can never be an increment"
        assert bytes(replica.content) == replica.source()

    def test_nothing_changed_is_an_increment(self, replica: Replica) -> None:
        """An answer that is always full keeps the law and is no change tracking. Mend: answer increments, or take the
        capability `cbt` back."""
        replica.sync("")
        replica.sync()
        assert replica.last is not None
        assert not replica.last.full, replica.last.reason
        assert bytes(replica.content) == replica.source()

    @pytest.mark.parametrize("seed", range(3))
    def test_full_and_increments_are_the_source(self, replica: Replica, seed: int) -> None:
        """Random writes and trims, of any alignment, and a copy after each few. Mend: the printed round; look first
        at ranges that became zeros, and at the last block of the disk."""
        chance = random.Random(seed)  # noqa: S311 - a repeatable test, no secret
        replica.sync("")
        size = len(replica.content)
        for number in range(_ROUNDS):
            for _ in range(chance.randrange(4)):
                length = min(chance.choice((1, 511, 512, 4096, 65536, 100_001)), size)
                offset = chance.choice((0, size - length, chance.randrange(size - length + 1)))
                if chance.random() < 0.35:
                    self.trim(offset, length)
                else:
                    self.write(offset, chance.randbytes(length))
            replica.sync()
            assert bytes(replica.content) == replica.source(), f"stale bytes after round {number} of seed {seed}"

    def test_a_trimmed_range_is_told_as_zero_or_read_as_zeros(self, replica: Replica) -> None:
        """The trap of traps: a dirty range that is a hole now is left out, and the restored disk has its old bytes.
        Mend: tell such a range as a ZERO extent."""
        self.write(0, b"\xaa" * 131_072)
        replica.sync("")
        self.trim(0, 131_072)
        extents = replica.sync()
        assert extents, "nothing was told of a range that became zeros"
        assert not any(replica.content[:131_072])
        assert bytes(replica.content) == replica.source()

    def test_increments_can_be_left_out(self, replica: Replica) -> None:
        """A token may be older than the last answer: a backup that failed is not counted. Mend: keep what an older
        token names, or answer in full."""
        replica.sync("")
        token = replica.token
        self.write(10, b"first")
        lost = Replica(replica.provider, replica.disk, replica.context)
        lost.content, lost.token = bytearray(replica.content), token
        lost.sync()
        self.write(70_000, b"second")
        replica.sync(token)
        assert bytes(replica.content) == replica.source()

    def test_a_grown_disk_is_copied_whole(self, replica: Replica) -> None:
        """Mend: tell what lies behind the old end, or answer in full; a platform whose tracking starts afresh after a
        resize must do the latter."""
        resize = self.need("resize")
        replica.sync("")
        size = len(replica.content)
        resize(size + 200_000)
        self.write(size + 150_000, b"behind the old end")
        replica.sync()
        assert len(replica.content) == size + 200_000
        assert bytes(replica.content) == replica.source()

    def test_a_shrunk_disk_is_copied_whole(self, replica: Replica) -> None:
        """Also a disk that shrank and grew again: what was cut off reads as zeros. Mend: as for a grown one; never
        tell an extent behind the end."""
        resize = self.need("resize")
        self.write(0, b"\xbb" * 131_072)
        replica.sync("")
        size = len(replica.content)
        resize(65_536 + 512)
        replica.sync()
        assert bytes(replica.content) == replica.source()
        resize(size)
        replica.sync()
        assert bytes(replica.content) == replica.source()

    def test_lost_change_records_give_a_full_answer(self, replica: Replica) -> None:
        """CBT reset, a bitmap gone with a crash, an expired snapshot. Mend: detect it (another generation id, a record
        that is not there) and answer in full with the reason."""
        lose = self.need("lose_changes")
        replica.sync("")
        self.write(5, b"written before the loss")
        lose()
        replica.sync()
        assert replica.last is not None
        assert replica.last.full, "an increment since records that are lost"
        assert bytes(replica.content) == replica.source()

    @pytest.mark.parametrize("token", ["junk", "0", "\0", "☃", "1." + "0" * 32, "a" * 4096])
    def test_a_token_that_is_not_ours_is_never_believed(self, replica: Replica, token: str) -> None:
        """Mend: answer in full, or raise an error of the tree; never an increment, and never another exception."""
        self.write(3, b"something that no token of ours can know")
        try:
            replica.sync(token)
        except HyperError:
            return
        assert replica.last is not None
        assert replica.last.full, f"an increment since {token[:20]!r}, which this provider never issued"
        assert bytes(replica.content) == replica.source()

    def test_changes_can_be_cancelled(self, replica: Replica) -> None:
        """Mend: call `context.check()` between pieces of long work, and release what was acquired on the way out."""
        from hypersdk.errors import Cancelled

        replica.sync("")
        context = replica.context
        context.cancel()
        try:
            replica.sync()
        except Cancelled:
            pass  # a provider that answers without work of its own need not look
        assert context.unreleased() == set()
