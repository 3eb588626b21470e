"""DICOM segmentations, the images that they are of, and what others read of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]  # ships no types

from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.seg.write.writer import build_segmentation, write_segmentation
from esp_medsam.image import Image
from esp_medsam.modality import Code, Target
from tests.support.dicom_files import make_dataset, save, save_stack


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
    axes = (2, 1, 0) if image.grid.is_positioned else (2, 0, 1)
    return mask.reshape(1, *mask.shape) if mask.ndim == 2 else mask.transpose(axes)


def decoded(segmentation: hd.seg.Segmentation, image: Image, **options: Any) -> np.ndarray:
    """What highdicom finds for each source: ``(targets, frames, rows, columns)``."""
    options |= {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    if image.sources[0].frame is None:
        uids = [source.sop_instance_uid for source in image.sources]
        pixels = segmentation.get_pixels_by_source_instance(uids, **options)
    else:
        frames = [source.frame for source in image.sources if source.frame is not None]
        uid = image.sources[0].sop_instance_uid
        pixels = segmentation.get_pixels_by_source_frame(uid, frames, **options)
    found: np.ndarray = np.moveaxis(pixels, -1, 0)
    return found
