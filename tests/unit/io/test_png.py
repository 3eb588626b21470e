from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam.errors import CorruptFileError, FormatError, ReadError, TooLargeError
from esp_medsam.io.raster import read_raster
from tests.support.picture_bytes import png_chunk


SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip


def header(width: int, height: int, depth: int = 8, color: int = 0, interlace: int = 0) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def rows_of(array: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in array)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 37), dtype=np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes chunks as a PNG, with its end."""

    def put(*chunks: bytes, end: bytes = END) -> Path:
        (tmp_path / "a.png").write_bytes(SIGNATURE + b"".join(chunks) + end)
        return tmp_path / "a.png"

    return put


class TestRows:
    @pytest.mark.parametrize("held", [0, 1, 10, 47])
    def test_i1_that_end_early_are_refused(
        self, array: np.ndarray, write: Callable[..., Path], held: int
    ) -> None:
        """The stream ends as a stream does, and all checksums are right."""
        data = zlib.compress(rows_of(array[:held]))
        path = write(header(37, 48), png_chunk(b"IDAT", data))

        with pytest.raises(CorruptFileError, match=rf"{38 * (48 - held):,} bytes are missing"):
            read_raster(path)

    @pytest.mark.parametrize(("width", "height"), [(37, 48), (1, 1), (3, 2), (5, 1), (8, 8)])
    def test_of_every_pass_count_where_they_are_interlaced(
        self, array: np.ndarray, write: Callable[..., Path], width: int, height: int
    ) -> None:
        array = array[:height, :width]
        passes = [rows_of(array[y::dy, x::dx]) for x, y, dx, dy in ADAM7 if array[y:, x:].size]
        whole = write(
            header(width, height, interlace=1), png_chunk(b"IDAT", zlib.compress(b"".join(passes)))
        )

        np.testing.assert_array_equal(read_raster(whole).pixels[0], array)
        for end in range(len(passes)):
            data = zlib.compress(b"".join(passes)[: len(b"".join(passes[: end + 1])) - 1])
            cut = write(header(width, height, interlace=1), png_chunk(b"IDAT", data))
            with pytest.raises(CorruptFileError, match=r"a\.png must .*last [\d,]+ bytes"):
                read_raster(cut)

    def test_may_lie_in_any_number_of_chunks(
        self, array: np.ndarray, write: Callable[..., Path]
    ) -> None:
        data = zlib.compress(rows_of(array))
        pieces = [png_chunk(b"IDAT", data[k : k + 7]) for k in range(0, len(data), 7)]
        path = write(header(37, 48), png_chunk(b"IDAT", b""), *pieces)

        np.testing.assert_array_equal(read_raster(path).pixels[0], array)

    def test_that_were_changed_are_refused(
        self, array: np.ndarray, write: Callable[..., Path]
    ) -> None:
        whole = png_chunk(b"IDAT", zlib.compress(rows_of(array), 0))
        for place in (40, 400, len(whole) - 1):
            changed = bytearray(whole)
            changed[place] ^= 1
            with pytest.raises(CorruptFileError, match=r"a\.png must be a whole picture"):
                read_raster(write(header(37, 48), bytes(changed)))


class TestDamage:
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_gives_the_same_picture_or_an_error(
        self, array: np.ndarray, write: Callable[..., Path], data: st.DataObject
    ) -> None:
        """Every chunk has a checksum, so no change goes unseen."""
        path = write(
            header(37, 48),
            png_chunk(b"tEXt", b"a\0b"),
            png_chunk(b"IDAT", zlib.compress(rows_of(array))),
        )
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)

        try:
            pixels = read_raster(path).pixels
        except ReadError:
            return
        np.testing.assert_array_equal(pixels[0], array)


class TestChunks:
    @pytest.fixture
    def data(self, array: np.ndarray) -> bytes:
        return png_chunk(b"IDAT", zlib.compress(rows_of(array)))

    def test_the_last_must_be_there(self, data: bytes, write: Callable[..., Path]) -> None:
        for end in (b"", END[:-1], END[:5]):
            with pytest.raises(CorruptFileError, match=r"a\.png must be a whole picture"):
                read_raster(write(header(37, 48), data, end=end))

    def test_what_follows_the_last_is_passed_over(
        self, data: bytes, array: np.ndarray, write: Callable[..., Path]
    ) -> None:
        path = write(header(37, 48), data, end=END + b"more")

        np.testing.assert_array_equal(read_raster(path).pixels[0], array)

    @pytest.mark.parametrize(
        ("chunks", "reason"),
        [
            ([header(37, 48), header(37, 48)], "it has two headers"),
            ([png_chunk(b"gAMA", bytes(4)), header(37, 48)], "does not begin with.*header"),
            ([header(37, 0)], "its header is invalid"),
            ([header(37, 48, depth=3)], "its header is invalid"),
            ([header(37, 48, color=5)], "its header is invalid"),
            ([header(37, 48, color=3)], "it lacks its palette"),
        ],
    )
    def test_the_header_and_the_palette_must_be_right(
        self, data: bytes, write: Callable[..., Path], chunks: list[bytes], reason: str
    ) -> None:
        with pytest.raises(CorruptFileError, match=reason):
            read_raster(write(*chunks, data))

    def test_those_of_an_animation_are_refused(
        self, data: bytes, write: Callable[..., Path]
    ) -> None:
        with pytest.raises(FormatError, match="must hold one picture; it has several"):
            read_raster(write(header(37, 48), data, png_chunk(b"fdAT", bytes(8))))

    @pytest.mark.parametrize("kind", [b"iCCP", b"tEXt", b"zTXt", b"prVt"])
    def test_that_are_large_are_passed_over(
        self, data: bytes, array: np.ndarray, write: Callable[..., Path], kind: bytes
    ) -> None:
        """A slide scanner's color profile has megabytes, and Pillow stops at one."""
        profile = np.random.default_rng(0).bytes(2**21)
        path = write(header(37, 48), png_chunk(kind, b"a\0\0" + zlib.compress(profile)), data)

        np.testing.assert_array_equal(read_raster(path).pixels[0], array)

    def test_a_text_may_say_how_it_is_turned(
        self, data: bytes, array: np.ndarray, write: Callable[..., Path]
    ) -> None:
        turned = b'<x tiff:Orientation="6"/>'
        path = write(
            header(37, 48), png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + turned), data
        )

        np.testing.assert_array_equal(read_raster(path).pixels[0], np.rot90(array, -1))


class TestCost:
    """Each of these took minutes or gigabytes, or may."""

    @pytest.mark.parametrize(
        ("depth", "color", "size"), [(16, 6, 13_000), (8, 0, 13_000), (1, 0, 13_377)]
    )
    def test_i2_of_pixels_that_are_only_claimed_is_nothing(
        self,
        write: Callable[..., Path],
        bounded: Callable[..., Any],
        depth: int,
        color: int,
        size: int,
    ) -> None:
        path = write(
            header(size, size, depth, color), png_chunk(b"IDAT", zlib.compress(bytes(300)))
        )

        with pytest.raises(CorruptFileError, match=r"a\.png must .*last [\d,]+ bytes"):
            bounded(read_raster, path)

    def test_i4_20000_x_20000_is_refused_and_1_x_1_is_read(
        self, write: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        data = png_chunk(b"IDAT", zlib.compress(b"\0\7"))

        assert read_raster(write(header(1, 1), data)).pixels.tolist() == [[[7]]]
        with pytest.raises(TooLargeError, match=r"at most 178,956,970 pixels; got 20,000 x 20,000"):
            bounded(read_raster, write(header(20_000, 20_000), data))

    @pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"prVt"])
    def test_of_a_million_chunks_is_bounded(
        self, write: Callable[..., Path], bounded: Callable[..., Any], kind: bytes
    ) -> None:
        path = write(header(37, 48), png_chunk(kind, b"") * 10**6)

        with pytest.raises(TooLargeError, match="at most 131,072 chunks"):
            bounded(read_raster, path)

    def test_of_bombs_beside_the_picture_is_nothing(
        self,
        array: np.ndarray,
        write: Callable[..., Path],
        bounded: Callable[..., Any],
    ) -> None:
        bomb = zlib.compress(bytes(10**8), 9)
        aside = [png_chunk(kind, b"a\0\0" + bomb) for kind in (b"iCCP", b"zTXt")] * 20
        path = write(header(37, 48), *aside, png_chunk(b"IDAT", zlib.compress(rows_of(array))))

        np.testing.assert_array_equal(bounded(read_raster, path).pixels[0], array)
