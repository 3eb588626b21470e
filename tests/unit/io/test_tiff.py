from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile

from esp_medsam.errors import CorruptFileError, FormatError, TooLargeError
from esp_medsam.io.raster import read_raster
from tests.support.tiff import ROWS_PER_STRIP, Change, change, directory, put_value, waves


COMPRESSIONS = {
    "none": None,
    "lzw": "tiff_lzw",
    "deflate": "tiff_adobe_deflate",
    "old_deflate": "tiff_deflate",
    "packbits": "packbits",
    "jpeg": "jpeg",
    "zstd": "zstd",
}


@pytest.fixture
def array() -> np.ndarray:
    return waves()


@pytest.fixture
def write(tmp_path: Path, array: np.ndarray) -> Callable[[str], Path]:
    """Return a function that writes the array in six strips."""

    def put(compression: str) -> Path:
        path = tmp_path / f"{compression}.tif"
        if COMPRESSIONS[compression] is None:
            tifffile.imwrite(path, array, photometric="rgb", rowsperstrip=ROWS_PER_STRIP)
        else:
            options = {"compression": COMPRESSIONS[compression], "tiffinfo": {278: ROWS_PER_STRIP}}
            PIL.Image.fromarray(array).save(path, **options)
        return path

    return put


def shorten_count(data: bytearray, page: tifffile.TiffPage) -> None:
    put_value(data, page.tags["StripByteCounts"], 3, page.databytecounts[3] // 3)


def empty_strip(data: bytearray, page: tifffile.TiffPage) -> None:
    put_value(data, page.tags["StripByteCounts"], 3, 0)


def no_place(data: bytearray, page: tifffile.TiffPage) -> None:
    put_value(data, page.tags["StripOffsets"], 3, 0)


def place_beyond(data: bytearray, page: tifffile.TiffPage) -> None:
    put_value(data, page.tags["StripOffsets"], 3, len(data))


def fewer_strips(data: bytearray, page: tifffile.TiffPage) -> None:
    for name in ("StripOffsets", "StripByteCounts"):
        struct.pack_into("<I", data, page.tags[name].offset + 4, 4)


def more_rows(data: bytearray, page: tifffile.TiffPage) -> None:
    put_value(data, page.tags["ImageLength"], 0, 192)


class TestStrips:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_that_are_all_there_are_read(
        self, write: Callable[[str], Path], array: np.ndarray, compression: str
    ) -> None:
        pixels = read_raster(write(compression)).pixels

        tolerance = 30 if compression == "jpeg" else 0
        np.testing.assert_allclose(pixels, np.moveaxis(array, -1, 0), atol=tolerance)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize(
        "edit", [shorten_count, empty_strip, no_place, place_beyond, fewer_strips, more_rows]
    )
    def test_i1_that_are_missing_or_short_are_refused(
        self, write: Callable[[str], Path], compression: str, edit: Change
    ) -> None:
        path = change(write(compression), edit)

        with pytest.raises(CorruptFileError, match=r"\.tif must be a whole picture"):
            read_raster(path)

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_i1_of_jpeg_that_were_cut_and_closed_are_refused(
        self, write: Callable[[str], Path], share: float
    ) -> None:
        def cut(data: bytearray, page: tifffile.TiffPage) -> None:
            size = int(page.databytecounts[3] * share)
            end = page.dataoffsets[3] + size
            data[end : end + 2] = b"\xff\xd9"

        path = change(write("jpeg"), cut)

        with pytest.raises(CorruptFileError, match=r"\.tif must be a whole picture"):
            read_raster(path)

    @pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "lzma"])
    def test_packed_otherwise_are_refused(
        self, tmp_path: Path, array: np.ndarray, compression: str
    ) -> None:
        """What is missing of a fax is white."""
        picture = PIL.Image.fromarray(array[..., 0]).convert("1")
        picture.save(tmp_path / "a.tif", compression=compression)

        with pytest.raises(FormatError, match=r"must be a TIFF without compression, .* Save it as"):
            read_raster(tmp_path / "a.tif")


class TestTiles:
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("planes", ["contig", "separate"])
    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
    def test_may_reach_over_the_edge(
        self,
        tmp_path: Path,
        array: np.ndarray,
        compression: str | None,
        planes: str,
        order: str,
        big: bool,
    ) -> None:
        stored = array if planes == "contig" else np.moveaxis(array, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif", stored, tile=(64, 32), photometric="rgb", planarconfig=planes,
            compression=compression, bigtiff=big, byteorder=order,
        )  # fmt: skip

        np.testing.assert_array_equal(
            read_raster(tmp_path / "a.tif").pixels, np.moveaxis(array, -1, 0)
        )

    def test_i1_that_are_missing_are_refused(self, tmp_path: Path, array: np.ndarray) -> None:
        def drop(data: bytearray, page: tifffile.TiffPage) -> None:
            put_value(data, page.tags["TileByteCounts"], 1, 0)

        tifffile.imwrite(tmp_path / "a.tif", array, tile=(32, 32), photometric="rgb")

        with pytest.raises(CorruptFileError, match=r"\.tif must be a whole picture"):
            read_raster(change(tmp_path / "a.tif", drop))


def plain(width: int, height: int, *more: tuple[int, int, int, int]) -> list[tuple[int, ...]]:
    """Entries of a gray picture of 8 bits."""
    return [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), *more]


ONE_STRIP = ((273, 4, 1, 8), (278, 4, 1, 2**32 - 1), (279, 4, 1, 1))


class TestDirectory:
    @pytest.fixture
    def put(self, tmp_path: Path) -> Callable[..., Path]:
        """Return a function that writes a TIFF of these bytes behind its first eight."""

        def write(content: bytes) -> Path:
            (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + content)
            return tmp_path / "a.tif"

        return write

    def test_of_a_picture_of_one_pixel_is_read(self, put: Callable[..., Path]) -> None:
        path = put(directory(*plain(1, 1, *ONE_STRIP)))

        assert read_raster(path).pixels.tolist() == [[[7]]]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (directory(*plain(1, 1), *ONE_STRIP, *ONE_STRIP), "a tag twice"),
            (directory(*plain(0, 1), *ONE_STRIP), "its header is invalid"),
            (directory(*plain(1, 1), *ONE_STRIP)[:30], "it is cut short"),
            (directory(*plain(1, 1), (273, 5, 1, 8), *ONE_STRIP[1:]), "tag 273"),
            (
                directory(*plain(1, 1), (273, 4, 2**31, 8), *ONE_STRIP[1:]),
                "tag 273 has an invalid value",
            ),
            (directory(*plain(1, 9), (273, 4, 9, 2**31), *ONE_STRIP[1:]), "it is cut short"),
            (directory(*plain(1, 1)), "strips and tiles"),
            (
                directory(*plain(1, 1), *ONE_STRIP, (324, 4, 1, 8)),
                "strips and tiles",
            ),
            (
                directory(*plain(1, 1), *ONE_STRIP, (322, 4, 1, 8)),
                "strips and tiles",
            ),
            (directory(*plain(1, 1), (324, 4, 1, 8)), "strips and tiles"),
            (b"", "it is cut short"),
        ],
    )
    def test_must_make_sense(self, put: Callable[..., Path], content: bytes, reason: str) -> None:
        with pytest.raises(CorruptFileError, match=reason):
            read_raster(put(content))

    def test_may_leave_out_how_long_plain_strips_are(self, put: Callable[..., Path]) -> None:
        content = directory(*plain(1, 1), *ONE_STRIP[:2])

        assert read_raster(put(content)).pixels.shape == (1, 1, 1)


class TestCost:
    """Each of these took seconds to minutes, or may."""

    put = TestDirectory.put

    @pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "jpeg", "zstd", "none"])
    def test_i2_of_pixels_that_are_only_claimed_is_nothing(
        self, write: Callable[[str], Path], bounded: Callable[..., Any], compression: str
    ) -> None:
        def enlarge(data: bytearray, page: tifffile.TiffPage) -> None:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                put_value(data, page.tags[name], 0, 13_000)

        path = change(write(compression), enlarge)

        with pytest.raises(CorruptFileError, match=r"\.tif must be a whole picture"):
            bounded(read_raster, path)

    def test_of_50000_pages_is_that_of_one(
        self, put: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        entries = plain(1, 1, *ONE_STRIP)
        size = len(directory(*entries))
        pages = [directory(*entries, following=8 + k * size) for k in range(1, 50_000)]

        with pytest.raises(FormatError, match="must hold one picture; it has several"):
            bounded(read_raster, put(b"".join(pages) + directory(*entries)))

    def test_of_a_million_strips_or_tiles_is_nothing(
        self, put: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        many = b"\x08\0\0\0" * 10**6
        strips = plain(1, 10**6, (273, 4, 10**6, 200), (278, 4, 1, 1), (279, 4, 10**6, 200))
        tiles = plain(9000, 9000, (322, 3, 1, 16), (323, 3, 1, 16), (324, 4, 10**6, 200))

        for entries in (strips, tiles):
            with pytest.raises(TooLargeError, match="must have at most 65,536 strips or tiles"):
                bounded(read_raster, put(directory(*entries) + bytes(200) + many))

    def test_of_a_tile_larger_than_any_is_nothing(
        self, put: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        tile = plain(10, 10, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8))

        with pytest.raises(TooLargeError, match=r"of 16,777,216 pixels; got 1 x 1 of 60,000 x"):
            bounded(read_raster, put(directory(*tile)))

    def test_of_one_strip_that_serves_for_many_is_nothing(
        self, put: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        strip = zlib.compress(bytes(13_000 * 100), 9)
        many = ((273, 4, 130, 200), (278, 4, 1, 100), (279, 4, 130, 720))
        content = directory(*plain(13_000, 13_000, (259, 3, 1, 8), *many)).ljust(192, b"\0")
        content += struct.pack("<I", 1240) * 130 + struct.pack("<I", len(strip)) * 130 + strip

        with pytest.raises(CorruptFileError, match=r"\.tif must be a whole picture"):
            bounded(read_raster, put(content))
