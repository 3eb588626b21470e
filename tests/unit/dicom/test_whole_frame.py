from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.errors import CorruptFileError


END = b"\xff\xd9"

FILES = (
    "SC_rgb_jpeg_dcmtk.dcm",  # baseline
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",  # subsampled
    "SC_rgb_jpeg_gdcm.dcm",  # lossless
    "SC_rgb_jls_lossy_line.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm",
)


def picture() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    return (128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)


def encoded(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, **options)
    return file.getvalue()


@pytest.fixture
def read(write_shipped: Callable[..., Path], dicom: SimpleNamespace) -> Callable[..., np.ndarray]:
    """Return a function that reads an 8-bit frame, compressed, from a file."""

    def read(frame: bytes, syntax: str) -> np.ndarray:
        gray = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
        path = write_shipped(
            Rows=64, Columns=64, syntax=syntax, PixelData=encapsulate([frame]), **gray
        )
        pixels: np.ndarray = read_pixels(dicom.volume_of(path, slope=1.0, intercept=0.0)).pixels
        return pixels[0]

    return read


class TestCut:
    @pytest.mark.parametrize("share", [0.35, 0.7, 0.97])
    @pytest.mark.parametrize("name", FILES)
    def test_a_frame_that_was_cut_and_closed_is_refused(
        self, name: str, share: float, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dataset = dcmread(dicom.shipped(name))
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0")
        end = END if frame.endswith(END) else b""
        path = tmp_path / "a.dcm"
        dcmwrite(path, dataset)
        volume = dicom.volume_of(path)
        assert read_pixels(volume).pixels.any()
        dataset.PixelData = encapsulate([frame[: int(share * len(frame))] + end])
        dcmwrite(path, dataset)

        with pytest.raises(CorruptFileError, match=r"a\.dcm must hold whole"):
            read_pixels(volume)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
    def test_jpeg_of_all_kinds_is_whole_or_refused(
        self, read: Callable[..., np.ndarray], options: dict[str, Any]
    ) -> None:
        frame = encoded(format="JPEG", **options)

        assert np.abs(read(frame, JPEGBaseline8Bit).astype(int) - picture()).max() < 9
        for share in (0.75, 0.9):
            with pytest.raises(CorruptFileError, match=r"a\.dcm must hold whole"):
                read(frame[: int(share * len(frame))] + END, JPEGBaseline8Bit)

    def test_a_bomb_of_scans_is_not_decoded(self, read: Callable[..., np.ndarray]) -> None:
        frame = encoded(format="JPEG", progressive=True)
        bomb = frame[:-2] + frame[frame.rindex(b"\xff\xda") : -2] * 500 + END

        with pytest.raises(CorruptFileError, match="frame 1 has 506 scans, more than 100"):
            read(bomb, JPEGBaseline8Bit)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda frame: frame.replace(b"\xff\xc4\x00", b"\xff\xd4\x00", 1),  # a restart, early
            lambda frame: frame.replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\xe2", 1),
            lambda frame: frame.replace(b"\xff\xc4\x00\x1f", b"\xff\xc4\x00\x19", 1),
        ],
    )
    def test_d13_a_header_over_which_gdcm_ends_the_process_is_refused(
        self, read: Callable[..., np.ndarray], damage: Callable[[bytes], bytes]
    ) -> None:
        frame = encoded(format="JPEG", quality=90)
        assert damage(frame) != frame

        with pytest.raises(CorruptFileError, match=r"a\.dcm must .*frame 1"):
            read(damage(frame), JPEGBaseline8Bit)

    @pytest.mark.parametrize("revision", [1, 2, 94])
    def test_d13_a_jfif_revision_that_gdcm_does_not_know_ends_no_process(
        self, write_shipped: Callable[..., Path], dicom: SimpleNamespace, revision: int
    ) -> None:
        frame = b"".join(
            (
                b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + bytes([revision, 1, 0, 0, 1, 0, 1, 0, 0]),
                b"\xff\xc3\x00\x0b\x10\x00\x08\x00\x08\x01\x01\x11\x00",
                b"\xff\xc4\x00\x14\x00\x01" + bytes(16),  # one code, of no difference
                b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + bytes(8) + b"\xff\xd9",
            )
        )
        gray = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0}
        path = write_shipped(
            Rows=8, Columns=8, syntax=JPEGLosslessSV1, PixelData=encapsulate([frame]), **gray
        )

        pixels = read_pixels(dicom.volume_of(path, slope=1.0, intercept=0.0)).pixels

        assert np.unique(pixels).tolist() == [2**15]

    @pytest.mark.parametrize(
        ("kind", "place", "syntax"),
        [("JPEG2000", 40, JPEG2000Lossless), ("JPEG", None, JPEGBaseline8Bit)],
    )
    def test_more_components_than_the_header_has_are_not_decoded(
        self, read: Callable[..., np.ndarray], kind: str, place: int | None, syntax: str
    ) -> None:
        options = {"no_jp2": True} if kind == "JPEG2000" else {}
        frame = bytearray(encoded(format=kind, **options))
        at = frame.index(b"\xff\xc0") + 9 if place is None else place
        frame[at : at + 2] = b"\x40\0" if place else bytes([255, frame[at + 1]])

        with pytest.raises(CorruptFileError, match=r"frame 1 has (16384|255) components, not 1"):
            read(bytes(frame), syntax)

    @pytest.mark.parametrize("kept", [1, 8, 15])
    def test_jpeg_2000_that_lacks_tiles_is_refused(
        self, read: Callable[..., np.ndarray], kept: int
    ) -> None:
        frame = encoded(format="JPEG2000", no_jp2=True, tile_size=(16, 16))
        np.testing.assert_array_equal(read(frame, JPEG2000Lossless), picture())
        starts = [k for k in range(len(frame)) if frame[k : k + 4] == b"\xff\x90\x00\x0a"]
        assert len(starts) == 16

        with pytest.raises(CorruptFileError, match=r"a\.dcm must .*frame 1"):
            read(frame[: starts[kept]] + END, JPEG2000Lossless)

    def test_rle_whose_segments_lie_elsewhere_is_refused(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dataset = dcmread(dicom.shipped("MR_small_RLE.dcm"))
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        path = tmp_path / "a.dcm"
        dcmwrite(path, dataset)
        volume = dicom.volume_of(path)
        assert dataset.file_meta.TransferSyntaxUID == RLELossless
        for offset in (0, 65, 2**31):
            dataset.PixelData = encapsulate([frame[:4] + struct.pack("<L", offset) + frame[8:]])
            dcmwrite(path, dataset)

            with pytest.raises(CorruptFileError, match=r"a\.dcm must .*frame 1"):
                read_pixels(volume)

    def test_nothing_is_said_to_stderr_of_what_is_whole(
        self, dicom: SimpleNamespace, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in FILES:
            read_pixels(dicom.volume_of(dicom.shipped(name)))

        assert capfd.readouterr() == ("", "")
