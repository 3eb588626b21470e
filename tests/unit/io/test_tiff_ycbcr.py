"""TIFF whose colors are YCbCr, as JPEG in TIFF is."""

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

from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.io.raster import read_raster
from tests.support.tiff import ROWS_PER_STRIP, change, directory, put_value, waves


PACKED = ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"]


@pytest.fixture
def array() -> np.ndarray:
    return waves()


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

        with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
            read_raster(path)

    def test_i1_of_which_a_strip_is_damaged_is_refused(self, write: Callable[[str], Path]) -> None:
        def damage(data: bytearray, page: tifffile.TiffPage) -> None:
            data[page.dataoffsets[3] + page.databytecounts[3] - 1] ^= 1

        path = change(write("tiff_adobe_deflate"), damage)

        with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
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
        with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
            read_raster(path)

    @pytest.mark.parametrize(
        ("shared", "options", "found"),
        [
            ((2, 2), {"compression": 1}, "YCbCr"),
            ((1, 1), {"compression": 7, "planes": 2}, "JPEG; got several"),
        ],
        ids=["of shared colors, unpacked", "of JPEG in planes"],
    )
    def test_that_nobody_writes_is_not_read(
        self, tmp_path: Path, shared: tuple[int, int], options: dict[str, int], found: str
    ) -> None:
        content = ycbcr(30, 20, bytes(30 * 20 * 3), shared, **options)
        (tmp_path / "a.tif").write_bytes(content)

        with pytest.raises(FormatError, match=rf"a\.tif must be .* {found}"):
            read_raster(tmp_path / "a.tif")

    def test_that_shares_colors_among_three_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(ycbcr(30, 20, bytes(9999), (3, 1)))

        with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
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
            with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
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
