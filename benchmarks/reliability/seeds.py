"""Small intact files of each kind, from which damaged copies are made."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom.data
import SimpleITK as sitk  # noqa: N813  # the usual name
import torch
import yaml
from PIL import Image as Picture
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import build_segmentation, find_volumes, write_segmentation
from esp_medsam.image import Image
from esp_medsam.modality import ModalityTable


TABLE = Path(__file__).parents[2] / "bundle" / "configs" / "targets.yaml"

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"

RANDOM = np.random.default_rng(0)


def nifti(folder: Path) -> list[Path]:
    """Make NIfTI 1 and 2 files, compressed and not, scaled and of many types."""
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    made = []
    for name, dtype, kind in (
        ("int16.nii", np.int16, nib.Nifti1Image),
        ("uint8.nii.gz", np.uint8, nib.Nifti1Image),
        ("float32.nii.gz", np.float32, nib.Nifti1Image),
        ("second.nii", np.int16, nib.Nifti2Image),
        ("times.nii.gz", np.int16, nib.Nifti1Image),
    ):
        shape = (9, 8, 7, 1) if "times" in name else (9, 8, 7)
        image = kind(RANDOM.integers(0, 99, shape).astype(dtype), affine)
        if dtype == np.float32:
            image.header.set_slope_inter(0.5, 3)
        nib.save(image, folder / name)
        made.append(folder / name)
    return made


def raster(folder: Path) -> list[Path]:
    """Make PNG, JPEG, TIFF and BMP files, in gray and color, of 8 and 16 bits."""
    gray = RANDOM.integers(0, 255, (24, 31)).astype(np.uint8)
    pictures = {
        "L": Picture.fromarray(gray),
        "RGB": Picture.fromarray(np.stack([gray, gray // 2, 255 - gray], -1)),
        "P": Picture.fromarray(gray).convert("P"),
        "RGBA": Picture.fromarray(gray).convert("RGBA"),
        "I;16": Picture.fromarray(gray.astype(np.uint16) * 200),
    }
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("png", "L", {}), ("png", "RGB", {}), ("png", "P", {}), ("png", "RGBA", {}),
        ("png", "I;16", {}), ("jpg", "L", {}), ("jpg", "RGB", {}),
        ("jpeg", "RGB", {"progressive": True}), ("jpg", "L", {"restart_marker_rows": 1}),
        ("tif", "L", {}), ("tif", "I;16", {}), ("tif", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "RGB", {"compression": "tiff_deflate"}), ("tif", "RGB", {"compression": "jpeg"}),
        ("tif", "P", {}), ("bmp", "L", {}), ("bmp", "RGB", {}),
    )  # fmt: skip
    made = []
    for number, (suffix, mode, options) in enumerate(kinds):
        made.append(folder / f"{number}.{suffix}")
        pictures[mode].save(made[-1], **options)
    return made


def itk(folder: Path) -> list[Path]:
    """Make NRRD and MetaImage files, compressed and not, with their data inside or beside them."""
    image = sitk.GetImageFromArray(RANDOM.integers(-50, 50, (7, 8, 9)).astype(np.int16))
    image.SetSpacing((1.0, 1.5, 2.0))
    made = []
    for name in ("a.nrrd", "b.nrrd", "c.mha", "d.mha", "e.mhd", "f.nhdr"):
        sitk.WriteImage(image, str(folder / name), useCompression=name[0] in "bd")
        made.append(folder / name)
    return made


def dicom(folder: Path) -> list[Path]:
    """Make DICOM files: those that pydicom ships, and cines, enhanced and deflated ones."""
    names = (
        "CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit",
        "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_dcmtk",
        "SC_rgb_jpeg_gdcm", "SC_rgb_rle_2frame", "SC_rgb_small_odd",
        "SC_ybr_full_422_uncompressed", "image_dfl", "693_J2KI", "ExplVR_BigEnd",
    )  # fmt: skip
    made = []
    for name in names:
        (folder / f"{name}.dcm").write_bytes((SHIPPED / f"{name}.dcm").read_bytes())
        made.append(folder / f"{name}.dcm")
    jpeg, j2k = (_encoded(kind) for kind in ("JPEG", "JPEG2000"))
    cine = {"NumberOfFrames": 3, "Modality": "US", "ImagePositionPatient": None}
    for name, syntax, dataset in (
        ("slice", ImplicitVRLittleEndian, a_slice()),
        ("deflated", DeflatedExplicitVRLittleEndian, a_slice()),
        ("enhanced", ExplicitVRLittleEndian, enhanced()),
        ("cine", JPEGBaseline8Bit, a_slice(PixelData=encapsulate([jpeg] * 3), **cine)),
        ("cine_2000", JPEG2000Lossless, a_slice(PixelData=encapsulate([j2k] * 3), **cine)),
    ):
        made.append(save(dataset, folder / f"{name}.dcm", syntax))
    return made


def seg(folder: Path) -> list[Path]:
    """Make DICOM Segmentations of each kind, ours and one by dcmqi."""
    for number in range(3):
        save(a_slice(number), folder / f"{number}.dcm", ExplicitVRLittleEndian)
    (volume,) = find_volumes(folder).volumes
    image = Image(
        path=str(folder),
        name=volume.name,
        modality="ct",
        grid=volume.grid,
        sources=tuple(piece.source for piece in volume.slices),
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
    )
    targets = ModalityTable.read(TABLE)["ct"].targets[:2]
    masks = RANDOM.integers(0, 2, (2, *volume.grid.shape)).astype(np.uint8)
    made = []
    for kind in ("binary", "fractional", "labelmap"):
        content = masks * (200 if kind == "fractional" else 1)
        labels = [masks[0] * targets[0].label] if kind == "labelmap" else content
        dataset = build_segmentation(image, labels, targets, kind=kind)
        assert dataset is not None, "the masks are not empty"
        made.append(folder / f"{kind}.dcm")
        with made[-1].open("wb") as file:
            write_segmentation(dataset, file)
    dataset = dcmread(SHIPPED / "liver_1frame.dcm")
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:1]
    dataset.save_as(folder / "liver.dcm")
    return [*made, folder / "liver.dcm"]


def checkpoint(folder: Path) -> list[Path]:
    """Make state dicts, plain and wrapped, in torch's current and old formats."""
    state = {f"layer{k}.weight": torch.arange(6.0).reshape(2, 3) + k for k in range(4)}
    torch.save(state, folder / "plain.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "wrapped.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    return [folder / name for name in ("plain.pt", "wrapped.pt", "old.pt")]


def tables(folder: Path) -> list[Path]:
    """Make the table of modalities, as shipped and as rewritten by YAML."""
    (folder / "shipped.yaml").write_bytes(TABLE.read_bytes())
    written = yaml.safe_dump(yaml.safe_load(TABLE.read_text(encoding="utf-8")))
    (folder / "written.yaml").write_text(written, encoding="utf-8")
    return [folder / "shipped.yaml", folder / "written.yaml"]


def records(folder: Path) -> list[Path]:
    """Make a datalist, and the record of a result."""
    item = {"image": "a.png", "modality": "ct", "dataset": "a", "labels": {"liver": ["b.png"]}}
    (folder / "datalist.json").write_text(json.dumps({"training": [item], "test": [item]}))
    record = {
        "software": "esp-medsam 0", "schema": 1, "modality": "ct", "formats": ["nifti"],
        "source": {"path": "a.nii", "bytes": 3, "modified_ns": 4}, "files": ["a_seg.nii.gz"],
        "targets": [{"name": "liver", "label": 1, "confidence": 0.5}], "settings": {"fill": True},
        "weights_sha256": "5e", "warnings": [],
    }  # fmt: skip
    (folder / "a_seg.json").write_text(json.dumps(record, indent=2))
    return [folder / "datalist.json", folder / "a_seg.json"]


SEEDS: dict[str, Callable[[Path], list[Path]]] = {
    "nifti": nifti,
    "raster": raster,
    "itk": itk,
    "dicom": dicom,
    "seg": seg,
    "checkpoint": checkpoint,
    "yaml": tables,
    "json": records,
}
"""Functions that make the intact files of each reader in a folder."""


def a_slice(number: int = 0, **changes: Any) -> Dataset:
    """Return a slice of an evenly spaced stack, or a cine if the Modality is US."""
    attributes: dict[str, Any] = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": f"1.2.3.{number + 1}",
        "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.9",
        "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "InstanceNumber": number,
        "ImagePositionPatient": [0, 0, 2.0 * number], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75], "RescaleSlope": 1, "RescaleIntercept": -1024,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": 16,
        "Columns": 20, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
        "PixelData": bytes(range(160)) * 2, **changes,
    }  # fmt: skip
    if attributes.get("Modality") == "US":
        attributes["SOPClassUID"] = UltrasoundMultiFrameImageStorage
    dataset = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def enhanced(frames: int = 6) -> Dataset:
    """Return an enhanced MR whose sequence of frames has an undefined length."""

    def item(**attributes: Any) -> Dataset:
        made = Dataset()
        for keyword, value in attributes.items():
            setattr(made, keyword, Sequence([value]) if isinstance(value, Dataset) else value)
        return made

    groups = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=[0, 0, 2.0 * k]),
            FrameContentSequence=item(StackID="1", DimensionIndexValues=[1, k]),
            MREchoSequence=item(EffectiveEchoTime=10.0),
        )
        for k in range(frames)
    ]
    shared = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=2),
    )
    dataset = a_slice(
        Modality="MR",
        NumberOfFrames=frames,
        PixelData=bytes(320 * frames),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    return dataset


def _encoded(kind: str) -> bytes:
    file = io.BytesIO()
    options = {"no_jp2": True} if kind == "JPEG2000" else {}
    Picture.fromarray(RANDOM.integers(0, 99, (16, 20)).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def save(dataset: Dataset, path: Path, syntax: str) -> Path:
    """Save a data set, and return its path."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if UID(syntax).is_encapsulated:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path
