from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from esp_medsam.dicom.codecs import PACKAGES, codestream_size, decoder_of, missing_codec, name_of
from esp_medsam.errors import FormatError


COMPRESSED = [
    "MR_small_jp2klossless.dcm",  # JPEG 2000
    "examples_jpeg2k.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
    "SC_rgb_jpeg_dcmtk.dcm",  # JPEG baseline
    "JPEG-lossy.dcm",  # JPEG extended
    "examples_ybr_color.dcm",
]


class TestCodestreamSize:
    @pytest.mark.parametrize("name", COMPRESSED)
    def test_is_that_of_the_header(self, dicom: SimpleNamespace, name: str) -> None:
        dataset = dcmread(dicom.shipped(name))
        count = int(dataset.get("NumberOfFrames") or 1)

        for frame in generate_frames(dataset.PixelData, number_of_frames=count):
            assert codestream_size(frame) == (dataset.Rows, dataset.Columns)

    def test_is_found_in_a_jp2_file(self, dicom: SimpleNamespace) -> None:
        dataset = dcmread(dicom.shipped("MR_small_jp2klossless.dcm"))
        (codestream,) = generate_frames(dataset.PixelData, number_of_frames=1)
        box = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x00jp2c"

        assert codestream_size(box + codestream) == (64, 64)

    def test_fill_bytes_before_a_marker_are_skipped(self) -> None:
        header = b"\xff\xd8" + b"\xff\xff\xff\xc0" + b"\x00\x0b\x08\x00\x05\x00\x07\x01" + bytes(3)

        assert codestream_size(header) == (5, 7)

    @given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51"]))
    def test_any_bytes_give_a_size_or_none(self, data: bytes, start: bytes) -> None:
        found = codestream_size(start + data)

        if found is not None:
            rows, columns = found
            assert -(2**32) < rows < 2**32  # below 1 it is no image's, and refused
            assert -(2**32) < columns < 2**32

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xda"])
    def test_no_size_is_none(self, data: bytes) -> None:
        assert codestream_size(data) is None


class TestDecoderOf:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
    def test_is_pydicoms(self, syntax: UID) -> None:
        decoder = decoder_of(syntax, "a.dcm")

        assert str(decoder.UID) == str(syntax)

    @pytest.mark.parametrize("syntax", sorted(set(PACKAGES) - {HTJ2KLossless}))
    def test_is_at_hand_for_what_hospitals_send(self, syntax: str) -> None:
        assert decoder_of(UID(syntax), "a.dcm").is_available

    @pytest.mark.parametrize(
        ("syntax", "name"),
        [(MPEG2MPML, "MPEG2 Main Profile / Main Level"), (UID("1.2.840.10008.1.2.8.1"), "1.2.8")],
    )
    def test_refuses_what_pydicom_does_not_read(self, syntax: UID, name: str) -> None:
        with pytest.raises(FormatError, match=rf"^a\.dcm must be .*{name}.*software that reads it"):
            decoder_of(syntax, "a.dcm")

    @pytest.mark.parametrize(
        ("syntax", "package"),
        [(JPEG2000Lossless, "pylibjpeg pylibjpeg-openjpeg"), (JPEGLSLossless, "pyjpegls")],
    )
    def test_names_the_missing_package(
        self, monkeypatch: pytest.MonkeyPatch, syntax: UID, package: str
    ) -> None:
        monkeypatch.setattr(Decoder, "is_available", False)

        found = rf"^a\.dcm must be decoded from .*\({syntax}\).* pip install {package}\.$"
        with pytest.raises(FormatError, match=found):
            decoder_of(syntax, "a.dcm")


class TestNames:
    def test_hold_the_uid(self) -> None:
        assert name_of(RLELossless) == "RLE Lossless (1.2.840.10008.1.2.5)"
        assert name_of(UID("1.2.3")) == "1.2.3"

    def test_an_unknown_package_is_not_made_up(self) -> None:
        assert "needs a package" in missing_codec(RLELossless, str(Path("a.dcm")))
