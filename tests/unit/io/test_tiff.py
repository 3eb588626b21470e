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


ROWS_PER_STRIP = 16
COMPRESSIONS = {
    "none": None,
    "lzw": "tiff_lzw",
    "deflate": "tiff_adobe_deflate",
    "old_deflate": "tiff_deflate",
    "packbits": "packbits",
    "jpeg": "jpeg",
    "zstd": "zstd",
}

Change = Callable[[bytearray, tifffile.TiffPage], None]


@pytest.fixture
def array() -> np.ndarray:
    """``(96, 64, 3)`` of small waves."""
    y, x = np.mgrid[:96, :64]
    return np.stack([128 + 100 * np.sin(x / k) * np.cos(y / 7) for k in (3, 5, 8)], -1).astype(
        np.uint8
    )


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


def change(path: Path, edit: Change) -> Path:
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        edit(data, file.pages[0])
    path.write_bytes(data)
    return path


def put_value(data: bytearray, tag: tifffile.TiffTag, place: int, value: int) -> None:
    width = {3: "H", 4: "I"}[int(tag.dtype)]
    struct.pack_into(f"<{width}", data, tag.valueoffset + place * struct.calcsize(width), value)


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

        with pytest.raises(CorruptFileError, match="must be a whole picture"):
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

        with pytest.raises(CorruptFileError, match="must be a whole picture"):
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


PACKED = ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"]


class TestYCbCr:
    """Pillow has libtiff turn it into RGB, which goes on where strips do not unpack."""

    @pytest.fixture
    def write(self, tmp_path: Path, array: np.ndarray) -> Callable[[str], Path]:
        def put(compression: str) -> Path:
            path = tmp_path / "a.tif"
            picture = PIL.Image.fromarray(array).convert("YCbCr")
            picture.save(path, compression=compression, tiffinfo={278: ROWS_PER_STRIP})
            return path

        return put

    @pytest.mark.parametrize("compression", PACKED)
    def test_that_is_whole_is_read(
        self, write: Callable[[str], Path], array: np.ndarray, compression: str
    ) -> None:
        pixels = read_raster(write(compression)).pixels

        np.testing.assert_allclose(pixels, np.moveaxis(array, -1, 0), atol=3)

    @pytest.mark.parametrize("compression", PACKED)
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("strip", [0, 3, 5])
    def test_i1_of_which_a_strip_was_cut_is_refused(
        self, write: Callable[[str], Path], compression: str, share: float, strip: int
    ) -> None:
        def cut(data: bytearray, page: tifffile.TiffPage) -> None:
            size = int(share * page.databytecounts[strip])
            put_value(data, page.tags["StripByteCounts"], strip, size)

        path = change(write(compression), cut)

        with pytest.raises(CorruptFileError, match="a strip or tile of it is damaged, or holds"):
            read_raster(path)

    def test_i1_of_which_a_strip_is_damaged_is_refused(self, write: Callable[[str], Path]) -> None:
        def damage(data: bytearray, page: tifffile.TiffPage) -> None:
            data[page.dataoffsets[3] + page.databytecounts[3] - 1] ^= 1

        path = change(write("tiff_adobe_deflate"), damage)

        with pytest.raises(CorruptFileError, match="a strip or tile of it is damaged, or holds"):
            read_raster(path)

    @pytest.mark.parametrize("shared", [(2, 2), (2, 1), (1, 2), (4, 2), (4, 4)])
    @pytest.mark.parametrize("stated", [True, False])
    def test_i1_whose_pixels_share_colors_must_hold_them_all(
        self, tmp_path: Path, shared: tuple[int, int], stated: bool
    ) -> None:
        across, down = shared if stated else (2, 2)
        size = -(-30 // across) * -(-20 // down) * (across * down + 2)
        path = tmp_path / "a.tif"

        path.write_bytes(ycbcr(30, 20, bytes([128]) * size, shared if stated else None))
        assert (read_raster(path).pixels == 128).all()
        path.write_bytes(ycbcr(30, 20, bytes([128]) * (size - 1), shared if stated else None))
        with pytest.raises(CorruptFileError, match="a strip or tile of it is damaged, or holds"):
            read_raster(path)

    def test_whose_pixels_share_colors_is_not_read_unpacked(self, tmp_path: Path) -> None:
        content = ycbcr(30, 20, bytes(30 * 20 * 3), (2, 2), compression=1)
        (tmp_path / "a.tif").write_bytes(content)

        with pytest.raises(FormatError, match="in full where it is YCbCr without compression"):
            read_raster(tmp_path / "a.tif")

    def test_of_jpeg_in_planes_is_not_read(self, tmp_path: Path) -> None:
        content = ycbcr(30, 20, bytes(30 * 20 * 3), (1, 1), compression=7, planes=2)
        (tmp_path / "a.tif").write_bytes(content)

        with pytest.raises(FormatError, match="of one plane where it is YCbCr and JPEG"):
            read_raster(tmp_path / "a.tif")

    def test_that_shares_colors_among_three_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(ycbcr(30, 20, bytes(9999), (3, 1)))

        with pytest.raises(CorruptFileError, match="its header states no picture"):
            read_raster(tmp_path / "a.tif")

    def test_of_one_strip_that_is_too_large_to_be_unpacked_is_refused(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        (tmp_path / "a.tif").write_bytes(ycbcr(8000, 4000, bytes(50 * 2**20), (1, 1)))

        with pytest.raises(FormatError, match="in strips of at most 67,108,864 bytes; got 96,000"):
            bounded(read_raster, tmp_path / "a.tif")

    def test_i1_of_three_planes_each_must_be_whole(self, tmp_path: Path) -> None:
        planes = [zlib.compress(bytes([128]) * 600) for _ in range(3)]
        for short in (None, 0, 1, 2):
            parts = list(planes)
            if short is not None:
                parts[short] = zlib.compress(bytes([128]) * 599)
            (tmp_path / "a.tif").write_bytes(in_planes(30, 20, parts))

            if short is None:
                assert (read_raster(tmp_path / "a.tif").pixels == 128).all()
                continue
            with pytest.raises(CorruptFileError, match="a strip or tile of it is damaged, or"):
                read_raster(tmp_path / "a.tif")


def ycbcr(
    width: int,
    height: int,
    data: bytes,
    shared: tuple[int, int] | None,
    compression: int = 8,
    planes: int = 1,
) -> bytes:
    """A TIFF of one strip."""
    data = zlib.compress(data) if compression == 8 else data
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression),
        (262, 3, 1, 6), (273, 4, 1, 400), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(data)), (284, 3, 1, planes),
    ]  # fmt: skip
    if shared:
        entries.append((530, 3, 2, shared[0] + (shared[1] << 16)))
    head = b"II*\0" + struct.pack("<I", 8) + directory(*entries)
    return head.ljust(400, b"\0") + data


def in_planes(width: int, height: int, parts: list[bytes]) -> bytes:
    """A TIFF of YCbCr, deflated, one strip for each plane."""
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 6),
        (273, 4, 3, 400), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 3, 412), (284, 3, 1, 2),
        (530, 3, 2, 1 + (1 << 16)),
    ]  # fmt: skip
    starts = [424, 424 + len(parts[0]), 424 + len(parts[0]) + len(parts[1])]
    head = (b"II*\0" + struct.pack("<I", 8) + directory(*entries)).ljust(400, b"\0")
    return head + struct.pack("<6I", *starts, *map(len, parts)) + b"".join(parts)


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

        with pytest.raises(CorruptFileError, match="strips or tiles are not all there"):
            read_raster(change(tmp_path / "a.tif", drop))


def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


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
            (directory(*plain(1, 1), *ONE_STRIP, *ONE_STRIP), "states a tag twice"),
            (directory(*plain(0, 1), *ONE_STRIP), "its header states no picture"),
            (directory(*plain(1, 1), *ONE_STRIP)[:30], "it is cut short"),
            (directory(*plain(1, 1), (273, 5, 1, 8), *ONE_STRIP[1:]), "tag 273 holds what it"),
            (directory(*plain(1, 1), (273, 4, 2**31, 8), *ONE_STRIP[1:]), "tag 273 holds what it"),
            (directory(*plain(1, 9), (273, 4, 9, 2**31), *ONE_STRIP[1:]), "it is cut short"),
            (directory(*plain(1, 1)), "strips or tiles, one of"),
            (
                directory(*plain(1, 1), *ONE_STRIP, (324, 4, 1, 8)),
                "strips or tiles, one of",
            ),
            (
                directory(*plain(1, 1), *ONE_STRIP, (322, 4, 1, 8)),
                "strips or tiles, one of",
            ),
            (directory(*plain(1, 1), (324, 4, 1, 8)), "strips or tiles, one of"),
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

        with pytest.raises(CorruptFileError, match="strips or tiles are not all there"):
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

        with pytest.raises(CorruptFileError, match="strips or tiles are not all there"):
            bounded(read_raster, put(content))
