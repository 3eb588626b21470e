"""Small volumes, the files that hold them, and what the pipeline hands to the saver."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from esp_medsam.image import SEGMENTATION_KEY, Segmentation
from esp_medsam.io import LoadMedicalImaged, ResultPlanner, SaveSegmentationd
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable


@pytest.fixture
def volume() -> np.ndarray:
    """``(2, 3, 4)`` int16, every voxel a number of its own, some below zero."""
    return np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 5


@pytest.fixture
def series() -> np.ndarray:
    """``(2, 3, 4, 5)`` int16: five volumes."""
    return np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that a record names as its input."""
    (tmp_path / "in.nii").write_bytes(b"image")
    return tmp_path / "in.nii"


@pytest.fixture
def stated_affine() -> np.ndarray:
    """The affine to RAS+ that ``write_nrrd`` and ``write_mha`` state where a test does not."""
    return np.array([[-1.0, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


@pytest.fixture
def write_nrrd(tmp_path: Path, volume: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes an array as NRRD, header fields by name; None leaves out."""

    def write(
        array: np.ndarray = volume,
        data: bytes | None = None,
        name: str | None = None,
        **fields: str | None,
    ) -> Path:
        spelled = {field.replace("_", " "): value for field, value in fields.items()}
        content = array.tobytes(order="F") if data is None else data
        path = tmp_path / (name or f"{len(list(tmp_path.iterdir()))}_a.nrrd")
        path.write_bytes(_nrrd_text(array, spelled) + content)
        return path

    return write


@pytest.fixture
def write_mha(tmp_path: Path, volume: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes an array as MetaImage, as ``write_nrrd`` does."""

    def write(
        array: np.ndarray = volume,
        data: bytes | None = None,
        name: str | None = None,
        channels: int = 1,
        **fields: str | None,
    ) -> Path:
        content = array.tobytes(order="F") if data is None else data
        path = tmp_path / (name or f"{len(list(tmp_path.iterdir()))}_a.mha")
        path.write_bytes(_mha_text(array, fields, channels) + content)
        return path

    return write


@pytest.fixture
def patched() -> Callable[..., Path]:
    """Return a function that packs numbers into an uncompressed file, from a byte on."""

    def patch(path: Path, offset: int, fmt: str, *values: Any) -> Path:
        content = bytearray(path.read_bytes())
        struct.pack_into(fmt, content, offset, *values)
        path.write_bytes(content)
        return path

    return patch


def _nrrd_text(array: np.ndarray, fields: Mapping[str, str | None]) -> bytes:
    names = {"<i2": "short", "|u1": "uchar", "<f4": "float", "<i8": "int64", "|i1": "int8"}
    stated: dict[str, str | None] = {
        "type": names.get(array.dtype.str, "double"),
        "dimension": str(array.ndim),
        "sizes": " ".join(map(str, array.shape)),
        "encoding": "raw",
        "endian": "little",
        "space": "left-posterior-superior",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "space origin": "(10,20,30)",
    }
    stated |= fields
    lines = [f"{name}: {value}" for name, value in stated.items() if value is not None]
    return "\n".join(["NRRD0005", "# made by a test", *lines, "", ""]).encode()


def _mha_text(array: np.ndarray, fields: Mapping[str, str | None], channels: int) -> bytes:
    names = {"<i2": "MET_SHORT", "|u1": "MET_UCHAR", "<f4": "MET_FLOAT", "<i8": "MET_LONG_LONG"}
    shape = array.shape if channels == 1 else array.shape[1:]
    axes = len(shape)
    stated: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": str(axes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": " ".join(str(int(i)) for i in np.eye(axes).ravel()),
        "Offset": " ".join(["10", "20", "30", "0"][:axes]),
        "ElementSpacing": " ".join(["1", "2", "3", "1"][:axes]),
        "DimSize": " ".join(map(str, shape)),
        "ElementNumberOfChannels": str(channels) if channels > 1 else None,
        "ElementType": names[array.dtype.str],
        **fields,
    }
    stated["ElementDataFile"] = stated.pop("ElementDataFile", "LOCAL")  # always the last
    lines = [f"{name} = {value}" for name, value in stated.items() if value is not None]
    return "\n".join([*lines, ""]).encode()


@pytest.fixture
def scan(write_volume: Callable[..., Path]) -> Path:
    """``(5, 6, 4)`` air, along no axis of the patient in order."""
    affine = np.array([[0, 0, 2.0, 1], [-3, 0, 0, 2], [0, 4, 0, 3], [0, 0, 0, 1]])
    return write_volume(np.zeros((5, 6, 4), np.int16) - 1000, affine, "scan.nii.gz")


@pytest.fixture
def result(table: ModalityTable) -> Callable[..., dict[str, Any]]:
    """Return a function that makes what the pipeline hands to the saver: targets that overlap."""

    def make(path: Path, modality: str = "ct", **item: Any) -> dict[str, Any]:
        load = LoadMedicalImaged("image", table=table, modality=modality)
        image = load({"image": replace(Item.of_file(path), **item)})["image"]
        probability = torch.zeros(2, *image.shape[1:], dtype=torch.uint8)
        probability[0, :3] = 200
        probability[1, 2:4] = 220
        labels = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
        labels[0, :3] = 2
        labels[0, 2:4] = 4
        segmentation = Segmentation(
            targets=("kidney", "kidney_tumor"), confidence=(0.875, None), warnings=("beware",)
        )
        if modality != "ct":
            name = table[modality].targets[0].name
            segmentation = Segmentation(targets=(name,), confidence=(0.9,))
            probability, labels = probability[:1], (labels > 0).to(torch.uint8)
        meta = {**image.meta, SEGMENTATION_KEY: segmentation}
        return {
            "image": image,
            "pred": MetaTensor(labels, meta=meta),
            "probability": MetaTensor(probability, meta=meta),
        }

    return make


@pytest.fixture
def saver(table: ModalityTable, tmp_path: Path) -> Callable[..., SaveSegmentationd]:
    """Return a function that makes a saver which writes into ``out``."""

    def make(**options: Any) -> SaveSegmentationd:
        outputs = ResultPlanner(output_dir=tmp_path / "out", table=table, **options)
        return SaveSegmentationd("pred", outputs=outputs)

    return make


@pytest.fixture
def names(tmp_path: Path) -> Callable[[], list[str]]:
    """Return a function that lists the files that are in ``out``."""
    out = tmp_path / "out"
    return lambda: sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
