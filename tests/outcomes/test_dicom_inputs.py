"""What becomes of each bad DICOM folder, all below one folder beside a good one."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.support.dicom_files import save_stack


Write = Callable[[Path], None]
Ran = Any  # as the fixture ``segmented`` returns it

ROWS, COLUMNS = 64, 48


STATED = {
    "PatientID": "1", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "", "StudyTime": "",
    "AccessionNumber": "", "StudyID": "", "ReferringPhysicianName": "", "Manufacturer": "",
    "SeriesNumber": 1, "Rows": ROWS, "Columns": COLUMNS, "PixelSpacing": [0.8, 0.8],
    "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleSlope": 1,
    "RescaleType": "HU",
}  # fmt: skip


def stack(folder: Path, positions: tuple[float, ...] = (0, 2, 4, 6), **attributes: Any) -> None:
    """Write a CT series; an attribute may be a function of a slice's place."""

    def pixels(place: int) -> bytes:
        values = np.random.default_rng(place).integers(0, 2000, (ROWS, COLUMNS))
        return values.astype(np.int16).tobytes()

    of_slice = {
        "SOPInstanceUID": lambda place: generate_uid(),
        "InstanceNumber": lambda place: place + 1,
        "ImagePositionPatient": lambda place: [-8, -9, positions[place]],
        "PixelData": pixels,
    }
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    of_stack = {uid: generate_uid() for uid in uids}
    save_stack(folder, len(positions), **{**STATED, **of_stack, **of_slice, **attributes})


def stacked(positions: tuple[float, ...] = (0, 2, 4, 6), **attributes: Any) -> Write:
    return lambda folder: stack(folder, positions, **attributes)


def text_in(keyword: str, text: bytes) -> Write:
    """Return what writes a stack with a text that pydicom itself would not write."""

    def write(folder: Path) -> None:
        stack(folder, **{keyword: "1234567891234567"})
        for path in folder.iterdir():
            content = path.read_bytes()
            path.write_bytes(content.replace(b"1234567891234567", text.ljust(16)))

    return write


def cut(folder: Path) -> None:
    stack(folder)
    path = folder / "2.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def compressed(syntax: str) -> Write:
    def write(folder: Path) -> None:
        stack(folder)
        for path in folder.iterdir():
            one = dcmread(path)
            one.compress(syntax, generate_instance_uid=False)
            one.save_as(path)

    return write


def named_syntax(folder: Path) -> None:
    """A transfer syntax that nothing decodes."""
    stack(folder)
    for path in folder.iterdir():
        one = dcmread(path)
        one.compress(RLELossless, generate_instance_uid=False)
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.110"  # JPEG XL
        one.save_as(path, implicit_vr=False, little_endian=True, force_encoding=True)


def with_other_files(folder: Path) -> None:
    stack(folder)
    (folder / "README.txt").write_text("of the study")
    (folder / "report.pdf").write_bytes(b"%PDF-1.4")


def two_series(folder: Path) -> None:
    stack(folder / "a")
    stack(folder / "b")


def report(folder: Path) -> None:
    folder.mkdir()
    path = get_testdata_file("reportsi.dcm", download=False)
    (folder / "report.dcm").write_bytes(Path(str(path)).read_bytes())


def enhanced(folder: Path) -> None:
    """One file of all slices, as highdicom converts them."""
    stack(folder)
    files = sorted(folder.iterdir())
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        [dcmread(path) for path in files], hd.UID(), 2, hd.UID(), 1
    )
    converted.save_as(folder / "enhanced.dcm")
    for path in files:
        path.unlink()


def nested(folder: Path) -> None:
    """Sequences in one another, 2,000 deep."""
    stack(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        open_ = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        place = content.index(b"\x10\x00\x10\x00PN")
        path.write_bytes(content[:place] + (open_ + item) * 2000 + content[place:])


def too_long(folder: Path) -> None:
    """An element that claims more than the file holds."""
    stack(folder)
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        place = content.index(b"\xe0\x7f\x10\x00OW")
        struct.pack_into("<I", content, place + 8, 2**31)
        path.write_bytes(content)


def of_two_sizes(folder: Path) -> None:
    rows = [ROWS, ROWS, ROWS // 2, ROWS]
    stack(folder, Rows=rows.__getitem__, PixelData=lambda k: bytes(2 * rows[k] * COLUMNS))


UPRIGHT = [1, 0, 0, 0, 1, 0]
TILTED = [1, 0, 0, 0, float(np.cos(0.3)), float(np.sin(0.3))]
CORONAL = [1, 0, 0, 0, 0, -1]

CASES: dict[str, tuple[str, str, Write]] = {
    "D1 an empty folder": ("left alone", "", lambda folder: folder.mkdir()),
    "D2 a report and no image": ("left alone", "", report),
    "D3 two series": ("done", "", two_series),
    "D4 a missing slice": ("done", "missing or not evenly spaced", stacked((0, 2, 6, 8))),
    "D5 two slices at one place": ("E_GEOMETRY", "the same place", stacked((0, 2, 2, 4))),
    "D6 uneven spacing": ("done", "not evenly spaced", stacked((0, 2, 4.3, 6))),
    "D7 a tilted gantry": ("done", "gantry tilt", stacked(ImageOrientationPatient=TILTED)),
    "D8 two orientations": (
        "done",
        "",
        stacked(ImageOrientationPatient=[UPRIGHT, UPRIGHT, CORONAL, CORONAL].__getitem__),
    ),
    "D9 two sizes of slices": ("E_GEOMETRY", "one matrix", of_two_sizes),
    "D9 two pixel spacings": (
        "E_GEOMETRY",
        "PixelSpacing",
        stacked(PixelSpacing=lambda k: [0.8, 0.9 if k else 0.8]),
    ),
    "D10 no position": ("E_GEOMETRY", "ImagePosition", stacked(ImagePositionPatient=None)),
    "D10 no orientation": ("E_GEOMETRY", "ImageOrientation", stacked(ImageOrientationPatient=None)),
    "D11 a slope that is no number": ("E_FORMAT", "finite number", text_in("RescaleSlope", b"nan")),
    "D11 an infinite slope": ("E_FORMAT", "finite number", text_in("RescaleSlope", b"inf")),
    "D11 a slope of 0": ("E_FORMAT", "differ from 0", stacked(RescaleSlope=0)),
    "D12 1e999": ("E_FORMAT", "finite number", text_in("RescaleSlope", b"1e999")),
    "D12 a decimal comma": ("E_FORMAT", "finite number; got text", text_in("RescaleSlope", b"1,5")),
    "D13 pixels that were cut": ("E_CORRUPT", "cut short", cut),
    "D14 a transfer syntax that nothing decodes": ("E_FORMAT", "Convert it", named_syntax),
    "D15 inverted gray": (
        "done",
        "show low ones white",
        stacked(PhotometricInterpretation="MONOCHROME1"),
    ),
    "D16 enhanced multi-frame": ("done", "", enhanced),
    "D17 other files between": ("done", "", with_other_files),
    "D19 sequences 2,000 deep": ("E_CORRUPT", "64 deep", nested),
    "D19 an element longer than its file": ("E_CORRUPT", "pixels", too_long),
    "D20 no study": ("E_FORMAT", "StudyInstanceUID", stacked(StudyInstanceUID=None)),
    "D21 RLE": ("done", "", compressed(RLELossless)),
    "D21 JPEG-LS": ("done", "", compressed(JPEGLSLossless)),
    "D21 JPEG 2000": ("done", "", compressed(JPEG2000Lossless)),
}


def folder_of(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", case)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("dicom")
    stack(home / "good")
    for case, (_, _, write) in CASES.items():
        write(home / folder_of(case))
    return home


@pytest.fixture(scope="module")
def ran(folder: Path, segmented: Callable[..., Ran]) -> Ran:
    return segmented(folder, "--targets", "all", "--write-empty")


@pytest.mark.parametrize("case", CASES)
def test_comes_to_what_is_promised(case: str, ran: Ran) -> None:
    code, words, _ = CASES[case]

    outcome, told = ran.outcome(folder_of(case))

    assert outcome == code, told
    assert re.search(words, told), told
    written = [path for path in ran.out.glob(f"{folder_of(case)}/**/*") if path.is_file()]
    assert bool(written) == (outcome == "done")


def test_compressed_slices_give_the_mask_of_plain_ones(ran: Ran) -> None:
    masks = [
        dcmread(next((ran.out / folder_of(name)).rglob("*_seg.dcm"))).PixelData
        for name in ("good", "D21 RLE", "D21 JPEG-LS", "D21 JPEG 2000", "D16 enhanced multi-frame")
    ]

    assert len(set(masks)) == 1


def test_good_series_beside_them_is_done_and_the_status_says_that_others_failed(ran: Ran) -> None:
    assert ran.outcome("good")[0] == "done"
    assert ran.status == 1
    assert "Traceback" not in ran.text


def test_records_name_no_folder_of_this_machine(ran: Ran, folder: Path) -> None:
    for record in ran.out.rglob("*_seg.json"):
        assert str(folder) not in record.read_text()
