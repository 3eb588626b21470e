from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    TooLargeError,
)


SERIES = "1.2.3"


def measured(dicom: Any, folder: Path) -> tuple[EspMedSamError, int]:
    """Return why the file in a folder is refused, and the most memory held to find out."""
    tracemalloc.start()
    error = dicom.refusal(find_volumes(folder))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return error, most


class TestBadHeaders:
    @pytest.mark.parametrize("text", ["1e999", "1,5", "NaN", "inf", "1_0", "0x10", "one"])
    @pytest.mark.parametrize("attribute", ["RescaleSlope", "RescaleIntercept"])
    def test_rescale_that_is_no_number_is_refused(
        self, dicom: Any, tmp_path: Path, attribute: str, text: str
    ) -> None:
        path = dicom.with_text(tmp_path / "0", attribute, text)

        error = dicom.refusal(find_volumes(path))

        assert isinstance(error, FormatError)
        assert f"{attribute} (0028,105" in str(error)
        assert str(path) in str(error)

    def test_slope_of_zero_is_refused(self, dicom: Any, tmp_path: Path) -> None:
        error = dicom.refusal(find_volumes(dicom.with_text(tmp_path / "0", "RescaleSlope", "0.0")))

        assert "must differ from 0" in str(error)

    def test_long_decimals_are_read(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.with_text(tmp_path / "0", "RescaleSlope", "1.23456789012345678")

        (volume,) = find_volumes(path).volumes

        assert volume.slices[0].slope == 1.23456789012345678

    @pytest.mark.parametrize(
        ("attribute", "text"),
        [
            ("ImagePositionPatient", "1\\2"),
            ("ImagePositionPatient", "1\\2\\1e400"),
            ("ImagePositionPatient", "1\\2\\1e300"),
            ("ImagePositionPatient", "1,0\\2\\3"),
            ("ImageOrientationPatient", "1\\0\\0\\0\\1"),
            ("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"),
            ("ImageOrientationPatient", "1\\0\\0\\1\\0\\0"),
            ("PixelSpacing", "0\\1"),
            ("PixelSpacing", "-1\\1"),
            ("PixelSpacing", "1"),
            ("PixelSpacing", "nan\\nan"),
            ("PixelSpacing", "9" * 400),
        ],
    )
    def test_geometry_that_is_none_is_refused(
        self, dicom: Any, tmp_path: Path, attribute: str, text: str
    ) -> None:
        error = dicom.refusal(find_volumes(dicom.with_text(tmp_path / "0", attribute, text)))

        assert isinstance(error, GeometryError)
        assert attribute in str(error)
        assert len(str(error)) < 400

    @pytest.mark.parametrize(
        "attribute", ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns"]
    )
    def test_what_cannot_be_done_without_is_named(
        self, dicom: Any, tmp_path: Path, attribute: str
    ) -> None:
        dataset = dicom.dataset()
        del dataset[attribute]
        dataset.save_as(tmp_path / "0", implicit_vr=False, little_endian=True)

        assert f"must state {attribute}" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_files_without_a_series_are_refused_together(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, SeriesInstanceUID="")

        error = dicom.refusal(find_volumes(tmp_path))

        assert "must state SeriesInstanceUID" in str(error)
        assert "2 more files" in str(error)

    @pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2..3", "1." * 40 + "1", "hello"])
    def test_a_uid_that_is_none_is_refused(self, dicom: Any, tmp_path: Path, uid: str) -> None:
        dicom.save(dicom.dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        old = dicom.raw_element(0x0020000E, b"UI", b"1.2.3\0")
        new = dicom.raw_element(0x0020000E, b"UI", uid.encode() + b"\0" * (len(uid) % 2))
        (tmp_path / "0").write_bytes(content.replace(old, new))

        assert "must be a UID" in str(dicom.refusal(find_volumes(tmp_path)))

    @pytest.mark.parametrize("text", ["0", "", " ", "00", "1 ", "01", "1.0", "+1", "0 "])
    def test_no_number_of_frames_or_0_is_one_frame(
        self, dicom: Any, tmp_path: Path, text: str
    ) -> None:
        path = dicom.with_text(tmp_path / "0", "NumberOfFrames", text)

        (volume,) = find_volumes(path).volumes

        assert [piece.source.frame for piece in volume.slices] == [None]
        np.testing.assert_array_equal(
            read_pixels(volume).pixels[0, :, :, 0].T, 2 * np.arange(24).reshape(4, 6) - 1024
        )

    @pytest.mark.parametrize("text", ["-1", "1.5", "many", "1\\2"])
    def test_a_number_of_frames_that_is_none_is_refused(
        self, dicom: Any, tmp_path: Path, text: str
    ) -> None:
        path = dicom.with_text(tmp_path / "0", "NumberOfFrames", text)

        assert "NumberOfFrames (0028,0008)" in str(dicom.refusal(find_volumes(path)))

    def test_0_frames_whose_pixels_are_several_are_refused(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dicom.save(dicom.picture(NumberOfFrames=0, PixelData=bytes(48 * 3)), tmp_path / "0")
        (volume,) = find_volumes(tmp_path).volumes

        with pytest.raises(CorruptFileError, match=r"hold 1 frames .* long enough for 3"):
            read_pixels(volume)

    @pytest.mark.parametrize("frames", [1, 2, 3, 5])
    def test_pixels_of_full_length_that_are_stated_to_share_colors_are_refused(
        self, dicom: Any, tmp_path: Path, frames: int
    ) -> None:
        pixels = bytes(72 * frames)
        picture = dicom.picture(
            SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=frames, SamplesPerPixel=3,
            PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL_422", BitsAllocated=8,
            BitsStored=8, HighBit=7, PixelData=pixels,
        )  # fmt: skip
        path = dicom.save(picture, tmp_path / "0")

        said = "Photometric Interpretation (0028,0004), YBR_FULL_422; its "
        assert said in str(dicom.refusal(find_volumes(tmp_path)))
        with pytest.raises(CorruptFileError, match="bytes are RGB or YBR_FULL"):
            read_pixels(dicom.volume_of(path))

    @pytest.mark.parametrize("frames", [1, 2])
    def test_pixels_that_share_colors_and_are_stated_not_to_are_refused(
        self, dicom: Any, tmp_path: Path, frames: int
    ) -> None:
        picture = dicom.picture(
            SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=frames, SamplesPerPixel=3,
            PlanarConfiguration=0, PhotometricInterpretation="RGB", BitsAllocated=8,
            BitsStored=8, HighBit=7, PixelData=bytes(48 * frames),
        )  # fmt: skip
        dicom.save(picture, tmp_path / "0")

        said = "it has the length of YBR_FULL_422, not of RGB"
        assert said in str(dicom.refusal(find_volumes(tmp_path)))

    @pytest.mark.parametrize("slope", [0, 2])
    def test_colors_are_not_rescaled_and_a_slope_refuses_none(
        self, dicom: Any, tmp_path: Path, slope: int
    ) -> None:
        picture = dicom.picture(
            SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB",
            BitsAllocated=8, BitsStored=8, HighBit=7, RescaleSlope=slope, PixelData=bytes(72),
        )  # fmt: skip
        dicom.save(picture, tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert (volume.slices[0].slope, volume.slices[0].intercept) == (1, 0)
        assert not read_pixels(volume).pixels.any()

    def test_a_mosaic_is_refused(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(
            dicom.dataset(0, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), tmp_path / "0"
        )

        assert "mosaic" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_a_header_that_claims_gigabytes_is_refused_without_holding_them(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dicom.save(dicom.picture(Rows=65535, Columns=65535, NumberOfFrames=60_000), tmp_path / "0")

        error, most = measured(dicom, tmp_path)

        assert "got 48" in str(error)
        assert most < 2**22

    @pytest.mark.parametrize("tag", [0x00081140, 0x00280030, 0x52009230])
    @pytest.mark.parametrize("vr", [b"UN", b"OB", b"UT", b"SQ"])
    def test_an_element_that_claims_gigabytes_is_refused_without_holding_them(
        self, dicom: Any, tmp_path: Path, tag: int, vr: bytes
    ) -> None:
        dicom.save(dicom.dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        bomb = dicom.raw_element(tag, vr, b"abcd", length=0xFFFFFFF0)
        (tmp_path / "0").write_bytes(content[: content.index(b"\x28\x00\x02\x00")] + bomb)

        error, most = measured(dicom, tmp_path)

        assert isinstance(error, CorruptFileError | FormatError)
        assert most < 2**22

    def test_a_deep_nest_of_sequences_is_refused(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        nest = (dicom.raw_element(0x00081140, b"SQ", b"", length=0xFFFFFFFF) + item) * 5000
        (tmp_path / "0").write_bytes(content[: content.index(b"\x20\x00\x0d\x00")] + nest)

        error, _ = measured(dicom, tmp_path)

        assert isinstance(error, CorruptFileError)
        assert "header is damaged" in str(error)

    def test_a_million_empty_items_are_refused_without_holding_them(
        self, dicom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.skim._PIECES", 1000)
        dicom.save(dicom.dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 100_000
        bomb = dicom.raw_element(0x00081140, b"SQ", items, length=0xFFFFFFFF)
        (tmp_path / "0").write_bytes(content[: content.index(b"\x20\x00\x0d\x00")] + bomb)

        error, most = measured(dicom, tmp_path)

        assert isinstance(error, CorruptFileError)
        assert "too many pieces" in str(error)
        assert most < 2**22

    def test_frames_described_by_empty_items_are_refused(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 20_000
        bomb = dicom.raw_element(0x52009230, b"SQ", items)
        place = content.index(b"\xe0\x7f\x10\x00")
        (tmp_path / "0").write_bytes(content[:place] + bomb + content[place:])

        assert "describe each frame; got 20000 items for 1 frames" in str(
            dicom.refusal(find_volumes(tmp_path))
        )

    def test_a_damaged_nest_takes_the_stack_of_its_file(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        content = (tmp_path / "1.dcm").read_bytes()
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        nest = (dicom.raw_element(0x00081140, b"SQ", b"", length=0xFFFFFFFF) + item) * 3000
        bomb = dicom.raw_element(
            0x52009230, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(nest)) + nest
        )
        place = content.index(b"\xe0\x7f\x10\x00")
        (tmp_path / "1.dcm").write_bytes(content[:place] + bomb + content[place:])

        found = find_volumes(tmp_path)

        assert [name for name, _ in found.refused] == [SERIES]
        assert "PerFrameFunctionalGroupsSequence (5200,9230)" in str(dicom.refusal(found))
        assert "it is damaged" in str(dicom.refusal(found))

    def test_a_claim_of_a_million_tiny_frames_is_refused(self, dicom: Any, tmp_path: Path) -> None:
        tiny = {"Rows": 1, "Columns": 1, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
        picture = dicom.picture(NumberOfFrames=10**6, PixelData=bytes(10**6), **tiny)
        dicom.save(picture, tmp_path / "0")

        error, most = measured(dicom, tmp_path)

        assert isinstance(error, TooLargeError)
        assert most < 2**22

    def test_what_inflates_without_end_is_refused(
        self, dicom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.bounded_file.MOST_INFLATED", 2**20)
        dataset = dicom.picture(Rows=2048, Columns=2048, PixelData=bytes(2**23))
        dicom.save(dataset, tmp_path / "0", DeflatedExplicitVRLittleEndian)

        error, most = measured(dicom, tmp_path)

        assert isinstance(error, TooLargeError)
        assert most < 2**23

    def test_a_damaged_deflated_file_is_refused(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "0", DeflatedExplicitVRLittleEndian)
        content = path.read_bytes()
        path.write_bytes(content[:-120] + bytes(100))

        assert isinstance(dicom.refusal(find_volumes(path)), CorruptFileError)

    def test_video_is_refused_by_its_name(self, dicom: Any, tmp_path: Path) -> None:
        cine = dicom.picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=2, PixelData=encapsulate([b"mpeg"])
        )
        dicom.save(cine, tmp_path / "0", MPEG2MPML)

        assert "video (MPEG2" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_compressed_frames_must_all_be_there(self, dicom: Any, tmp_path: Path) -> None:
        cine = dicom.picture(
            0,
            UltrasoundMultiFrameImageStorage,
            NumberOfFrames=3,
            PixelData=encapsulate([b"ab", b"cd"]),
        )
        dicom.save(cine, tmp_path / "0", JPEG2000Lossless)

        assert "3 compressed frames; got 2" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_compressed_pixels_that_are_cut_short_are_refused(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dataset = dicom.dataset(0, PixelData=encapsulate([bytes(400)]))
        path = dicom.save(dataset, tmp_path / "0", JPEG2000Lossless)
        path.write_bytes(path.read_bytes()[:-100])

        assert "cut short" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_endless_empty_fragments_are_refused(
        self, dicom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.fragments._FRAGMENTS", 100)
        dataset = dicom.dataset(0, PixelData=encapsulate([b"ab"]))
        path = dicom.save(dataset, tmp_path / "0", JPEG2000Lossless)
        empty = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        path.write_bytes(path.read_bytes()[:-8] + empty * 1000)

        assert "empty fragments" in str(dicom.refusal(find_volumes(tmp_path)))

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_file_is_read_or_refused_and_nothing_else(
        self, dicom: Any, tmp_path: Path, data: st.DataObject
    ) -> None:
        make: Callable[[], Dataset] = data.draw(
            st.sampled_from([dicom.dataset, dicom.picture, lambda: dicom.enhanced([(0, 0, 0)] * 2)])
        )
        syntax = data.draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
        content = bytearray(dicom.save(make(), tmp_path / "0", syntax).read_bytes())
        for _ in range(data.draw(st.integers(0, 6))):
            content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
        kept = data.draw(st.integers(0, len(content)))
        (tmp_path / "0").write_bytes(content[: kept if data.draw(st.booleans()) else None])

        found = find_volumes(tmp_path)

        assert len(found.volumes) + len(found.refused) + len(found.others) >= 1
