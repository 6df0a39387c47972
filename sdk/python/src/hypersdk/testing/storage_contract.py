"""StorageContract: what every implementation of `hypersdk.plugin.Storage` must keep.

Not here: a particular storage's errors, its speed, its capabilities beyond the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar

import pytest

from hypersdk.errors import AlreadyExists, HyperError, InvalidArgument, NotFound, OutOfRange
from hypersdk.plugin import ObjectInfo, Storage
from hypersdk.testing.faults import Injector, SyscallFaults, spread

HOSTILE_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "../up",
    "a/../b",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "a\0b",
    "a\nb",
    "x" * 1025,
    "\ud800",
)


class StorageContract:
    """Subclass it and give one fixture:

    storage      a configured, empty Storage, fresh for each test

    and where the defaults are not right:

    concurrency  class attribute, as in the manifest: `parallel` has it used by several threads at once
    faults       a function of a number that makes a context manager in which that call of the platform fails
                 (hypersdk.testing.faults); files of this process by default
    """

    concurrency: ClassVar[str] = "serial"

    @pytest.fixture
    def faults(self) -> Injector:
        return SyscallFaults

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError("give a `storage` fixture in the subclass: a configured, empty Storage")

    def put(self, storage: Storage, key: str, data: bytes) -> ObjectInfo:
        writer = storage.open_writer(key)
        writer.write(data)
        return writer.commit()

    def keys(self, storage: Storage, prefix: str, page_size: int) -> list[str]:
        found: list[str] = []
        token = ""
        for _ in range(10_000):
            page = storage.list(prefix, page_size, token)
            assert len(page.items) <= page_size, "a page is longer than was asked for"
            found += [info.key for info in page.items]
            token = page.next_token
            if not token:
                return found
        raise AssertionError("the list never ends: its page token does not advance")

    def test_health_of_a_working_storage_is_ok(self, storage: Storage) -> None:
        """`health` must say ok for a storage that works, without side effects. Mend: test what reading and
        writing need, not more; return Health(False, why) and never raise."""
        health = storage.health()
        assert health.ok, health.message

    def test_a_committed_object_is_read_back_exactly(self, storage: Storage) -> None:
        """What `write` was given, in order, is what `read_range` returns. Mend: append every call's bytes
        whole (loop over short writes), and address ranges from the object's start."""
        writer = storage.open_writer("dir/object.bin")
        writer.write(b"first")
        writer.write(memoryview(b" second"))
        writer.write(bytearray(b" third"))
        info = writer.commit()
        assert info.size_bytes == 18
        assert storage.read_range("dir/object.bin", 0, 18) == b"first second third"
        assert storage.read_range("dir/object.bin", 6, 6) == b"second"
        assert storage.read_range("dir/object.bin", 18, 0) == b""

    def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        """A commit without a write makes an object of 0 bytes. Mend: create it at commit if no write came."""
        storage.open_writer("empty").commit()
        assert storage.stat("empty").size_bytes == 0

    def test_nothing_is_visible_before_commit(self, storage: Storage) -> None:
        """Readers see an object whole or not at all. Mend: write under another name and publish at commit;
        leave unfinished objects out of `list`."""
        writer = storage.open_writer("half")
        writer.write(b"half of it")
        with pytest.raises(NotFound):
            storage.stat("half")
        assert self.keys(storage, "", 10) == []
        writer.abort()

    def test_the_old_object_stays_until_the_new_one_is_committed(self, storage: Storage) -> None:
        """Replacing is atomic too. Mend: never open an existing object for writing."""
        self.put(storage, "k", b"old")
        writer = storage.open_writer("k")
        writer.write(b"newer")
        assert storage.read_range("k", 0, 3) == b"old"
        writer.commit()
        assert storage.read_range("k", 0, 5) == b"newer"

    def test_abort_leaves_nothing_and_may_be_repeated(self, storage: Storage) -> None:
        """After `abort` neither object nor partial is there. Mend: make abort idempotent and silent."""
        writer = storage.open_writer("gone")
        writer.write(b"data")
        writer.abort()
        writer.abort()
        with pytest.raises(NotFound):
            storage.stat("gone")

    def test_if_absent_refuses_an_existing_key(self, storage: Storage) -> None:
        """Exactly one of several `if_absent` writers wins. Mend: use the platform's own conditional create at
        commit (link(2), If-None-Match); looking first and then writing is a race."""
        first = storage.open_writer("once", if_absent=True)
        second = storage.open_writer("once", if_absent=True)
        first.write(b"1")
        second.write(b"2")
        first.commit()
        with pytest.raises(AlreadyExists):
            second.commit()
        second.abort()
        assert storage.read_range("once", 0, 1) == b"1"

    def test_commit_may_be_repeated(self, storage: Storage) -> None:
        """A caller that lost the answer asks again. Mend: keep the ObjectInfo of the first commit."""
        writer = storage.open_writer("twice")
        writer.write(b"x")
        assert writer.commit().etag == writer.commit().etag

    def test_the_etag_changes_with_the_content(self, storage: Storage) -> None:
        """Whoever cached by etag must notice. Mend: derive it from the content or from version and time."""
        before = self.put(storage, "k", b"one").etag
        after = self.put(storage, "k", b"two").etag
        assert before
        assert before != after
        assert storage.stat("k").etag == after

    def test_reading_past_the_end_is_out_of_range(self, storage: Storage) -> None:
        """Short reads are never returned silently. Mend: compare with the size, raise OutOfRange."""
        self.put(storage, "k", b"12345")
        for offset, length in ((0, 6), (5, 1), (6, 0), (-1, 2)):
            with pytest.raises(OutOfRange):
                storage.read_range("k", offset, length)

    def test_an_absent_object_is_not_found(self, storage: Storage) -> None:
        """Mend: raise NotFound (OBJECT_NOT_FOUND) from `stat` and `read_range`."""
        with pytest.raises(NotFound):
            storage.stat("nothing/here")
        with pytest.raises(NotFound):
            storage.read_range("nothing/here", 0, 0)

    def test_delete_removes_and_may_be_repeated(self, storage: Storage) -> None:
        """`delete` of what is not there succeeds. Mend: swallow the platform's not-found answer, and that
        only."""
        self.put(storage, "a/b/c", b"x")
        storage.delete("a/b/c")
        storage.delete("a/b/c")
        with pytest.raises(NotFound):
            storage.stat("a/b/c")
        assert self.keys(storage, "", 10) == []

    @pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
    def test_a_list_is_complete_and_in_key_order_for_every_page_size(self, storage: Storage, page_size: int) -> None:
        """Keys come in order of their code points, each once, whatever the page size. Mend: order by the
        whole key (`a.b` before `a/c` before `a0`) and start each page after the last key of the one
        before."""
        wanted = sorted(["a", "b/1", "b/2", "b.txt", "b0", "c/d/e/f", "c/d.e", "ü", "z z"])
        for key in wanted:
            self.put(storage, key, b"x")
        assert self.keys(storage, "", page_size) == wanted
        assert self.keys(storage, "b", page_size) == ["b.txt", "b/1", "b/2", "b0"]
        assert self.keys(storage, "b/", page_size) == ["b/1", "b/2"]
        assert self.keys(storage, "c/d/e/f", page_size) == ["c/d/e/f"]
        assert self.keys(storage, "nothing", page_size) == []

    def test_a_foreign_page_token_is_refused(self, storage: Storage) -> None:
        """Mend: decode strictly; raise InvalidArgument (PAGE_TOKEN_INVALID) for what this list did not
        issue."""
        for token in ("junk", "\0", "☃", "a" * 4096):
            with pytest.raises(InvalidArgument) as caught:
                storage.list("", 10, token)
            assert caught.value.reason == "PAGE_TOKEN_INVALID"

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    def test_hostile_keys_are_refused_everywhere(self, storage: Storage, key: str) -> None:
        """No key leads out of the storage. Mend: call `hypersdk.plugin.storage.check_key` first in every
        method."""
        for act in (storage.open_writer, storage.stat, storage.delete, lambda k: storage.read_range(k, 0, 1)):
            with pytest.raises(InvalidArgument):
                act(key)

    def test_a_resumed_writer_goes_on_with_what_was_written(self, storage: Storage) -> None:
        """A token leads another process to the same upload. Mend: keep the upload's identity in the token and
        nothing in memory; leave `token` empty if the storage cannot resume."""
        writer = storage.open_writer("long/upload")
        if not writer.token:
            pytest.skip("this storage cannot resume uploads (its writers' token is empty)")
        writer.write(b"before ")
        resumed = storage.open_writer("long/upload", resume=writer.token)
        resumed.write(b"after")
        resumed.commit()
        assert storage.read_range("long/upload", 0, 12) == b"before after"

    def test_an_upload_that_has_gone_is_not_found(self, storage: Storage) -> None:
        """Mend: raise NotFound (UPLOAD_GONE) from `open_writer(resume=...)`, so that the task begins
        again."""
        writer = storage.open_writer("k")
        if not writer.token:
            pytest.skip("this storage cannot resume uploads (its writers' token is empty)")
        writer.write(b"x")
        writer.abort()
        with pytest.raises(NotFound) as caught:
            storage.open_writer("k", resume=writer.token)
        assert caught.value.reason == "UPLOAD_GONE"

    def test_cleanup_drops_what_a_dead_runner_left(self, storage: Storage) -> None:
        """`cleanup` gets the record a task filed: connection, key and the writer's token as `upload`. Mend:
        find the upload by the token alone; succeed when it is not there."""
        writer = storage.open_writer("k")
        if not writer.token:
            pytest.skip("this storage leaves nothing behind that a token could name")
        writer.write(b"x")
        record = {"connection": "connections/test", "key": "k", "upload": writer.token}
        storage.cleanup(record)
        storage.cleanup(record)
        with pytest.raises(NotFound):
            storage.open_writer("k", resume=writer.token)

    def test_a_staging_path_becomes_the_object(self, storage: Storage) -> None:
        """What was written into the file at `staging_path`, in any order, is the object. Mend: have the
        (empty) file exist when the path is given away; sync it at commit; return None if there is no such
        file."""
        writer = storage.open_writer("staged.bin")
        path = writer.staging_path
        if path is None:
            pytest.skip("this storage has no staging file")
        with path.open("r+b") as file:
            file.seek(4)
            file.write(b"tail")
            file.seek(0)
            file.write(b"head")
        writer.commit()
        assert storage.read_range("staged.bin", 0, 8) == b"headtail"

    def test_a_local_path_holds_the_object(self, storage: Storage) -> None:
        """`local_path` is for reading by path; None where there is none. Mend: return the object's own
        file."""
        self.put(storage, "a/b", b"content")
        path = storage.local_path("a/b")
        if path is None:
            pytest.skip("this storage's objects are no local files")
        assert path.read_bytes() == b"content"

    def test_close_may_be_repeated(self, storage: Storage) -> None:
        """Mend: make `close` idempotent."""
        storage.close()
        storage.close()

    def test_threads_may_use_it_at_once(self, storage: Storage) -> None:
        """`parallel` is what the manifest says. Mend: no state in the instance that calls share without a lock; or
        declare `serial`."""
        if self.concurrency != "parallel":
            pytest.skip("the test class says that it is not used in parallel (`concurrency`)")

        def use(number: int) -> bool:
            data = bytes([number]) * (1000 + number)
            self.put(storage, f"thread/{number:03}", data)
            found = storage.read_range(f"thread/{number:03}", 0, len(data))
            storage.list("thread/", 3, "")
            return found == data and storage.stat(f"thread/{number:03}").size_bytes == len(data)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(40)))
        assert len(self.keys(storage, "thread/", 7)) == 40

    def test_a_fault_at_any_call_of_a_write_leaves_an_object_whole_or_absent(
        self, storage: Storage, faults: Injector
    ) -> None:
        """Each call of the platform fails in turn. Mend: turn what it raises into errors of the tree (`from_exception`
        for an OSError); give the object its name with the last step only; let the next attempt succeed."""
        content = b"first half " + b"second half"

        def put(key: str) -> None:
            writer = storage.open_writer(key)
            try:
                writer.write(content[:11])
                writer.write(content[11:])
                writer.commit()
            except BaseException:
                writer.abort()
                raise

        with faults(0) as counted:
            put("faults/0")
        if not counted.calls:
            pytest.skip("no call of the platform was seen: give a `faults` fixture of its own")
        for number in spread(counted.calls):
            key = f"faults/{number}"
            with faults(number):
                self.only_typed(partial(put, key), f"call {number} of a write")
            try:
                size = storage.stat(key).size_bytes
            except NotFound:
                pass
            else:
                assert storage.read_range(key, 0, size) == content, f"half an object after a fault at call {number}"
            put(key)
            assert storage.read_range(key, 0, len(content)) == content

    def test_a_fault_at_any_call_of_a_read_is_typed(self, storage: Storage, faults: Injector) -> None:
        """Mend: as for writes; a page of a list that could not be read whole is an error, never a shorter page."""
        for key in ("a", "b/c"):
            self.put(storage, key, b"content")
        reads: dict[str, Callable[[], object]] = {
            "read_range": lambda: storage.read_range("b/c", 0, 7),
            "stat": lambda: storage.stat("b/c"),
            "list": lambda: [info.key for info in storage.list("", 10, "").items],
        }
        for name, read in reads.items():
            wanted = read()
            with faults(0) as counted:
                read()
            for number in spread(counted.calls):
                with faults(number):
                    found = self.only_typed(read, f"call {number} of {name}")
                assert found in (None, wanted), f"{name} answered {found!r} when call {number} failed"
            assert read() == wanted

    def only_typed(self, act: Callable[[], object], what: str) -> object:
        """What `act` returns, None when it raised an error of the tree; anything else fails the test."""
        try:
            return act()
        except HyperError:
            return None
        except Exception as exc:
            raise AssertionError(f"{what} failed with {type(exc).__name__}, which is no error of the tree") from exc
