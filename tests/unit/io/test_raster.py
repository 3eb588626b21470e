from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    NonFiniteError,
    ReadError,
    TooLargeError,
)
from esp_medsam.io.picture_file import write_gray_png, write_labelmap_png
from esp_medsam.io.raster import read_raster


GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOR = np.stack([GRAY, 255 - GRAY, GRAY // 2], axis=-1)


def saved(path: Path, array: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    picture = PIL.Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


class TestIndices:
    def test_of_a_palette_are_kept_where_they_are_asked_for(self, tmp_path: Path) -> None:
        write_labelmap_png(tmp_path / "a.png", GRAY // 20, {1: (255, 0, 0)})

        assert read_raster(tmp_path / "a.png").pixels.shape == (3, 3, 4)
        np.testing.assert_array_equal(
            read_raster(tmp_path / "a.png", indices=True).pixels, GRAY[None] // 20
        )

    def test_leave_other_pictures_as_they_are(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.png", COLOR)

        np.testing.assert_array_equal(
            read_raster(path, indices=True).pixels, read_raster(path).pixels
        )


class TestPixels:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    @pytest.mark.parametrize("array", [GRAY, COLOR])
    def test_are_channels_first_and_exact(
        self, tmp_path: Path, suffix: str, array: np.ndarray
    ) -> None:
        pixels = read_raster(saved(tmp_path / f"a{suffix}", array)).pixels

        expected = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_keep_16_bits_of_gray(self, tmp_path: Path, suffix: str) -> None:
        array = GRAY.astype(np.uint16) * 257

        pixels = read_raster(saved(tmp_path / f"a{suffix}", array)).pixels

        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels[0], array)

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_keep_32_bits_of_gray(self, tmp_path: Path, dtype: type) -> None:
        array = GRAY.astype(dtype) * 1000

        pixels = read_raster(saved(tmp_path / "a.tif", array)).pixels

        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels[0], array)

    def test_of_a_palette_are_its_colors(self, tmp_path: Path) -> None:
        palette = PIL.Image.fromarray(GRAY)
        palette.putpalette([*range(256)] * 3)
        palette.save(tmp_path / "a.png")

        pixels = read_raster(tmp_path / "a.png").pixels

        np.testing.assert_array_equal(pixels, np.moveaxis(np.array(palette.convert("RGB")), -1, 0))

    @pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
    def test_of_other_color_spaces_become_rgb(self, tmp_path: Path, mode: str) -> None:
        path = saved(tmp_path / "a.jpg", COLOR.repeat(8, 0).repeat(8, 1), mode, quality=95)

        pixels = read_raster(path).pixels

        assert pixels.shape == (3, 24, 32)
        expected = np.moveaxis(COLOR.repeat(8, 0).repeat(8, 1), -1, 0)
        assert np.abs(pixels.astype(int) - expected).mean() < 12

    def test_of_one_bit_are_black_and_white(self, tmp_path: Path) -> None:
        pixels = read_raster(saved(tmp_path / "a.png", GRAY > 100)).pixels

        np.testing.assert_array_equal(pixels[0], (GRAY > 100) * np.uint8(255))

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_are_turned_where_zero_is_white(self, tmp_path: Path, compression: str | None) -> None:
        deep = GRAY.astype(np.uint16) * 257
        for array in (GRAY, deep):
            options = {"photometric": "miniswhite", "compression": compression}
            tifffile.imwrite(tmp_path / "a.tif", array, **options)

            pixels = read_raster(tmp_path / "a.tif").pixels

            assert pixels.dtype == array.dtype
            np.testing.assert_array_equal(pixels[0], np.iinfo(array.dtype).max - array)

    def test_of_deep_colors_in_planes_are_read_where_they_are_compressed(
        self, tmp_path: Path
    ) -> None:
        planes = np.moveaxis(COLOR, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif",
            planes.astype(np.uint16) * 257,
            photometric="rgb",
            planarconfig="separate",
            compression="zlib",
        )

        np.testing.assert_array_equal(read_raster(tmp_path / "a.tif").pixels, planes)

    def test_keep_32_bits_without_signs(self, tmp_path: Path) -> None:
        for factor, dtype in ((1000, np.int32), (2**24, np.float32)):
            array = GRAY.astype(np.uint32) * np.uint32(factor)
            tifffile.imwrite(tmp_path / "a.tif", array)

            pixels = read_raster(tmp_path / "a.tif").pixels

            assert pixels.dtype == dtype
            np.testing.assert_array_equal(pixels[0], array)

    def test_lie_as_exif_says(self, tmp_path: Path) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise
        for suffix, options in ((".png", {}), (".tif", {}), (".tif", {"compression": "tiff_lzw"})):
            path = saved(tmp_path / f"a{suffix}", GRAY, exif=exif, **options)

            np.testing.assert_array_equal(read_raster(path).pixels[0], np.rot90(GRAY, -1))

    def test_may_be_one(self, tmp_path: Path) -> None:
        assert read_raster(saved(tmp_path / "a.png", GRAY[:1, :1])).pixels.shape == (1, 1, 1)


class TestAlpha:
    def test_is_dropped_where_all_is_opaque(self, tmp_path: Path) -> None:
        content = read_raster(saved(tmp_path / "a.png", COLOR, "RGBA"))

        assert content.warnings == ()
        np.testing.assert_array_equal(content.pixels, np.moveaxis(COLOR, -1, 0))

    def test_is_laid_on_black_elsewhere_with_a_warning(self, tmp_path: Path) -> None:
        layered = np.dstack([COLOR, np.full((3, 4), 255, np.uint8)])
        layered[0, :, 3] = 0

        content = read_raster(saved(tmp_path / "a.png", layered))

        assert not content.pixels[:, 0].any()
        np.testing.assert_array_equal(content.pixels[:, 1:], np.moveaxis(COLOR[1:], -1, 0))
        assert "laid on black" in content.warnings[0]

    def test_of_one_deep_gray_is_laid_on_black(self, tmp_path: Path) -> None:
        array = 1000 + GRAY.astype(np.uint16) * 257
        path = saved(tmp_path / "a.png", array, transparency=int(array[1, 2]))

        content = read_raster(path)

        array[1, 2] = 0
        assert content.pixels.dtype == np.uint16
        np.testing.assert_array_equal(content.pixels[0], array)
        assert "laid on black" in content.warnings[0]

    def test_of_gray_leaves_one_channel(self, tmp_path: Path) -> None:
        assert read_raster(saved(tmp_path / "a.png", GRAY, "LA")).pixels.shape == (1, 3, 4)


def deep_png(path: Path) -> Path:
    """Write a PNG of 16-bit colors, which Pillow cannot."""
    rows = b"".join(b"\0" + bytes([r, 7, r, 7, r, 7] * 4) for r in range(3))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


class TestRefusals:
    def test_deep_colors_are_read_with_a_warning(self, tmp_path: Path) -> None:
        content = read_raster(deep_png(tmp_path / "a.png"))

        assert content.pixels.dtype == np.uint8
        assert content.warnings == ("The 16-bit colors were read as 8-bit.",)

    @pytest.mark.parametrize("suffix", [".tif", ".png"])
    def test_several_pages_or_frames(self, tmp_path: Path, suffix: str) -> None:
        pages = [PIL.Image.fromarray(GRAY), PIL.Image.fromarray(GRAY.copy() // 2)]
        pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])

        with pytest.raises(FormatError, match="must hold one picture; it has several"):
            read_raster(tmp_path / f"a{suffix}")

    @pytest.mark.parametrize(
        ("array", "options", "reason"),
        [
            (
                np.moveaxis(COLOR, -1, 0).astype(np.uint16),
                {"photometric": "rgb", "planarconfig": "separate"},
                "16-bit colors are stored plane by plane",
            ),
            (GRAY.astype(np.int8), {}, "8-bit values have signs"),
            (GRAY.astype(np.float32), {"photometric": "miniswhite"}, "0 is white"),
        ],
    )
    def test_what_pillow_would_garble(
        self, tmp_path: Path, array: np.ndarray, options: dict[str, Any], reason: str
    ) -> None:
        tifffile.imwrite(tmp_path / "a.tif", array, **options)

        with pytest.raises(FormatError, match=f"a.tif must be a TIFF that is read .*{reason}"):
            read_raster(tmp_path / "a.tif")

    @pytest.mark.parametrize("content", [b"<html>", b"<svg/>", b"GIF89a" + bytes(40), bytes(99)])
    def test_other_content(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)

        with pytest.raises(FormatError, match="must be PNG, JPEG, TIFF or BMP"):
            read_raster(tmp_path / "a.png")

    def test_i1_a_bmp_that_lacks_rows(self, tmp_path: Path, bounded: Callable[..., Any]) -> None:
        path = saved(tmp_path / "a.bmp", COLOR)
        content = bytearray(path.read_bytes())
        struct.pack_into("<ii", content, 18, 13_000, 13_000)
        path.write_bytes(content)

        with pytest.raises(CorruptFileError, match=r"a\.bmp must be a whole picture"):
            bounded(read_raster, path)

    def test_a_bmp_whose_rows_may_lawfully_be_missing(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        """Pillow unpacks run lengths pixel by pixel, for half a minute where they are many."""
        size = struct.pack("<IiiHHIIiiII", 40, 13_000, 13_000, 1, 8, 1, 0, 0, 0, 256, 0)
        head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + size
        (tmp_path / "a.bmp").write_bytes(head + bytes(1024) + b"\1\5\0\0" * 13_000 + b"\0\1")

        with pytest.raises(FormatError, match=r"must be a BMP.*run-length"):
            bounded(read_raster, tmp_path / "a.bmp")

    def test_what_is_no_file_as_the_system_says_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")

        with pytest.raises(OSError, match="it is a pipe, not a file"):
            read_raster(tmp_path / "a.png")

    def test_a_decompression_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = saved(tmp_path / "a.png", GRAY)
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)

        with pytest.raises(TooLargeError, match="at most 10 pixels; got 4 x 3"):
            read_raster(path)

    def test_nan(self, tmp_path: Path) -> None:
        array = GRAY.astype(np.float32)
        array[1, 1] = np.nan

        with pytest.raises(NonFiniteError, match=r"a\.tif must hold finite numbers"):
            read_raster(saved(tmp_path / "a.tif", array))

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
    def test_every_truncation(self, tmp_path: Path, suffix: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        path = saved(tmp_path / f"a{suffix}", noise)
        whole = path.read_bytes()

        for end in range(1, len(whole) - 1, 61):
            path.write_bytes(whole[:end])
            with pytest.raises((CorruptFileError, FormatError)):
                read_raster(path)

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data(), suffix=st.sampled_from(["png", "jpeg", "tiff", "bmp"]))
    def test_damage_gives_a_picture_or_one_of_our_errors(
        self, tmp_path: Path, data: st.DataObject, suffix: str
    ) -> None:
        buffer = io.BytesIO()
        PIL.Image.fromarray(COLOR).save(buffer, format=suffix)
        content = bytearray(buffer.getvalue())
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)

        try:
            pixels = read_raster(path).pixels
        except (ReadError, NonFiniteError):
            return
        assert pixels.shape[0] in (1, 3)


class TestWrite:
    def test_a_labelmap_keeps_its_values_and_shows_its_colors(self, tmp_path: Path) -> None:
        labelmap = np.array([[0, 1, 200]], np.uint8)

        write_labelmap_png(tmp_path / "a.png", labelmap, {1: (9, 8, 7), 200: (1, 2, 3)})
        picture = PIL.Image.open(tmp_path / "a.png")

        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture), labelmap)
        np.testing.assert_array_equal(
            np.array(picture.convert("RGB")), [[[0, 0, 0], [9, 8, 7], [1, 2, 3]]]
        )

    def test_gray_is_written_as_it_is(self, tmp_path: Path) -> None:
        write_gray_png(tmp_path / "a.png", GRAY.T)

        np.testing.assert_array_equal(np.array(PIL.Image.open(tmp_path / "a.png")), GRAY.T)
