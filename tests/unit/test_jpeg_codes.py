from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from esp_medsam.jpeg import is_whole
from esp_medsam.jpeg_codes import has_all_samples


COUNTS = bytes([0, 0, 0, 0, 17] + [0] * 11)
TABLE = COUNTS + bytes(range(17))
"""Seventeen codes of five bits, for differences of 0 to 16 bits."""


def bits_of(difference: int) -> str:
    """A difference as it is coded: its category, and which of that it is."""
    category = abs(difference).bit_length()
    if not category or category == 16:
        return f"{category:05b}"
    rest = difference if difference > 0 else difference + 2**category - 1
    return f"{category:05b}{rest:0{category}b}"


def data_of(samples: npt.NDArray[Any]) -> bytes:
    """Samples, each coded as its difference from the one before it, the first from 2 ** 15."""
    before = np.concatenate([[2**15], samples.ravel()[:-1].astype(int)])
    bits = "".join(bits_of(int(d)) for d in samples.ravel().astype(int) - before)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def jpeg_of(samples: npt.NDArray[Any], data: bytes | None = None) -> bytes:
    """A lossless JPEG of one component, predicted from the left, but its first column."""
    segments = {
        0xC3: struct.pack(">BHHB", 16, *samples.shape, 1) + bytes([1, 0x11, 0]),
        0xC4: b"\0" + TABLE,
        0xDA: bytes([1, 1, 0, 1, 0, 0]),
    }
    head = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments.items()
    )
    return b"\xff\xd8" + head + (data_of(samples) if data is None else data) + b"\xff\xd9"


def restarted_jpeg_of(samples: npt.NDArray[Any], rows: list[bytes]) -> bytes:
    """A lossless JPEG that restarts with each row."""
    interval = b"\xff\xdd" + struct.pack(">HH", 4, samples.shape[1])
    marks = [bytes([0xFF, 0xD0 + k % 8]) for k in range(len(rows) - 1)]
    data = b"".join(map(bytes.__add__, rows, [*marks, b""]))
    return b"\xff\xd8" + interval + jpeg_of(samples, data)[2:]


def planes_of(samples: npt.NDArray[Any], planes: list[bytes]) -> bytes:
    """A lossless JPEG of two components, each in a scan of its own."""
    one = jpeg_of(samples, b"")
    frame = struct.pack(">HBHHB", 14, 16, *samples.shape, 2) + bytes([1, 0x11, 0, 2, 0x11, 0])
    scans = [
        one[one.index(b"\xff\xda") : -2],
        one[one.index(b"\xff\xda") : -2].replace(b"\1\1", b"\1\2"),
    ]
    tables = one[one.index(b"\xff\xc4") : one.index(b"\xff\xda")]
    data = b"".join(map(bytes.__add__, scans, planes))
    return b"\xff\xd8\xff\xc3" + frame + tables + data + b"\xff\xd9"


class TestHasAllSamples:
    @given(arrays(np.uint16, (3, 5)), st.sampled_from([1, 3]))
    def test_counts_the_samples(self, samples: npt.NDArray[np.uint16], components: int) -> None:
        data, count = data_of(samples), samples.size // components

        assert has_all_samples(data, [TABLE] * components, count)
        assert not has_all_samples(data[:-2], [TABLE] * components, count) or len(data) < 4
        assert not has_all_samples(data, [TABLE] * components, count + 2)

    def test_goes_on_from_chunk_to_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        samples = np.random.default_rng(0).integers(0, 2**16, (40, 50), np.uint16)
        data = data_of(samples)

        for chunk in (1, 7, 1000, len(data)):
            monkeypatch.setattr("esp_medsam.jpeg_codes._CHUNK", chunk)

            assert has_all_samples(data, [TABLE], samples.size)
            assert not has_all_samples(data[:-3], [TABLE], samples.size)

    def test_no_data_hold_no_samples(self) -> None:
        assert has_all_samples(b"", [TABLE], 0)
        assert not has_all_samples(b"", [TABLE], 1)

    @given(st.binary(max_size=90), st.binary(min_size=16, max_size=60))
    def test_any_data_and_table_have_an_answer(self, data: bytes, table: bytes) -> None:
        assert has_all_samples(data, [table], 20) in (True, False)


class TestIsWhole:
    """Of lossless JPEG, which no decoder is asked a second time."""

    @staticmethod
    def never(_: bytes) -> npt.NDArray[Any]:
        raise AssertionError

    @given(arrays(np.uint16, (4, 40), elements=st.integers(0, 99)), st.floats(0, 0.9))
    def test_what_ends_in_one_value_must_have_all_samples(
        self, samples: npt.NDArray[np.uint16], share: float
    ) -> None:
        samples[-1, -16:] = 7
        data = data_of(samples)
        filled = samples.copy()
        filled[-1] = 0

        assert is_whole(jpeg_of(samples), samples, self.never)
        assert not is_whole(jpeg_of(samples, data[: int(share * len(data))]), filled, self.never)

    @pytest.mark.parametrize("row", [0, 3, 6, 9])
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_d13_each_restart_interval_must_have_all_samples(self, row: int, share: float) -> None:
        samples = np.random.default_rng(0).integers(0, 99, (10, 40), np.uint16)
        rows = [data_of(samples[k]) for k in range(10)]
        assert is_whole(restarted_jpeg_of(samples, rows), samples, self.never)
        rows[row] = rows[row][: int(share * len(rows[row]))]

        assert not is_whole(restarted_jpeg_of(samples, rows), samples, self.never)

    def test_d13_of_several_scans_each_must_have_all_samples(self) -> None:
        samples = np.random.default_rng(0).integers(0, 99, (10, 40), np.uint16)
        data = data_of(samples)
        assert is_whole(planes_of(samples, [data, data]), samples, self.never)

        for planes in ([data[:-9], data], [data, data[:-9]]):
            assert not is_whole(planes_of(samples, planes), samples, self.never)

    def test_what_ends_in_several_values_was_decoded_to_its_end(self) -> None:
        samples = np.arange(80, dtype=np.uint16).reshape(2, 40)

        assert is_whole(jpeg_of(samples, b"\x12"), samples, self.never)
