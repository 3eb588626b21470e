"""A stack of CT slices, segmentations of it, runs on pictures, and items to learn from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from esp_medsam.image import Image
from esp_medsam.io import settle_modality
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.segment import SegmentRun
from tests.support.nifti import save_nifti
from tests.support.segmentation import build_bright_run
from tests.support.shipped_dicom import copy_stack


@pytest.fixture
def write_stack() -> Callable[..., Path]:
    """Return a function that writes a slice that ships inside pydicom as a stack."""
    return copy_stack


@pytest.fixture
def ct_stack(write_stack: Callable[..., Path], tmp_path: Path, table: ModalityTable) -> Image:
    """Five slices, in the folder ``ct``."""
    folder = write_stack(tmp_path / "ct", [0, 2, 4, 6, 8])
    return settle_modality(read(folder), "ct", table)


@pytest.fixture
def write_seg(ct_stack: Image, table: ModalityTable, tmp_path: Path) -> Callable[..., np.ndarray]:
    """Return a function that writes a segmentation of two targets and returns their masks."""

    def write(name: str, kind: str = "binary", *, overlap: bool = False) -> np.ndarray:
        masks = np.zeros((2, *ct_stack.grid.shape), np.uint8)
        masks[0, 3:9, 5:8, 1:3] = masks[1, 20:40, 7:9, 2:4] = 1
        masks[1, 3, 5, 1] = overlap
        if kind == "fractional":
            masks *= np.array([200, 128], np.uint8)[:, None, None, None]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        targets = table.select("ct", ["liver", "kidney"])
        given = masks
        if kind == "labelmap":
            given = sum(m * t.label for m, t in zip(masks, targets, strict=True))[None]
            given = given.astype(np.uint8)
        assert write_dicom_seg(path, ct_stack, given, targets, SegOptions(kind=kind))
        return masks

    return write


@pytest.fixture
def build_segmentation(tmp_path: Path, table: ModalityTable) -> Callable[..., SegmentRun]:
    """Return a function that builds a run, as ``build_bright_run`` does, from in/ to out/."""
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.pt").write_bytes(b"weights")
    return partial(build_bright_run, tmp_path, table)


@pytest.fixture
def photograph(tmp_path: Path) -> dict[str, Any]:
    """A red square on black, 40 rows by 20 columns, and its mask."""
    image, mask = np.zeros((40, 20, 3), np.uint8), np.zeros((40, 20), np.uint8)
    image[10:20, 5:10, 0], mask[10:20, 5:10] = 255, 255
    PILImage.fromarray(image).save(tmp_path / "a.png")
    PILImage.fromarray(mask).save(tmp_path / "a_mask.png")
    return {"image": "a.png", "modality": "dermoscopy", "labels": {"lesion": "a_mask.png"}}


@pytest.fixture
def volume(tmp_path: Path) -> dict[str, Any]:
    """A CT in HU of three axial slices; the liver is brighter and lies to the patient's right."""
    hounsfield, label = np.full((32, 32, 3), -1000, np.int16), np.zeros((32, 32, 3), np.uint8)
    hounsfield[20:28, 8:16, :], label[20:28, 8:16, :] = 240, 1
    affine = np.diag([1.0, 1.0, 5.0, 1.0])  # the first axis runs to the patient's right
    save_nifti(tmp_path / "v.nii.gz", hounsfield, affine)
    save_nifti(tmp_path / "v_label.nii.gz", label, affine)
    return {
        "image": "v.nii.gz",
        "modality": "ct",
        "labels": {"liver": ["v_label.nii.gz"]},
        "absent": ["intracranial_hemorrhage"],
    }
