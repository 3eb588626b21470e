from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from esp_medsam.jpeg import MOST_SCANS, count_scans, is_whole
from tests.support.picture_bytes import encode, jpeg_segment


END = b"\xff\xd9"

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimized": {"optimize": True},
    "coarse": {"quality": 20},
    "subsampled": {"subsampling": 2},
    "restarts": {"restart_marker_blocks": 5},
    "restarts_by_row": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "progressive_fine": {"progressive": True, "quality": 98},
    "progressive_restarts": {"progressive": True, "restart_marker_blocks": 3},
}


def picture(channels: int = 1) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:37, :51]
    waves = [128 + 60 * np.sin(x / (3 + k)) + 50 * np.cos(y / (2 + k)) for k in range(channels)]
    noise = np.random.default_rng(0).normal(0, 6, (37, 51, channels))
    return (np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def encoded(kind: str, channels: int = 1) -> bytes:
    return encode(Image.fromarray(picture(channels).squeeze()), "JPEG", **KINDS[kind])


def decode(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def start_of_data(data: bytes) -> int:
    """Where the data of the first scan begin."""
    at = data.index(b"\xff\xda") + 2
    return at + int.from_bytes(data[at : at + 2], "big")


MARKS = re.compile(rb"\xff[\x01-\xfe]")


def scans_of(data: bytes) -> list[tuple[int, int]]:
    """Where the data of each scan begin and end."""
    places = []
    for found in re.finditer(rb"\xff\xda", data):
        start = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        after = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]").search(data, start)
        places.append((start, after.start() if after else len(data)))
    return places


def intervals_of(data: bytes) -> list[tuple[int, int]]:
    """Where the data between two restarts begin and end."""
    places = []
    for start, end in scans_of(data):
        marks = [
            found.start() for found in re.compile(rb"\xff[\xd0-\xd7]").finditer(data, start, end)
        ]
        places += zip([start, *(mark + 2 for mark in marks)], [*marks, end], strict=True)
    return places


class TestIsWhole:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_an_encoder_wrote_is(self, kind: str, channels: int) -> None:
        data = encoded(kind, channels)

        assert is_whole(data, decode(data), decode)
        assert is_whole(data + bytes(3), decode(data), decode)

    @given(
        kind=st.sampled_from(list(KINDS)),
        channels=st.sampled_from([1, 3]),
        share=st.floats(0, 1, exclude_max=True),
    )
    def test_what_was_cut_anywhere_and_closed_is_not_unless_nothing_is_lost(
        self, kind: str, channels: int, share: float
    ) -> None:
        data = encoded(kind, channels)
        start = start_of_data(data)
        cut = data[: start + int(share * (len(data) - len(END) - start))] + END
        try:
            shown = decode(cut)
        except OSError:
            return  # cut within a marker or a table, which decoders do refuse

        lost = (shown != decode(data)).mean()
        assert lost < 0.001 or not is_whole(cut, shown, decode)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_missing_end_mark_alone_takes_nothing_away(self, kind: str) -> None:
        data = encoded(kind)

        assert is_whole(data[:-2], decode(data), decode)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_what_was_cut_between_two_restarts_is_not(self, share: float) -> None:
        data = encoded("restarts")
        marks = [k for k in range(len(data)) if data[k] == 0xFF and 0xD0 <= data[k + 1] <= 0xD7]
        cut = data[: marks[int(share * len(marks))]] + END

        assert not is_whole(cut, decode(cut), decode)

    def test_what_was_cut_between_two_scans_is_not(self) -> None:
        data = encoded("progressive")
        scans = [k for k in range(len(data)) if data[k : k + 2] == b"\xff\xc4"]
        cut = data[: scans[-1]] + END

        assert decode(cut).shape == (37, 51)
        assert not is_whole(cut, decode(cut), decode)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("share", [0, 0.25, 0.7])
    def test_i1_d13_what_lacks_data_in_any_scan_is_not_unless_nothing_is_lost(
        self, kind: str, channels: int, share: float
    ) -> None:
        data = encoded(kind, channels)
        whole = decode(data)
        for start, end in scans_of(data):
            cut = data[: start + int(share * (end - start))] + data[end:]
            shown = decode(cut)

            assert (shown == whole).all() or not is_whole(cut, shown, decode)

    @pytest.mark.parametrize("kind", [name for name in KINDS if "restarts" in name])
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_i1_d13_what_lacks_data_between_two_restarts_is_not_unless_nothing_is_lost(
        self, kind: str, share: float
    ) -> None:
        data = encoded(kind)
        whole = decode(data)
        lacking = 0
        for start, end in intervals_of(data):
            cut = data[: start + int(share * (end - start))] + data[end:]
            shown = decode(cut)
            lacking += not is_whole(cut, shown, decode)

            assert (shown == whole).all() or not is_whole(cut, shown, decode)

        assert lacking

    def test_i1_d13_what_lacks_all_between_most_restarts_is_not(self) -> None:
        data = encoded("restarts_by_row")
        cut = data
        for start, end in reversed(intervals_of(data)[1:]):
            cut = cut[:start] + cut[end:]

        assert decode(cut).shape == (37, 51)
        assert not is_whole(cut, decode(cut), decode)

    def test_i1_d13_what_was_cut_by_a_restart_that_does_not_belong_there_is_not(self) -> None:
        data = encoded("baseline")
        half = (start_of_data(data) + len(data)) // 2
        for mark in (b"\xff\xd0", b"\xff\xff\xd0", b"\xff\x01"):
            cut = data[:half] + mark + data[half:]

            assert not is_whole(cut, decode(cut), decode)

    def test_i1_d13_a_restart_in_place_of_one_that_is_missing_is_not_enough(self) -> None:
        data = encoded("restarts")
        (first, end), *_ = intervals_of(data)
        cut = data[:first] + data[end + 2 : -2] + b"\xff\xd0" + END

        assert decode(cut).shape == (37, 51)
        assert not is_whole(cut, decode(cut), decode)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", [name for name in KINDS if "progressive" not in name])
    def test_d13_without_a_decoder_blocks_are_counted(self, kind: str, channels: int) -> None:
        """As of 12 bits."""
        data = encoded(kind, channels)
        assert is_whole(data, picture(), None)
        for start, end in intervals_of(data):
            for share in (0, 0.5, 0.9):
                cut = data[: start + int(share * (end - start))] + data[end:]

                assert not is_whole(cut, picture(), None)

    def test_blocks_are_counted_from_chunk_to_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded("subsampled", 3)
        for chunk in (1, 7, 1000):
            monkeypatch.setattr("esp_medsam.jpeg_codes._CHUNK", chunk)

            assert is_whole(data, picture(), None)
            assert not is_whole(data[:-5] + END, picture(), None)

    def test_without_tables_blocks_are_not_counted(self) -> None:
        """Decoders refuse it."""
        data = encoded("baseline").replace(b"\xff\xc4", b"\xff\xfe")

        assert is_whole(data, picture(), None)

    def test_of_progressive_without_a_decoder_scans_are_counted(self) -> None:
        data = encoded("progressive")

        assert is_whole(data, picture(), None)
        assert not is_whole(data[: data.rindex(b"\xff\xda")] + END, picture(), None)

    def test_i1_d13_what_lacks_a_scan_that_others_refine_is_not(self) -> None:
        data = encoded("progressive")
        places = [k for k in range(len(data)) if data[k : k + 2] == b"\xff\xda"]
        lacking = 0
        for (start, end), place in zip(scans_of(data), places, strict=True):
            first, last, bits = data[start - 3 : start]
            cut = data[:place] + data[end:]
            lacking += bits >> 4 == 0 and first > 0

            assert not is_whole(cut, decode(cut), decode), (first, last, bits)

        assert lacking

    @pytest.mark.parametrize("kind", KINDS)
    def test_fill_bytes_before_a_marker_belong_to_it(self, kind: str) -> None:
        """ISO/IEC 10918-1 B.1.1.2."""
        data = encoded(kind)
        filled = MARKS.sub(lambda mark: b"\xff\xff" + mark[0], data[start_of_data(data) :])
        data = data[: start_of_data(data)] + filled

        assert is_whole(data, decode(data), decode)

    def test_many_fill_bytes_take_no_time(self, bounded: Callable[..., Any]) -> None:
        start = start_of_data(encoded("baseline"))
        data = encoded("baseline")[:start] + b"\xff" * 10**6 + b"\0" + END

        assert bounded(count_scans, data) == 1
        assert bounded(count_scans, data[:2] + b"\xff" * 10**6 + b"\0") == 0

    def test_a_component_without_a_scan_is_missing(self) -> None:
        frame = struct.pack(">BHHB", 8, 8, 8, 2) + bytes([1, 0x11, 0, 2, 0x11, 0])
        scan = bytes([1, 1, 0, 0, 63, 0])
        data = b"\xff\xd8" + jpeg_segment(0xC0, frame) + jpeg_segment(0xDA, scan) + b"\x12" + END

        assert not is_whole(data, np.zeros((8, 8)), lambda _: np.zeros((8, 8)))
        assert count_scans(data) == 1

    def test_of_arithmetic_coding_nothing_is_added_to_the_data(self) -> None:
        data = encoded("baseline").replace(b"\xff\xc0", b"\xff\xc9")

        assert is_whole(data, picture(), lambda _: picture(3))

    def test_what_no_decoder_takes_is_not(self) -> None:
        def refuse(_: bytes) -> npt.NDArray[Any]:
            raise OSError

        assert not is_whole(encoded("baseline"), picture(), refuse)

    def test_memory_that_runs_out_is_no_answer(self) -> None:
        def burst(_: bytes) -> npt.NDArray[Any]:
            raise MemoryError

        with pytest.raises(MemoryError):
            is_whole(encoded("baseline"), picture(), burst)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GIF89a",
            b"\xff\xd8",
            b"\xff\xd8\xff\xd9",
            b"\xff\xd8\xff\xc0\x00\x01",
            b"\xff\xd8\xff\xc0\x00\x08\x08\x00\x08\x00\x08\x03" + END,
            b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + END,
            b"\xff\xd8\xff\xda\x00\x02" + END,
            b"\xff\xd8\xff\xda\xff\xff" + END,
            b"\xff\xd8" + b"\xff\xfe\x00\x02" * 70_000 + END,
        ],
    )
    def test_what_is_no_jpeg_is_not(self, data: bytes) -> None:
        assert not is_whole(data, picture(), decode)
        assert count_scans(data) == 0

    @given(st.binary(max_size=300), st.data())
    def test_any_bytes_have_an_answer(self, noise: bytes, data: st.DataObject) -> None:
        content = bytearray(encoded(data.draw(st.sampled_from(list(KINDS)))))
        at = data.draw(st.integers(2, len(content)))
        content[at : at + len(noise)] = noise

        assert is_whole(bytes(content), picture(), lambda _: picture()) in (True, False)


class TestCountScans:
    def test_counts_them(self) -> None:
        assert count_scans(encoded("baseline")) == 1
        assert count_scans(encoded("baseline", 3)) == 1
        assert 6 <= count_scans(encoded("progressive", 3)) < MOST_SCANS

    def test_a_bomb_of_scans_is_told_by_their_number(self) -> None:
        data = encoded("progressive")
        last = data.rindex(b"\xff\xda")
        bomb = data[:-2] + data[last:-2] * 1000 + END

        assert count_scans(bomb) > MOST_SCANS
