"""Image formats that are broken on purpose, one way each (see the package)."""

from __future__ import annotations

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk_format_raw import RawFormat


class _Format(ImageFormatContract):
    claims_all = True
    Made = RawFormat

    @pytest.fixture
    def image_format(self):
        return self.Made()


class TestClaimsEverything(_Format):
    caught_by = "test_other_files_are_not_claimed"

    class Made(RawFormat):
        def probe(self, head, tail, size):
            return 100


class TestLeaksDescriptors(_Format):
    caught_by = "test_closing_releases_the_file"

    class Made(RawFormat):
        def open(self, file, options=None):
            source = super().open(file, options)
            source.close = lambda: None
            return source


class TestReadsPastTheEnd(_Format):
    caught_by = "test_reading_past_the_end_is_out_of_range"

    class Made(RawFormat):
        def open(self, file, options=None):
            source = super().open(file, options)
            source._check = lambda offset, end: None
            return source


class TestIgnoresTheCheckpoint(_Format):
    caught_by = "test_an_interrupted_image_is_gone_on_with"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            if resume is not None:
                file.truncate(0)
            return super().create(file, size, options)


class TestTakesAnyOption(_Format):
    caught_by = "test_an_unknown_option_is_refused_with_the_known_ones"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            return super().create(file, size, None, resume)


class TestSwallowsAFullDisk(_Format):
    caught_by = "test_a_fault_at_any_call_of_a_write_publishes_nothing"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            sink = super().create(file, size, options, resume)
            write = sink.write

            def careless(offset, data):
                try:
                    write(offset, data)
                except OSError:
                    return

            sink.write = careless
            return sink
