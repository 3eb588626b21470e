from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.errors import CorruptFileError, TooLargeError
from esp_medsam.io.jpeg_data import check_part
from esp_medsam.io.raster import read_raster
from tests.support import picture_bytes
from tests.support.picture_bytes import jpeg_segment


START, END = b"\xff\xd8", b"\xff\xd9"


@pytest.fixture
def picture() -> PIL.Image.Image:
    """150 rows of 210 columns of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 42, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise).resize((210, 150))


@pytest.fixture
def encode(picture: PIL.Image.Image) -> Callable[..., bytes]:
    """Return a function that gives the picture as JPEG."""
    return partial(picture_bytes.encode, picture, "JPEG")


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        (tmp_path / "a.jpg").write_bytes(data)
        return tmp_path / "a.jpg"

    return write


class TestWhole:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("share", [0.1, 0.34, 0.9])
    def test_i1_that_was_cut_and_closed_is_refused(
        self,
        encode: Callable[..., bytes],
        put: Callable[[bytes], Path],
        progressive: bool,
        share: float,
    ) -> None:
        data = encode(progressive=progressive)

        with pytest.raises(CorruptFileError, match=r"a\.\w+ must be a whole picture"):
            read_raster(put(data[: int(share * len(data))] + END))

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
    @pytest.mark.parametrize("more", [b"", bytes(999), START + b"a depth map"])
    def test_is_read_whatever_follows_it(
        self,
        encode: Callable[..., bytes],
        put: Callable[[bytes], Path],
        options: dict[str, Any],
        more: bytes,
    ) -> None:
        data = encode(**options)

        pixels = read_raster(put(data + more)).pixels

        expected = np.asarray(PIL.Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(pixels, np.moveaxis(expected, -1, 0))

    def test_of_several_pictures_the_first_is_read(
        self, picture: PIL.Image.Image, tmp_path: Path, encode: Callable[..., bytes]
    ) -> None:
        """As phones write a picture and its depth."""
        rest = [picture.convert("L").rotate(90)]
        picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=rest)

        expected = np.asarray(PIL.Image.open(io.BytesIO(encode())))
        np.testing.assert_array_equal(
            read_raster(tmp_path / "a.jpg").pixels, np.moveaxis(expected, -1, 0)
        )

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
    def test_keeps_what_says_which_colors_its_numbers_mean(
        self, picture: PIL.Image.Image, tmp_path: Path, mode: str
    ) -> None:
        picture.convert(mode).save(tmp_path / "a.jpg", icc_profile=bytes(9999), comment="b" * 99)

        expected = np.asarray(PIL.Image.open(tmp_path / "a.jpg").convert("RGB"))
        pixels = read_raster(tmp_path / "a.jpg").pixels
        np.testing.assert_array_equal(
            np.moveaxis(np.broadcast_to(pixels, (3, 150, 210)), 0, -1), expected
        )

    def test_keeps_what_says_how_it_is_turned(
        self, encode: Callable[..., bytes], put: Callable[[bytes], Path]
    ) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        xmp = b'<x tiff:Orientation="6"/>'
        upright = read_raster(put(encode())).pixels

        for options in ({"exif": exif}, {"xmp": xmp}):
            turned = read_raster(put(encode(**options))).pixels
            np.testing.assert_array_equal(turned, np.rot90(upright, -1, (1, 2)))


class TestCost:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_i2_of_pixels_that_are_only_claimed_is_nothing(
        self,
        put: Callable[[bytes], Path],
        bounded: Callable[..., Any],
        progressive: bool,
    ) -> None:
        file = io.BytesIO()
        PIL.Image.new("RGB", (8, 8)).save(file, "JPEG", progressive=progressive)
        data = bytearray(file.getvalue())
        struct.pack_into(
            ">HH", data, data.index(bytes([0xFF, 0xC0 + 2 * progressive])) + 5, 2700, 65500
        )

        with pytest.raises(CorruptFileError, match=r"a\.\w+ must be a whole picture"):
            bounded(read_raster, put(bytes(data)))

    @pytest.mark.parametrize(("scans", "side"), [(101, 100), (90, 4600), (17, 5000)])
    def test_of_many_scans_is_bounded(
        self,
        encode: Callable[..., bytes],
        put: Callable[[bytes], Path],
        bounded: Callable[..., Any],
        scans: int,
        side: int,
    ) -> None:
        """Each is a walk over all pixels, and takes few bytes."""
        data = bytearray(encode(progressive=True))
        place = data.rindex(b"\xff\xda")
        last = bytes(data[place:-2])
        struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, side, side)
        content = bytes(data[:place]) + last * scans + bytes(50_000) + END

        with pytest.raises(TooLargeError, match="must be a JPEG of a few scans; got"):
            bounded(read_raster, put(content))

    @pytest.mark.parametrize("marker", [0xFE, 0xE1, 0xE2, 0xED])
    def test_of_what_lies_beside_the_picture_is_bounded(
        self,
        encode: Callable[..., bytes],
        put: Callable[[bytes], Path],
        bounded: Callable[..., Any],
        marker: int,
    ) -> None:
        beside = jpeg_segment(marker, b"Exif\0\0" + bytes(60_000)) * 1000

        pixels = bounded(read_raster, put(START + beside + encode()[2:])).pixels

        assert pixels.shape == (3, 150, 210)

    def test_of_a_million_segments_is_bounded(
        self,
        encode: Callable[..., bytes],
        put: Callable[[bytes], Path],
        bounded: Callable[..., Any],
    ) -> None:
        with pytest.raises(CorruptFileError, match=r"a\.\w+ must be a whole picture"):
            bounded(read_raster, put(START + jpeg_segment(0xFE, b"") * 10**6 + encode()[2:]))

    def test_of_a_strip_larger_than_it_may_be_is_nothing(
        self, encode: Callable[..., bytes], tmp_path: Path
    ) -> None:
        with pytest.raises(CorruptFileError, match=r"a\.tif must be a whole picture"):
            check_part(encode(), 210 * 150 - 1, tmp_path / "a.tif")
