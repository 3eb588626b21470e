"""Synthetic DICOM files, small and whole, which tests damage; segmentations of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
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
from scipy.spatial.transform import Rotation

from esp_medsam.dicom import Found, find_volumes
from esp_medsam.dicom.geometry import picture_grid
from esp_medsam.dicom.seg_writer import build_segmentation, write_segmentation
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.errors import EspMedSamError
from esp_medsam.grid import Grid
from esp_medsam.image import Image, SourceInstance
from esp_medsam.modality import Code, Target


SERIES = "1.2.3"
"""Series Instance UID of what is made here."""


@pytest.fixture
def dicom(shipped: Callable[[str], Path]) -> SimpleNamespace:
    """Functions that make data sets and files, also such as pydicom would not write."""
    return SimpleNamespace(
        dataset=make_dataset,
        picture=make_picture,
        enhanced=make_enhanced,
        item=make_item,
        save=save,
        save_stack=save_stack,
        with_text=with_text,
        raw_element=raw_element,
        shipped=shipped,
        volume_of=volume_of,
        refusal=refusal,
    )


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
    return [save(make_dataset(k, **changes), folder / f"{k}.dcm") for k in range(count)]


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


@pytest.fixture
def write_shipped(shipped: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes CT_small, or another file, changed; None takes away."""

    def write(name: str = "a.dcm", *, like: str = "CT_small.dcm", **changes: object) -> Path:
        dataset = dcmread(shipped(like))
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            elif keyword == "syntax":
                dataset.file_meta.TransferSyntaxUID = UID(str(value))
            else:
                setattr(dataset, keyword, value)
        dataset["PixelData"].is_undefined_length = dataset.file_meta.TransferSyntaxUID.is_compressed
        dcmwrite(tmp_path / name, dataset)
        return tmp_path / name

    return write


def volume_of(*paths: Path | str, positioned: bool = False, **changes: object) -> DicomVolume:
    """A volume as the headers of its files would describe it, every frame a slice."""
    slices = []
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        count = int(header.get("NumberOfFrames") or 1)
        values = {
            "rows": header.Rows,
            "columns": header.Columns,
            "slope": float(header.get("RescaleSlope") or 1),
            "intercept": float(header.get("RescaleIntercept") or 0),
            "rescale_type": header.get("RescaleType"),
            **changes,
        }
        for frame in range(1, count + 1):
            source = SourceInstance(
                path=str(path),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                frame=frame if count > 1 else None,
            )
            slices.append(DicomSlice(source=source, **values))
    grid = picture_grid(slices)
    if positioned:
        shape = (slices[0].columns, slices[0].rows, len(slices))
        grid = Grid(shape=shape, slice_affines=np.tile(np.eye(4), (len(slices), 1, 1)))
    return DicomVolume(
        name="a",
        slices=tuple(slices),
        grid=grid,
        sop_class_uid=str(header.SOPClassUID),
        dicom_modality=header.get("Modality"),
    )


def refusal(found: Found) -> EspMedSamError:
    """The error of the one volume there is, which is refused."""
    assert not found.volumes
    (entry,) = found.refused
    return entry[1]


SEG_SHA256 = "5e" * 32
_LIVER = Code("10200004", "SCT", "Liver")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
SEG_TARGETS = (
    Target(
        name="liver",
        label=3,
        category=Code("91723000", "SCT", "Anatomical Structure"),
        type=_LIVER,
        color=(221, 130, 101),
    ),
    Target(
        name="tumor",
        label=7,
        category=_ABNORMAL,
        type=Code("108369006", "SCT", "Neoplasm"),
        color=(0, 0, 255),
        anatomic_region=_LIVER,
    ),
    Target(
        name="lesion",
        label=1,
        category=_ABNORMAL,
        type=Code("52988006", "SCT", "Lesion"),
        color=(1, 2, 3),
    ),
)


@pytest.fixture
def seg() -> SimpleNamespace:
    """Functions that make records of images, masks and segmentations, and read these again."""
    return SimpleNamespace(
        sha256=SEG_SHA256,
        targets=SEG_TARGETS,
        record=record,
        stack=save_and_record,
        drawn=drawn,
        scattered=scattered,
        made=made,
        saved=saved,
        changed=changed,
        bytes_of=bytes_of,
        reopened=reopened,
        as_stored=as_stored,
        decoded=decoded,
    )


def record(path: Path) -> Image:
    """The record of the one volume at a path, as the loader makes it, without pixels."""
    (volume,) = find_volumes(path).volumes
    return Image(
        path=str(path),
        name=volume.name,
        modality="ct",
        grid=volume.grid,
        sources=tuple(piece.source for piece in volume.slices),
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
    )


@pytest.fixture
def stack(tmp_path: Path) -> Image:
    """The record of a stack of five slices, saved in a folder of their own."""
    (tmp_path / "in").mkdir()
    return save_and_record(tmp_path / "in", 5)


def save_and_record(folder: Path, count: int, **changes: Any) -> Image:
    """The record of a stack that is saved first."""
    save_stack(folder, count, **changes)
    return record(folder)


def drawn(data: st.DataObject, folder: Path) -> tuple[Image, list[Dataset]]:
    """The record and the headers of a stack that lies, lacks slices and is named as drawn."""
    count = data.draw(st.integers(1, 7))
    kept = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    names = data.draw(st.permutations(range(count)))
    turn = Rotation.from_rotvec(data.draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3)))
    across, down, normal = turn.as_matrix()
    gap = data.draw(st.sampled_from([-2.5, 0.7, 3.0]))
    headers = []
    for number in kept:
        stated = make_dataset(
            number,
            ImagePositionPatient=(gap * number * normal).round(6).tolist(),
            ImageOrientationPatient=[*across.round(9), *down.round(9)],
        )
        save(stated, folder / f"{names[number]}.dcm")
        headers.append(stated)
    return record(folder), headers


def scattered(image: Image, count: int = 1, seed: int = 0) -> np.ndarray:
    """Masks without any symmetry, one for each target."""
    shape = (count, *image.grid.shape)
    return (np.random.default_rng(seed).random(shape) > 0.6).astype(np.uint8)


def made(image: Image, masks: Any, targets: Any = SEG_TARGETS[:1], **options: Any) -> Dataset:
    """The segmentation of masks that are not all empty."""
    dataset = build_segmentation(
        image, masks, targets, weights_sha256=SEG_SHA256, version="1.2.3", **options
    )
    assert dataset is not None
    return dataset


def saved(dataset: Dataset, path: Path) -> Path:
    path.write_bytes(bytes_of(dataset))
    return path


def changed(dataset: Dataset, path: Path, **attributes: Any) -> Path:
    """Save an object with attributes that it should not have; None leaves one out."""
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return saved(dataset, path)


def bytes_of(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    write_segmentation(dataset, file)
    return file.getvalue()


def reopened(dataset: Dataset) -> hd.seg.Segmentation:
    """The object as highdicom reads its file."""
    return hd.seg.segread(io.BytesIO(bytes_of(dataset)))


def as_stored(mask: np.ndarray, image: Image) -> np.ndarray:
    """A mask in the order of its images: ``(frames, rows, columns)``."""
    if mask.ndim == 2:
        return mask[None]
    return mask.transpose(2, 1, 0) if image.grid.is_positioned else mask.transpose(2, 0, 1)


def decoded(segmentation: hd.seg.Segmentation, image: Image, **options: Any) -> np.ndarray:
    """What highdicom finds for each source: ``(targets, frames, rows, columns)``."""
    if image.sources[0].frame is None:
        pixels = segmentation.get_pixels_by_source_instance(
            [source.sop_instance_uid for source in image.sources],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
            **options,
        )
    else:
        pixels = segmentation.get_pixels_by_source_frame(
            image.sources[0].sop_instance_uid,
            [source.frame for source in image.sources],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
            **options,
        )
    return np.moveaxis(pixels, -1, 0)
