from __future__ import annotations

import io
import struct

import pytest

from esp_medsam.dicom.bounded_file import BoundedFile
from esp_medsam.dicom.fragments import find_fragments, frames_of
from esp_medsam.errors import CorruptFileError


END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
FIRST, MORE = b"\xff\xd8\xff\xc0ab", b"more"


def item(content: bytes = b"") -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def table(*offsets: int) -> bytes:
    return item(struct.pack(f"<{len(offsets)}L", *offsets))


def frames(count: int, *pieces: bytes, offsets: bytes = item()) -> list[bytes]:
    file = BoundedFile(io.BytesIO(b"1234" + offsets + b"".join(map(item, pieces)) + END + b"more"))
    found = frames_of(file, find_fragments(file, 4, "a.dcm"), count, "a.dcm")
    joined = []
    for frame in found:
        joined.append(b"")
        for piece in frame:
            file.seek(piece.start)
            joined[-1] += file.read(piece.length)
    return joined


class TestFramesOf:
    def test_one_frame_has_all_pieces(self) -> None:
        assert frames(1, b"ab", b"cd") == [b"abcd"]

    def test_as_many_pieces_as_frames_are_one_each_whatever_the_table_says(self) -> None:
        for offsets in (item(), table(0, 10), table(10, 0), table(7, 2**31), table(1)):
            assert frames(2, b"ab", b"cd", offsets=offsets) == [b"ab", b"cd"]

    def test_empty_pieces_count_for_nothing(self) -> None:
        assert frames(2, b"ab", b"", b"cd") == [b"ab", b"cd"]

    def test_the_table_tells_more_pieces_apart(self) -> None:
        assert frames(2, b"ab", b"cd", b"ef", offsets=table(0, 10)) == [b"ab", b"cdef"]
        assert frames(2, b"ab", b"cd", b"ef", offsets=table(0, 20)) == [b"abcd", b"ef"]

    def test_without_a_table_what_frames_begin_with_does(self) -> None:
        assert frames(2, FIRST, MORE, FIRST) == [FIRST + MORE, FIRST]

    @pytest.mark.parametrize(
        "offsets", [table(0, 0), table(0), table(0, 11), table(10, 20), table(0, 0, 0, 0)]
    )
    def test_instead_of_a_table_that_tells_nothing_what_frames_begin_with_does(
        self, offsets: bytes
    ) -> None:
        assert frames(2, FIRST, MORE, FIRST, offsets=offsets) == [FIRST + MORE, FIRST]

    def test_a_table_that_tells_them_apart_counts_before_what_they_begin_with(self) -> None:
        found = frames(2, FIRST, FIRST, FIRST, offsets=table(0, 28))

        assert found == [FIRST + FIRST, FIRST]

    def test_several_frames_in_place_of_one_are_refused(self) -> None:
        with pytest.raises(CorruptFileError, match=r"Number of Frames says; 2 of its.*begin"):
            frames(1, FIRST, MORE, FIRST)

    @pytest.mark.parametrize(
        "offsets", [table(0, 11), table(0, 2**32 - 1), table(10, 20), table(0, 10, 20), table(0)]
    )
    def test_a_table_that_lies_is_refused(self, offsets: bytes) -> None:
        with pytest.raises(CorruptFileError, match=r"where its 2 compressed frames begin; its.*3"):
            frames(2, b"ab", b"cd", b"ef", offsets=offsets)

    def test_pieces_that_nothing_tells_apart_are_refused(self) -> None:
        with pytest.raises(CorruptFileError, match=r"its offset table .* 3 fragments"):
            frames(2, b"ab", b"cd", b"ef")

    def test_fewer_pieces_than_frames_are_refused(self) -> None:
        with pytest.raises(CorruptFileError, match="2 compressed frames; got 1"):
            frames(2, b"ab")
        with pytest.raises(CorruptFileError, match="1 compressed frames; got 0"):
            frames(1)


class TestFindFragments:
    @pytest.mark.parametrize("lost", [9, 12, 15])
    def test_a_piece_that_is_cut_short_is_refused(self, lost: int) -> None:
        content = (item() + item(b"abcd") + END)[:-lost]

        with pytest.raises(CorruptFileError, match="whole compressed pixels; it is cut short"):
            find_fragments(BoundedFile(io.BytesIO(content)), 0, "a.dcm")

    def test_a_missing_end_takes_nothing_away(self) -> None:
        content = item() + item(b"abcd")

        assert len(find_fragments(BoundedFile(io.BytesIO(content)), 0, "a.dcm")) == 2

    def test_empty_pieces_without_end_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("esp_medsam.dicom.fragments._FRAGMENTS", 100)

        with pytest.raises(CorruptFileError, match="101 empty"):
            find_fragments(BoundedFile(io.BytesIO(item() * 1000)), 0, "a.dcm")
