from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jpeg_ls
import numpy as np
import numpy.typing as npt
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from esp_medsam.dicom.colors import colors_of
from esp_medsam.dicom.pixels import DicomPixels, read_pixels


COLORS = ((220, 40, 30), (10, 200, 90))
"""Red and green, far from gray: taken for another space they are far off."""

JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"

Write = Callable[..., Path]


def spiff(colors: int) -> bytes:
    return b"\xff\xe8\x00\x20SPIFF\0\x01\x02\x02\x03" + bytes(8) + bytes([colors]) + bytes(11)


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def truth() -> npt.NDArray[np.uint8]:
    rgb = np.empty((32, 32, 3), np.uint8)
    rgb[:, :16], rgb[:, 16:] = COLORS
    return rgb


def jpeg(*segments: bytes, sampling: int = 0, is_rgb: bool = False) -> bytes:
    """The colors as YCbCr, or as RGB with identifiers that say so; with these segments alone."""
    file = io.BytesIO()
    image = Image.fromarray(truth())
    image.save(file, "JPEG", quality=95, subsampling=sampling, keep_rgb=is_rgb)
    data = file.getvalue()
    at = 2
    while data[at + 1] in (0xE0, 0xEE):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:2] + b"".join(segments) + data[at:]


def without_names(data: bytes) -> bytes:
    """The same JPEG with components 1, 2, 3."""
    for name, number in zip(b"RGB", (1, 2, 3), strict=True):
        data = data.replace(bytes((name, 0x11)), bytes((number, 0x11)), 1)
    start = data.index(b"\xff\xda\x00\x0c")
    return data[: start + 5] + b"\x01\x00\x02\x00\x03\x00" + data[start + 11 :]


def jpeg_2000(*, transformed: bool) -> bytes:
    return bytes(encode_array(truth(), photometric_interpretation=1, use_mct=transformed))


@pytest.fixture
def read(dicom: SimpleNamespace, tmp_path: Path) -> Callable[..., DicomPixels]:
    """Return a function that reads a frame under a header that says what it is told."""

    def read_frame(
        data: bytes, stated: str, syntax: str = JPEGBaseline8Bit, planar: int | None = 0
    ) -> DicomPixels:
        picture = dicom.picture(
            SamplesPerPixel=3, PlanarConfiguration=planar, Rows=32, Columns=32, BitsAllocated=8,
            BitsStored=8, HighBit=7, PhotometricInterpretation=stated,
            PixelData=encapsulate([data]), RescaleSlope=None, RescaleIntercept=None,
        )  # fmt: skip
        return read_pixels(dicom.volume_of(dicom.save(picture, tmp_path / "a.dcm", syntax)))

    return read_frame


def is_true(read: DicomPixels) -> bool:
    """Whether the colors in the middle of either half are what they were."""
    found = read.pixels[:, 8, (4, 28)].T.astype(int)
    return bool(np.abs(found - COLORS).max() < 8)


class TestJpeg:
    @pytest.mark.parametrize("stated", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"])
    @pytest.mark.parametrize(
        ("data", "sign"),
        [
            (jpeg(sampling=2), "YCbCr by its sampling factors"),
            (jpeg(sampling=1), "YCbCr by its sampling factors"),
            (jpeg(JFIF), "YCbCr by its JFIF marker"),
            (jpeg(adobe(1)), "YCbCr by its Adobe marker"),
            (jpeg(spiff(3)), "YCbCr by its SPIFF header"),
            (jpeg(is_rgb=True), "RGB by its component identifiers"),
            (without_names(jpeg(adobe(0), is_rgb=True)), "RGB by its Adobe marker"),
        ],
    )
    def test_that_says_its_colors_is_read_so_and_the_contradiction_told(
        self, read: Callable[..., DicomPixels], stated: str, data: bytes, sign: str
    ) -> None:
        found = read(data, stated)

        assert is_true(found)
        agrees = sign.startswith("RGB") == (stated == "RGB") and stated not in (
            "YBR_RCT", "YBR_ICT",
        )  # fmt: skip
        told = [stated in warning and sign in warning for warning in found.warnings]
        assert told == ([] if agrees else [True])

    def test_that_does_not_say_is_read_as_its_header_says(
        self, read: Callable[..., DicomPixels]
    ) -> None:
        silent = read(without_names(jpeg(is_rgb=True)), "RGB")
        usual = read(jpeg(), "YBR_FULL_422")

        assert is_true(silent)
        assert "RGB or YCbCr" in silent.warnings[0]
        assert is_true(usual)
        assert usual.warnings == ()

    @pytest.mark.parametrize("stated", ["RGB", "YBR_FULL"])
    def test_that_contradicts_itself_leaves_it_to_its_header(
        self, read: Callable[..., DicomPixels], stated: str
    ) -> None:
        data = jpeg(JFIF, adobe(0)) if stated == "YBR_FULL" else jpeg(JFIF, adobe(0), is_rgb=True)

        found = read(data, stated)

        assert is_true(found)
        assert "YCbCr by its JFIF marker and RGB by its Adobe marker" in found.warnings[0]

    def test_that_does_not_say_is_refused_where_its_header_means_another_codec(
        self, read: Callable[..., DicomPixels]
    ) -> None:
        with pytest.raises(ValueError, match="got YBR_ICT"):
            read(jpeg(), "YBR_ICT")

    def test_of_a_cine_is_told_once(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dataset = dcmread(dicom.shipped("examples_ybr_color.dcm"))
        dataset.PhotometricInterpretation = "RGB"
        dataset.save_as(tmp_path / "a.dcm")

        found = read_pixels(dicom.volume_of(tmp_path / "a.dcm"))

        expected = read_pixels(dicom.volume_of(dicom.shipped("examples_ybr_color.dcm")))
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert len(found.warnings) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "SC_jpeg_no_color_transform.dcm", "SC_jpeg_no_color_transform_2.dcm",
            "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+n1.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm",
            "SC_rgb_dcmtk_+eb+cy+s2.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm",
            "SC_rgb_jpeg_app14_dcmd.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "SC_rgb_small_odd_jpeg.dcm",
        ],
    )  # fmt: skip
    def test_of_other_writers_is_read_as_pydicom_reads_it(
        self, dicom: SimpleNamespace, name: str
    ) -> None:
        found = read_pixels(dicom.volume_of(dicom.shipped(name)))

        expected = dcmread(dicom.shipped(name)).pixel_array
        np.testing.assert_array_equal(np.moveaxis(found.pixels, 0, -1), expected)


class TestLossless:
    def test_d13_an_unknown_adobe_marker_ends_no_process(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        content = bytearray(dicom.shipped("SC_rgb_jpeg_gdcm.dcm").read_bytes())
        content[content.index(b"Adobe") + 11] = 64
        (tmp_path / "a.dcm").write_bytes(content)

        pixels = read_pixels(dicom.volume_of(tmp_path / "a.dcm")).pixels

        expected = dcmread(dicom.shipped("SC_rgb_jpeg_gdcm.dcm")).pixel_array
        np.testing.assert_array_equal(np.moveaxis(pixels, 0, -1), expected)

    def test_jpeg_with_a_jfif_marker_keeps_the_rgb_of_its_header(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        path = dicom.shipped("SC_rgb_jpeg_gdcm.dcm")
        expected = read_pixels(dicom.volume_of(path)).pixels
        content = path.read_bytes()
        at = content.index(b"\xff\xee\x00\x0eAdobe")
        marked = JFIF[:2] + b"\x00\x0e" + JFIF[4:16]  # of the same length, without a thumbnail
        (tmp_path / "a.dcm").write_bytes(content[:at] + marked + content[at + 16 :])

        found = read_pixels(dicom.volume_of(tmp_path / "a.dcm"))

        np.testing.assert_array_equal(found.pixels, expected)
        assert "YCbCr by its JFIF marker" in found.warnings[0]

    @pytest.mark.parametrize(("stated", "warnings"), [("RGB", 0), ("YBR_FULL", 1)])
    def test_jpeg_ls_says_rgb_by_a_spiff_header(self, stated: str, warnings: int) -> None:
        data = bytes(jpeg_ls.encode_array(truth()))

        photometric, note = colors_of(data[:2] + spiff(10) + data[2:], stated)

        assert photometric == "RGB"
        assert bool(note) == warnings

    def test_jpeg_ls_that_does_not_say_is_read_as_its_header_says(
        self, read: Callable[..., DicomPixels]
    ) -> None:
        found = read(bytes(jpeg_ls.encode_array(truth())), "RGB", JPEGLSLossless)

        assert is_true(found)
        assert found.warnings == ()


class TestJpeg2000:
    @pytest.mark.parametrize("stated", ["RGB", "YBR_RCT", "YBR_ICT"])
    def test_with_transformed_components_is_rgb(
        self, read: Callable[..., DicomPixels], stated: str
    ) -> None:
        found = read(jpeg_2000(transformed=True), stated, JPEG2000Lossless)

        assert is_true(found)
        assert found.warnings == ()

    @pytest.mark.parametrize(
        ("transformed", "stated", "holds"),
        [
            (True, "YBR_FULL", "RGB"),
            (True, "YBR_FULL_422", "RGB"),
            (False, "YBR_RCT", "no transformation"),
            (False, "YBR_ICT", "no transformation"),
        ],
    )
    def test_is_read_as_it_is_and_told_whatever_its_header_says(
        self, read: Callable[..., DicomPixels], transformed: bool, stated: str, holds: str
    ) -> None:
        found = read(jpeg_2000(transformed=transformed), stated, JPEG2000Lossless)

        assert is_true(found)
        assert re.search(f"says {stated}, .* {holds}", found.warnings[0])

    def test_without_transformed_components_is_read_as_its_header_says(
        self, read: Callable[..., DicomPixels]
    ) -> None:
        plain = read(jpeg_2000(transformed=False), "RGB", JPEG2000Lossless)
        converted = read(jpeg_2000(transformed=False), "YBR_FULL", JPEG2000Lossless)

        assert is_true(plain)
        assert not is_true(converted)
        assert (plain.warnings, converted.warnings) == ((), ())


@pytest.mark.parametrize("planar", [0, 1, 2, None])
def test_planar_configuration_says_nothing_of_compressed_colors(
    read: Callable[..., DicomPixels], planar: int | None
) -> None:
    rle = get_encoder(RLELossless).encode(
        truth().tobytes(), rows=32, columns=32, number_of_frames=1, samples_per_pixel=3,
        bits_allocated=8, bits_stored=8, pixel_representation=0, photometric_interpretation="RGB",
        planar_configuration=0,
    )  # fmt: skip
    lossless = bytes(jpeg_ls.encode_array(truth()))

    assert is_true(read(jpeg(sampling=2), "YBR_FULL_422", planar=planar))
    assert is_true(read(jpeg(is_rgb=True), "RGB", planar=planar))
    assert is_true(read(jpeg_2000(transformed=True), "YBR_RCT", JPEG2000Lossless, planar))
    assert is_true(read(lossless, "RGB", JPEGLSLossless, planar))
    assert is_true(read(rle, "RGB", RLELossless, planar))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x08\x08\x00\x10\x00\x10\x03", b"\xff\x4f\xff\x51"],
)
def test_of_nothing_that_can_be_followed_the_header_says(data: bytes) -> None:
    assert colors_of(data, "YBR_FULL").photometric == "YBR_FULL"
