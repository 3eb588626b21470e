"""DICOM files made up, small and whole, also such as pydicom would not write."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
)


SERIES = "1.2.3"
"""Series Instance UID of what is made here."""


def make_dataset(number: int = 0, sop_class: str = CTImageStorage, **changes: Any) -> Dataset:
    """A 4 x 6 image, the ``number``-th of an even stack; attributes set to None are left out."""
    attributes: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": f"1.2.3.{number + 1}",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": "1.9",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": number,
        "PatientName": "Doe^Jane",
        "ImagePositionPatient": [10, 20, 2.0 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2,
        "RescaleSlope": 2,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 4,
        "Columns": 6,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": np.arange(24, dtype=np.uint16).tobytes(),
        **changes,
    }
    dataset = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def make_picture(
    number: int = 0, sop_class: str = UltrasoundImageStorage, **changes: Any
) -> Dataset:
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    return make_dataset(number, sop_class, **{"Modality": "US", **nowhere, **changes})


def make_enhanced(positions: list[tuple[float, float, float]], **changes: Any) -> Dataset:
    """An enhanced MR of a frame at each position, in order."""
    frames = [
        make_item(PlanePositionSequence=make_item(ImagePositionPatient=list(p))) for p in positions
    ]
    shared = make_item(
        PlaneOrientationSequence=make_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=make_item(PixelSpacing=[0.5, 0.75], SliceThickness=2),
        PixelValueTransformationSequence=make_item(RescaleSlope=3, RescaleIntercept=1),
    )
    return make_picture(
        sop_class=EnhancedMRImageStorage,
        Modality="MR",
        NumberOfFrames=len(positions),
        PixelData=bytes(48 * len(positions)),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        **changes,
    )


def make_item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, Sequence([value]) if isinstance(value, Dataset) else value)
    return item


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if UID(syntax).is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_stack(folder: Path, count: int = 3, **changes: Any) -> list[Path]:
    """Save slices; of a change that is a function each states what it makes of its number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(count):
        stated = {key: value(k) if callable(value) else value for key, value in changes.items()}
        paths.append(save(make_dataset(k, **stated), folder / f"{k}.dcm"))
    return paths


def with_text(path: Path, attribute: str, text: str) -> Path:
    """Overwrite the text of a DS or IS attribute in a file with whatever is asked for."""
    dataset = make_dataset()
    setattr(dataset, attribute, None)
    save(dataset, path)
    content = path.read_bytes()
    element = dataset[attribute]
    empty = raw_element(int(element.tag), element.VR.encode(), b"")
    padded = text.encode() + b" " * (len(text) % 2)
    filled = raw_element(int(element.tag), element.VR.encode(), padded)
    assert content.count(empty) == 1
    path.write_bytes(content.replace(empty, filled))
    return path


def raw_element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little endian element as it stands in a file; it may lie about its length."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value
