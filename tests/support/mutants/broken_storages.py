"""Storages that are broken on purpose, one way each (see the package)."""

from __future__ import annotations

import os

import pytest
from hypersdk.errors import HyperError, NotFound
from hypersdk.plugin import ObjectInfo, Page
from hypersdk.testing import MemoryStorage
from hypersdk.testing.storage_contract import StorageContract
from hypersdk_storage_local import LocalStorage


class _Storage(StorageContract):
    concurrency = "parallel"
    Made = MemoryStorage

    @pytest.fixture
    def storage(self):
        return self.Made()


class TestSoundStorage(_Storage):
    """The control."""


class TestListsOutOfOrder(_Storage):
    caught_by = "test_a_list_is_complete_and_in_key_order_for_every_page_size"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            page = super().list(prefix, page_size, page_token)
            return Page(list(reversed(page.items)), page.next_token)


class TestLongPages(_Storage):
    caught_by = "test_a_list_is_complete_and_in_key_order_for_every_page_size"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            return super().list(prefix, page_size + 1, page_token)


class TestTakesAnyPageToken(_Storage):
    caught_by = "test_a_foreign_page_token_is_refused"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            return super().list(prefix, page_size, page_token if page_token.startswith("after:") else "")


class TestOverwritesWhatIsThere(_Storage):
    caught_by = "test_if_absent_refuses_an_existing_key"

    class Made(MemoryStorage):
        def open_writer(self, key, *, if_absent=False, resume=""):
            return super().open_writer(key, if_absent=False, resume=resume)


class TestEtagNeverChanges(_Storage):
    caught_by = "test_the_etag_changes_with_the_content"

    class Made(MemoryStorage):
        def publish(self, writer, data, metadata):
            info = super().publish(writer, data, metadata)
            same = ObjectInfo(info.key, info.size_bytes, info.modified_s, "same")
            self.objects[info.key] = (data, same)
            return same


class TestShortReads(_Storage):
    caught_by = "test_reading_past_the_end_is_out_of_range"

    class Made(MemoryStorage):
        def read_range(self, key, offset, length):
            return self._object(key)[0][offset : offset + length]


class TestDeleteOfNothingFails(_Storage):
    caught_by = "test_delete_removes_and_may_be_repeated"

    class Made(MemoryStorage):
        def delete(self, key):
            self.stat(key)
            super().delete(key)


class TestVisibleBeforeCommit(_Storage):
    caught_by = "test_nothing_is_visible_before_commit"

    class Made(MemoryStorage):
        def open_writer(self, key, **kw):
            writer = super().open_writer(key, **kw)
            self.objects.setdefault(key, (b"", ObjectInfo(key, 0, 0.0, "early")))
            return writer


class TestRacesWithItself(_Storage):
    caught_by = "test_threads_may_use_it_at_once"

    class Made(MemoryStorage):
        def open_writer(self, key, **kw):
            self.last = key
            writer = super().open_writer(key, **kw)
            os.sched_yield()
            writer.key = self.last
            return writer


class _LocalStorage(StorageContract):
    Made = LocalStorage

    @pytest.fixture
    def storage(self, tmp_path):
        storage = self.Made()
        storage.configure({"path": str(tmp_path / "objects"), "create": True}, {})
        return storage


class TestUntypedFaults(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_read_is_typed"

    class Made(LocalStorage):
        def stat(self, key):
            os.listdir(self._tree.root)
            return super().stat(key)


class TestHalfAnObject(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_write_leaves_an_object_whole_or_absent"

    class Made(LocalStorage):
        def open_writer(self, key, **kw):
            writer = super().open_writer(key, **kw)
            write, path = writer.write, self._tree.root / key

            def early(data):
                write(data)
                if key.startswith("faults/"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("ab") as file:
                        file.write(data)

            writer.write = early
            return writer


class TestShorterListWhenItFails(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_read_is_typed"

    class Made(LocalStorage):
        def list(self, prefix, page_size, page_token):
            try:
                return super().list(prefix, page_size, page_token)
            except HyperError as exc:
                if exc.reason == "INPUT_OUTPUT_ERROR":
                    return Page([])
                raise


class TestNotFoundIsSwallowed(_Storage):
    caught_by = "test_an_absent_object_is_not_found"

    class Made(MemoryStorage):
        def stat(self, key):
            try:
                return super().stat(key)
            except NotFound:
                return ObjectInfo(key, 0, 0.0)
