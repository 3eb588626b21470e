from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jpeg_ls
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from esp_medsam.dicom.pixels import DicomPixels, read_pixels


PLACE = (1, 2)
"""Row and column of the padding."""

Read = Callable[..., DicomPixels]


@pytest.fixture
def read(dicom: SimpleNamespace, tmp_path: Path) -> Read:
    """Return a function that reads a CT of 0, 1, ... whose padding is one 16-bit word."""

    def read_padded(
        word: int,
        stated: tuple[str, int] | None,
        *,
        limit: tuple[str, int] | None = None,
        syntax: str = ExplicitVRLittleEndian,
        overlay: int = 0,
        **changes: Any,
    ) -> DicomPixels:
        words = np.arange(24, dtype="<u2").reshape(4, 6) | overlay
        words[PLACE] = word % 2**16
        settings = {"RescaleSlope": 1, "RescaleIntercept": -1024, **changes}
        dataset = dicom.dataset(**{"PixelData": words.tobytes(), **settings})
        for tag, value in ((0x00280120, stated), (0x00280121, limit)):
            if value is not None:
                dataset.add_new(tag, *value)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = words.byteswap().tobytes()
            dataset["PixelData"].VR = "OW"
        if syntax == RLELossless:
            dataset.PixelData = encapsulate([rle(words)])
        if syntax == JPEGLSLossless:
            dataset.PixelData = encapsulate([bytes(jpeg_ls.encode_array(words))])
        path = dicom.save(dataset, tmp_path / "a.dcm", syntax)
        changed = {"slope": 1.0, "intercept": float(settings["RescaleIntercept"])}
        return read_pixels(dicom.volume_of(path, **changed))

    return read_padded


def rle(words: np.ndarray) -> bytes:
    return get_encoder(RLELossless).encode(
        words.tobytes(), rows=4, columns=6, number_of_frames=1, samples_per_pixel=1,
        bits_allocated=16, bits_stored=16, pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
    )  # fmt: skip


def assert_others_are_as_stored(read: DicomPixels, intercept: int = -1024) -> None:
    expected = np.arange(24).reshape(4, 6) + intercept
    expected[PLACE] = read.pixels[0][PLACE]
    np.testing.assert_array_equal(read.pixels[0], expected)


class TestBeyondBitsStored:
    @pytest.mark.parametrize(
        "syntax",
        [
            ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless,
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("representation", [0, 1])
    @pytest.mark.parametrize(
        ("word", "stated"),
        [
            (-3000, ("SS", -3000)), (-3000, ("US", 62536)),
            (-32768, ("SS", -32768)), (-32768, ("US", 32768)),
        ],
    )  # fmt: skip
    def test_keeps_its_sign_in_ct(
        self, read: Read, syntax: str, representation: int, word: int, stated: tuple[str, int]
    ) -> None:
        found = read(word, stated, syntax=syntax, PixelRepresentation=representation)

        assert found.pixels[0][PLACE] == word - 1024
        assert found.pixels.dtype == (np.int16 if word == -3000 else np.int32)
        assert_others_are_as_stored(found)
        assert "12 Bits Stored" in found.warnings[0]

    @pytest.mark.parametrize("representation", [0, 1])
    def test_keeps_its_sign_in_a_codestream_of_16_bits(
        self, read: Read, representation: int
    ) -> None:
        found = read(
            -3000, ("US", 62536), syntax=JPEGLSLossless, PixelRepresentation=representation
        )

        assert found.pixels[0][PLACE] == -4024
        assert_others_are_as_stored(found)

    @pytest.mark.parametrize("stated", [("SS", -2000), ("US", 63536)])
    def test_of_2000_below_zero_is_not_bone(self, read: Read, stated: tuple[str, int]) -> None:
        assert read(63536, stated).pixels[0][PLACE] == -3024

    @pytest.mark.parametrize("word", [4096, 8000, 32767])
    def test_above_zero_is_the_least_stored_value(self, read: Read, word: int) -> None:
        assert read(word, ("US", word)).pixels[0][PLACE] == -1024
        assert read(word, ("US", word), PixelRepresentation=1).pixels[0][PLACE] == -3072

    @pytest.mark.parametrize("stated", [("SS", -2000), ("US", 63536)])
    def test_with_a_sign_among_16_stored_bits_without_is_padding_in_ct(
        self, read: Read, stated: tuple[str, int]
    ) -> None:
        found = read(63536, stated, BitsStored=16, HighBit=15)

        assert found.pixels[0][PLACE] == -3024
        assert_others_are_as_stored(found)
        assert "is signed" in found.warnings[0]

    def test_of_other_modalities_is_the_least_stored_value(self, read: Read) -> None:
        changes = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleIntercept": 0}

        found = read(63536, ("US", 63536), **changes)

        assert found.pixels[0][PLACE] == 0
        assert_others_are_as_stored(found, 0)

    def test_is_black_where_the_greatest_value_is(self, read: Read) -> None:
        found = read(
            63536, ("US", 63536), SOPClassUID=ComputedRadiographyImageStorage, Modality="CR",
            RescaleIntercept=0, PhotometricInterpretation="MONOCHROME1",
        )  # fmt: skip

        assert found.pixels[0][PLACE] == 4095


class TestRange:
    @pytest.mark.parametrize("word", [-3000, -2900, -2500])
    @pytest.mark.parametrize(
        ("stated", "limit"),
        [
            (("SS", -3000), ("SS", -2500)), (("SS", -2500), ("SS", -3000)),
            (("US", 62536), ("US", 63036)), (("US", 62536), ("SS", -2500)),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("representation", [0, 1])
    def test_from_end_to_end_is_padding(
        self, read: Read, word: int, stated: tuple[str, int], limit: tuple[str, int],
        representation: int,
    ) -> None:  # fmt: skip
        found = read(word, stated, limit=limit, PixelRepresentation=representation)

        assert found.pixels[0][PLACE] == -3000 - 1024
        assert_others_are_as_stored(found)

    def test_across_zero_keeps_the_values_that_are_stored(self, read: Read) -> None:
        found = read(-2500, ("SS", -3000), limit=("SS", 10))

        assert found.pixels[0][PLACE] == -4024
        assert_others_are_as_stored(found)


class TestWhatIsNoPadding:
    @pytest.mark.parametrize("overlay", [0x1000, 0x8000, 0xF000])
    @pytest.mark.parametrize("stated", [None, ("US", 0), ("SS", -2000), ("US", 63536)])
    def test_overlays_in_high_bits_are_left_out(
        self, read: Read, overlay: int, stated: tuple[str, int] | None
    ) -> None:
        found = read(8 | overlay, stated, overlay=overlay)

        assert found.pixels[0][PLACE] == 8 - 1024
        assert_others_are_as_stored(found)
        assert found.warnings == ()

    @pytest.mark.parametrize("value", [0, 24, 4095])
    def test_padding_within_bits_stored_keeps_its_value(self, read: Read, value: int) -> None:
        found = read(value, ("US", value))

        assert found.pixels[0][PLACE] == value - 1024
        assert found.warnings == ()

    def test_padding_that_a_writer_cut_is_told_where_it_lies_in_all_corners(
        self, read: Read
    ) -> None:
        within = read(2096, ("US", 63536))
        around = read(2096, ("US", 63536), PixelData=np.full(24, 2096, "<u2").tobytes())

        assert within.pixels[0][PLACE] == around.pixels[0][PLACE] == 1072
        assert within.warnings == ()
        assert "12 Bits Stored; cut to 2096, it was read as a value" in around.warnings[0]

    @pytest.mark.parametrize("value", [b"", b"\x01", b"\x01\x02\x03"])
    def test_padding_that_is_no_number_refuses_nothing(
        self, dicom: SimpleNamespace, tmp_path: Path, value: bytes
    ) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "a.dcm")
        expected = read_pixels(dicom.volume_of(path)).pixels
        content = path.read_bytes()
        at = content.index(struct.pack("<HH2s", 0x0028, 0x1052, b"DS"))
        path.write_bytes(content[:at] + dicom.raw_element(0x00280120, b"US", value) + content[at:])

        np.testing.assert_array_equal(read_pixels(dicom.volume_of(path)).pixels, expected)
