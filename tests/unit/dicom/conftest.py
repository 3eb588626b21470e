"""Synthetic DICOM files, small and whole, which tests damage; segmentations of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from esp_medsam.image import Image
from tests.support import dicom_files, dicom_seg, dicom_volumes
from tests.support.shipped_dicom import copy_shipped


@pytest.fixture
def dicom(shipped: Callable[[str], Path]) -> SimpleNamespace:
    """Functions that make data sets and files, also such as pydicom would not write."""
    return SimpleNamespace(
        dataset=dicom_files.make_dataset,
        picture=dicom_files.make_picture,
        enhanced=dicom_files.make_enhanced,
        item=dicom_files.make_item,
        save=dicom_files.save,
        save_stack=dicom_files.save_stack,
        with_text=dicom_files.with_text,
        raw_element=dicom_files.raw_element,
        shipped=shipped,
        volume_of=dicom_volumes.volume_of,
        refusal=dicom_volumes.refusal,
    )


@pytest.fixture
def write_shipped(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes CT_small, or another file, changed; None takes away."""
    return lambda name="a.dcm", **changes: copy_shipped(tmp_path / name, **changes)


@pytest.fixture
def seg() -> SimpleNamespace:
    """Functions that make records of images, masks and segmentations, and read these again."""
    return SimpleNamespace(
        sha256=dicom_seg.SEG_SHA256,
        targets=dicom_seg.SEG_TARGETS,
        record=dicom_seg.record,
        stack=dicom_seg.save_and_record,
        drawn=dicom_seg.drawn,
        scattered=dicom_seg.scattered,
        made=dicom_seg.made,
        saved=dicom_seg.saved,
        changed=dicom_seg.changed,
        bytes_of=dicom_seg.bytes_of,
        reopened=dicom_seg.reopened,
        as_stored=dicom_seg.as_stored,
        decoded=dicom_seg.decoded,
    )


@pytest.fixture
def stack(tmp_path: Path) -> Image:
    """The record of a stack of five slices, saved in a folder of their own."""
    return dicom_seg.save_and_record(tmp_path / "in", 5)
