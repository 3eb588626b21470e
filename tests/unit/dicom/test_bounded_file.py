from __future__ import annotations

import io
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.dicom.bounded_file import BoundedFile, InflatedFile
from esp_medsam.dicom.skim import SkimError
from esp_medsam.errors import TooLargeError


CONTENT = bytes(k * k % 251 for k in range(300_000))


def deflated(content: bytes) -> BoundedFile:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return BoundedFile(io.BytesIO(deflate.compress(content) + deflate.flush()))


class TestBoundedFile:
    def test_reads_no_more_than_there_is(self) -> None:
        file = BoundedFile(io.BytesIO(b"abcdef"))

        assert (file.size, file.left()) == (6, 6)
        assert file.read(4) == b"abcd"
        assert file.read(2**40) == b"ef"
        assert file.seek(2) == file.tell() == 2
        assert file.read() == b"cdef"
        file.seek(100)
        assert (file.read(1), file.left()) == (b"", 0)


class TestInflatedFile:
    @given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 90_000)), max_size=9))
    def test_reads_what_was_deflated(self, steps: list[tuple[int, int]]) -> None:
        file = InflatedFile(deflated(CONTENT), "a")
        place = 0
        for skipped, size in steps:
            place += skipped
            file.seek(place)

            assert file.read(size) == CONTENT[place : place + size]

            place = file.tell()
        file.seek(0)
        if place <= 2**16:
            assert file.read(9) == CONTENT[:9]

    def test_forgets_what_lies_far_behind(self) -> None:
        file = InflatedFile(deflated(bytes(2**24)), "a")
        tracemalloc.start()
        file.seek(2**24 - 4)

        assert file.read(9) == bytes(4)

        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 2**23
        file.seek(0)
        with pytest.raises(SkimError, match="out of order"):
            file.read(1)

    def test_counts_what_is_left_without_holding_it(self) -> None:
        file = InflatedFile(deflated(bytes(2**24)), "a")
        file.read(5)
        tracemalloc.start()

        assert file.left(2**30) == 2**24 - 5

        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 2**23
        assert InflatedFile(deflated(bytes(2**24)), "a").left(1000) >= 1000

    def test_a_bomb_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("esp_medsam.dicom.bounded_file.MOST_INFLATED", 2**21)
        file = InflatedFile(deflated(bytes(2**22)), "a.dcm")

        with pytest.raises(TooLargeError, match=r"a\.dcm must inflate to at most"):
            file.read()

    def test_what_is_damaged_is_refused(self) -> None:
        file = InflatedFile(BoundedFile(io.BytesIO(b"no deflated data")), "a")

        with pytest.raises(SkimError, match=r"deflated.*damaged"):
            file.read(1)

    def test_what_is_cut_short_is_what_there_is(self) -> None:
        whole = deflated(CONTENT).read()
        file = InflatedFile(BoundedFile(io.BytesIO(whole[:-200])), "a")

        found = file.read(len(CONTENT))

        assert 0 < len(found) < len(CONTENT)
        assert CONTENT.startswith(found)
