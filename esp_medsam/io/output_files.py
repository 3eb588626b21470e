"""List and write the image files of one result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esp_medsam.image import Image, check_on_grid
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.io.label_names import label_extension
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.nifti_header import geometry_of
from esp_medsam.io.output_formats import ENDINGS
from esp_medsam.io.picture_file import write_gray_png, write_labelmap_png
from esp_medsam.modality import Target
from esp_medsam.transforms.label_map import mask_of


class OutputFile(NamedTuple):
    """One file of a result.

    Attributes:
        path: Path to write to.
        kind: ``"labelmap"``, ``"mask"`` or ``"probability"``.
        place: Index of its target; None for the labelmap, which holds all targets.
    """

    path: Path
    kind: str
    place: int | None = None


def plan_files(
    stem: Path,
    output_formats: Sequence[str],
    targets: Sequence[Target],
    *,
    split_targets: bool,
    probabilities: bool,
) -> list[OutputFile]:
    """Return the files of a result, format by format, the labelmap first.

    Args:
        stem: Common beginning of their paths.
        output_formats: Keys of :data:`ENDINGS`.
        targets: The chosen targets.
        split_targets: Whether each target has a mask of its own.
        probabilities: Whether each target has a probability file.
    """
    files = []
    for ending in (ENDINGS[name] for name in output_formats):
        files.append(OutputFile(stem.with_name(f"{stem.name}{ending}"), "labelmap"))
        for place, target in enumerate(targets):
            own = f"{stem.name}_{target.name}"
            if split_targets:
                files.append(OutputFile(stem.with_name(f"{own}{ending}"), "mask", place))
            if probabilities:
                path = stem.with_name(f"{own}_probability{ending}")
                files.append(OutputFile(path, "probability", place))
    return files


def write_file(
    file: OutputFile,
    image: Image,
    targets: Sequence[Target],
    *,
    labelmap: Tensor,
    probability: Tensor | None,
    seg: SegOptions,
    root: Path | None = None,
) -> bool:
    """Write one file of a result on the grid of its image.

    Args:
        file: What to write, and where.
        image: Record of the input.
        targets: The chosen targets.
        labelmap: uint8 ``(1, *spatial)``.
        probability: uint8 ``(T, *spatial)``; only the labelmap can be written without it.
        seg: How DICOM-SEG is written.
        root: Folder above it, below which no link is followed; None means the file's own folder.

    Returns:
        Whether it was written: an empty DICOM-SEG is written only on request.

    Raises:
        GeometryError: If the arrays are not on the grid of the image.
        OutputError: If the file cannot be written.
    """
    if file.path.name.endswith(ENDINGS["dicom-seg"]):
        return _write_seg(file, image, targets, labelmap, probability, seg, root)
    shown: Sequence[tuple[int, Target]]
    if file.place is None:
        values, shown = labelmap[0], [(target.label, target) for target in targets]
    else:
        if probability is None:
            msg = f"{file.path.name} needs the probability of its target, which is missing."
            raise KeyError(msg)
        values, target = probability[file.place], targets[file.place]
        shown = [(1, target)]
        if file.kind == "mask":
            values, _ = mask_of(values, target, image.grid.cleaned_ml)
    check_on_grid(image, values.shape)
    array = _as_uint8(values)
    if file.path.name.endswith(ENDINGS["nifti"]):
        _write_nifti(file, array, image, shown, root)
    elif file.kind == "probability":
        write_gray_png(file.path, array, root)
    else:
        colors = {label: target.color for label, target in shown}
        write_labelmap_png(file.path, array, colors, root)
    return True


def _write_seg(
    file: OutputFile,
    image: Image,
    targets: Sequence[Target],
    labelmap: Tensor,
    probability: Tensor | None,
    seg: SegOptions,
    root: Path | None,
) -> bool:
    """Write one DICOM-SEG: with all targets as requested, or with only one."""
    if file.place is not None:
        targets = [targets[file.place]]
        seg = replace(
            seg,
            kind="binary" if file.kind == "mask" else "fractional",
            settings={**seg.settings, "file": f"{file.kind} {targets[0].name}"},
        )
        probability = None if probability is None else probability[file.place, None]
    masks: Iterator[npt.NDArray[np.uint8]]
    if seg.kind == "labelmap":
        masks = iter([_as_uint8(labelmap[0])])
    elif seg.kind == "binary" and file.place is None:
        # As in every other format, overlaps are settled; whole targets have their own files.
        masks = (_as_uint8(labelmap[0] == target.label) for target in targets)
    elif probability is None:
        msg = f"{file.path.name} needs the probabilities of its targets, which are missing."
        raise KeyError(msg)
    elif seg.kind == "fractional":
        masks = (_as_uint8(values) for values in probability)
    else:
        masks = (
            _as_uint8(mask_of(values, target, image.grid.cleaned_ml)[0])
            for values, target in zip(probability, targets, strict=True)
        )
    return write_dicom_seg(file.path, image, masks, targets, seg, root)


def _as_uint8(values: Tensor) -> npt.NDArray[np.uint8]:
    array: npt.NDArray[Any] = values.numpy()
    return array.view(np.uint8) if array.dtype == np.bool_ else array.astype(np.uint8, copy=False)


def _write_nifti(
    file: OutputFile,
    array: npt.NDArray[np.uint8],
    image: Image,
    shown: Sequence[tuple[int, Target]],
    root: Path | None,
) -> None:
    geometry = image.nifti_geometry
    if not image.grid.is_volume:
        array = array.T  # NIfTI's first axis runs along a row, a picture's down the rows
    elif geometry is None:
        assert image.grid.affine is not None, "the saver checked"
        geometry = geometry_of(image.grid.affine)
    if image.file_shape is not None:
        array = array.reshape(image.file_shape)
    is_probability = file.kind == "probability"
    write_nifti(
        file.path,
        array,
        geometry=geometry,
        extension=b"" if is_probability else label_extension(shown),
        slope=1 / 255 if is_probability else 1.0,
        root=root,
    )
