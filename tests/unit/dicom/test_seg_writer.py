from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset

from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.seg_writer import build_segmentation, write_segmentation
from esp_medsam.image import Image
from esp_medsam.modality import Code, Target


SHA = "5e" * 32
LIVER = Target(
    name="liver",
    label=3,
    category=Code("91723000", "SCT", "Anatomical Structure"),
    type=Code("10200004", "SCT", "Liver"),
    color=(221, 130, 101),
)
TUMOR = Target(
    name="tumor",
    label=7,
    category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    type=Code("108369006", "SCT", "Neoplasm"),
    color=(0, 0, 255),
    anatomic_region=Code("10200004", "SCT", "Liver"),
)
LESION = Target(
    name="lesion",
    label=1,
    category=TUMOR.category,
    type=Code("52988006", "SCT", "Lesion"),
    color=(1, 2, 3),
)
TARGETS = (LIVER, TUMOR, LESION)


def record(path: Path, **changes: Any) -> Image:
    """The record of the one volume at a path, as the loader makes it, without pixels."""
    (volume,) = find_volumes(path).volumes
    attributes: dict[str, Any] = {
        "path": str(path),
        "name": volume.name,
        "modality": "ct",
        "spatial_shape": volume.spatial_shape,
        "affine": volume.geometry.affine,
        "slice_affines": volume.geometry.slice_affines,
        "stack_axis": volume.geometry.stack_axis,
        "pixel_spacing": volume.geometry.pixel_spacing,
        "sources": tuple(piece.source for piece in volume.slices),
        "study_uid": volume.study_uid,
        "series_uid": volume.series_uid,
        **changes,
    }
    return Image(**attributes)


def scattered(image: Image, count: int = 1, seed: int = 0) -> np.ndarray:
    """Masks without any symmetry, one for each target."""
    shape = (count, *image.spatial_shape)
    return (np.random.default_rng(seed).random(shape) > 0.6).astype(np.uint8)


def made(image: Image, masks: Any, targets: Any = (LIVER,), **options: Any) -> Dataset:
    dataset = build_segmentation(
        image, masks, targets, weights_sha256=SHA, version="1.2.3", **options
    )
    assert dataset is not None
    return dataset


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
    return mask.transpose(2, 1, 0) if image.slice_affines is not None else mask.transpose(2, 0, 1)


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


class TestPixels:
    def test_of_a_stack_are_those_of_each_slice(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 3)
        image = record(tmp_path)
        masks = scattered(image, 3)

        found = decoded(reopened(made(image, masks, TARGETS)), image)

        for expected, actual in zip(masks, found, strict=True):
            np.testing.assert_array_equal(actual, as_stored(expected, image))
        assert found.shape == (3, 3, 4, 6)
