from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    InputNotFoundError,
    ReadError,
    TooLargeError,
)
from esp_medsam.image import SourceInstance


Write = Callable[..., Path]


class TestEncodings:
    @pytest.mark.parametrize(
        ("name", "twin"),
        [
            ("MR_small.dcm", "MR_small_RLE.dcm"),
            ("MR_small.dcm", "MR_small_bigendian.dcm"),
            ("MR_small.dcm", "MR_small_implicit.dcm"),
            ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
            ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
            ("MR_small.dcm", "MR_small_padded.dcm"),
            ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ],
    )
    def test_of_one_image_are_equal(self, dicom: SimpleNamespace, name: str, twin: str) -> None:
        first, second = (read_pixels(dicom.volume_of(dicom.shipped(n))) for n in (name, twin))

        np.testing.assert_array_equal(first.pixels, second.pixels)

    def test_color_by_plane_equals_color_by_pixel(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        dataset = dcmread(dicom.shipped("examples_rgb_color.dcm"))
        planes = np.moveaxis(dataset.pixel_array, -1, 0).tobytes()
        path = write_shipped(like="examples_rgb_color.dcm", PixelData=planes, PlanarConfiguration=1)

        first = read_pixels(dicom.volume_of(dicom.shipped("examples_rgb_color.dcm")))
        second = read_pixels(dicom.volume_of(path))

        np.testing.assert_array_equal(first.pixels, second.pixels)

    def test_a_deflated_data_set_is_read(self, dicom: SimpleNamespace) -> None:
        read = read_pixels(dicom.volume_of(dicom.shipped("image_dfl.dcm")))

        np.testing.assert_array_equal(
            read.pixels[0], dcmread(dicom.shipped("image_dfl.dcm")).pixel_array
        )
        assert read.pixels.dtype == np.uint8

    def test_a_file_without_a_preamble_is_read(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped()
        volume = dicom.volume_of(path)
        expected = read_pixels(volume).pixels
        path.write_bytes(path.read_bytes()[132:])

        np.testing.assert_array_equal(read_pixels(volume).pixels, expected)


class TestDamage:
    @pytest.mark.parametrize(
        ("changes", "error", "found"),
        [
            (
                {"BitsStored": 17, "HighBit": 16},
                CorruptFileError,
                r"must be 1 to BitsAllocated, 16; got 17",
            ),
            ({"BitsAllocated": 12}, CorruptFileError, "a multiple of 8 up to 64; got 12"),
            ({"BitsAllocated": 8, "BitsStored": 8}, CorruptFileError, "long enough for 2"),
            ({"BitsStored": 12, "HighBit": 15}, FormatError, "High Bit of Bits Stored - 1, 11"),
            ({"PixelData": b"1234"}, CorruptFileError, "32768 bytes of pixels; got 4"),
            ({"PixelData": b""}, CorruptFileError, "32768 bytes of pixels; got 0"),
            ({"NumberOfFrames": 10**9}, TooLargeError, "header claims 1000000000"),
            (
                {"SamplesPerPixel": 4, "PixelData": bytes(2**17)},
                CorruptFileError,
                "must be 1 or 3; got 4",
            ),
            ({"PixelRepresentation": None}, CorruptFileError, "state PixelRepresentation"),
            ({"PhotometricInterpretation": "CMYK"}, FormatError, "got CMYK"),
            ({"PhotometricInterpretation": None}, CorruptFileError, "Photometric"),
            (
                {"syntax": JPEG2000Lossless, "PixelData": encapsulate([b"1234"])},
                CorruptFileError,
                "frame 1 holds none",
            ),
        ],
    )
    def test_each_kind_is_one_error_that_names_the_file(
        self,
        dicom: SimpleNamespace,
        write_shipped: Write,
        changes: dict[str, object],
        error: type[EspMedSamError],
        found: str,
    ) -> None:
        good = dicom.volume_of(write_shipped())
        write_shipped(**changes)

        with pytest.raises(error, match=rf"a\.dcm.*({found})"):
            read_pixels(good)

    def test_a_file_that_is_gone_is_refused(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        volume = dicom.volume_of(write_shipped())
        Path(volume.slices[0].source.path).unlink()

        with pytest.raises(InputNotFoundError, match=r"a\.dcm must be.*file"):
            read_pixels(volume)

    def test_a_file_that_became_a_folder_is_refused(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped()
        volume = dicom.volume_of(path)
        path.unlink()
        path.mkdir()

        with pytest.raises(ReadError, match=r"a\.dcm must be readable; got: it is a folder"):
            read_pixels(volume)

    @pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
    @pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "MR_small_RLE.dcm"])
    def test_a_file_cut_short_is_refused(
        self, dicom: SimpleNamespace, tmp_path: Path, name: str, share: float
    ) -> None:
        content = dicom.shipped(name).read_bytes()
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        volume = dicom.volume_of(path)
        path.write_bytes(content[: int(share * len(content))])

        with pytest.raises(EspMedSamError, match=r"a\.dcm must"):
            read_pixels(volume)

    @pytest.mark.parametrize(
        "name",
        [
            "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm",
            "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "examples_palette.dcm",
        ],
    )  # fmt: skip
    def test_of_random_bytes_raises_only_errors_of_ours(
        self, dicom: SimpleNamespace, tmp_path: Path, name: str
    ) -> None:
        content = dicom.shipped(name).read_bytes()
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        volume = dicom.volume_of(path)
        random = np.random.default_rng(0)
        messages = []
        for _ in range(20):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = random.integers(0, len(damaged), random.choice([1, 5, 100]))
            damaged[places] = random.integers(0, 256, len(places))
            path.write_bytes(damaged[: random.integers(1, 5) * len(damaged) // 2].tobytes())
            try:
                read_pixels(volume)
            except EspMedSamError as error:
                messages.append(str(error))

        assert messages
        assert all("a.dcm" in message and "\n" not in message for message in messages)

    def test_brings_up_neither_warnings_nor_log_of_pydicom(
        self, dicom: SimpleNamespace, write_shipped: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        # A warning would end the test: they are errors here.
        path = write_shipped(syntax=JPEGBaseline8Bit, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))

        with pytest.raises(CorruptFileError, match=str(path)):
            read_pixels(dicom.volume_of(path))

        assert caplog.text == ""


class TestSupport:
    def test_floating_point_pixel_data_are_refused(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped()
        volume = dicom.volume_of(path)
        write_shipped(FloatPixelData=bytes(128 * 128 * 4))

        with pytest.raises(FormatError, match=r"a\.dcm must hold whole numbers"):
            read_pixels(volume)

    @pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
    def test_12_bit_jpeg_is_refused_with_the_package_to_install(
        self, dicom: SimpleNamespace, name: str
    ) -> None:
        with pytest.raises(FormatError, match=r"JPEG Extended .* pip install pylibjpeg pylibjpeg-"):
            read_pixels(dicom.volume_of(dicom.shipped(name)))


class TestMemory:
    def test_a_codestream_larger_than_the_header_is_never_decoded(
        self, dicom: SimpleNamespace, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = dicom.shipped("JPEG2000-embedded-sequence-delimiter.dcm")

        with pytest.raises(CorruptFileError, match="1024 x 256 pixels; frame 1 holds 1024 x 3722"):
            read_pixels(dicom.volume_of(path))

        assert capfd.readouterr() == ("", "")

    def test_frames_that_are_not_there_cost_nothing(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        """A cine that claims sixty thousand frames, as its header would be believed."""
        volume = dicom.volume_of(dicom.shipped("examples_ybr_color.dcm"))
        path = write_shipped(like="examples_ybr_color.dcm", NumberOfFrames=60_000)
        source = SourceInstance(
            path=str(path), sop_class_uid="1", sop_instance_uid="1", frame=60_000
        )
        last = DicomSlice(source=source, rows=240, columns=320)
        claimed = DicomVolume(name="a", slices=(last,), grid=volume.grid, sop_class_uid="1.2")

        tracemalloc.start()
        with pytest.raises(CorruptFileError, match="must hold 60000 compressed frames; got 30"):
            read_pixels(claimed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 20e6

    def test_a_file_larger_than_memory_is_not_read(
        self, dicom: SimpleNamespace, write_shipped: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume = dicom.volume_of(write_shipped())
        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 1000)

        with pytest.raises(TooLargeError, match=r"a\.dcm must fit in memory"):
            read_pixels(volume)

    def test_a_deflated_bomb_is_not_inflated(
        self, dicom: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.bounded_file.MOST_INFLATED", 100_000)

        with pytest.raises(TooLargeError, match=r"image_dfl\.dcm must inflate to at most"):
            read_pixels(dicom.volume_of(dicom.shipped("image_dfl.dcm")))

    def test_an_element_longer_than_the_file_costs_nothing(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped()
        volume = dicom.volume_of(path)
        content = path.read_bytes()
        at = content.index(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
        path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])

        tracemalloc.start()
        with pytest.raises(CorruptFileError, match="Pixel Data is long enough for 131071"):
            read_pixels(volume)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 20e6
