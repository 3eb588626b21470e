"""DICOM Segmentations as NIfTI: a labelmap, or a mask for each segment, and what they are."""

from __future__ import annotations

import colorsys
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom import (
    DicomSegmentation,
    SegSegment,
    is_dicom,
    is_segmentation,
    read_segmentation,
)
from esp_medsam.errors import (
    EmptyInputError,
    EspMedSamError,
    GeometryError,
    InputNotFoundError,
    NameClashError,
    OutputError,
    OutputExistsError,
)
from esp_medsam.identity import sha256_of
from esp_medsam.io.like import Grid, Like
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.nifti_header import geometry_of
from esp_medsam.io.output_files import label_extension
from esp_medsam.workflows.items import count_others
from esp_medsam.workflows.seg2nifti_record import KIND, agrees, read_record, stale, write_record
from esp_medsam.workflows.segment import SegmentResult, failure


@dataclass(frozen=True)
class _Shown:
    """Name and color of a label value."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class _Item:
    """One segmentation file, and where what is made of it goes, without an ending."""

    path: Path
    stem: Path


class Seg2Nifti:
    """Convert DICOM Segmentations one by one; one that fails does not end the run.

    Of each, ``<OUT>/<relative folder>/<name>.nii.gz`` holds the segment numbers, and
    ``<name>.json``, written last, says what they are. Each segment has a file of its own,
    ``<name>_segment<number>.nii.gz``, with ``split_segments``, and where they are fractional.

    Args:
        source: A file, or a folder, searched in depth.
        output: Folder that the files go to.
        like: NIfTI file, DICOM file or folder whose grid outputs take; None takes the planes of
            the segments, from the first to the last.
        split_segments: Whether each segment has a file of its own, which they need to overlap.
        overwrite: Whether existing files may be replaced.

    Attributes:
        others: Files that are no segmentations.

    Raises:
        InputNotFoundError: If ``source`` or ``like`` does not exist.
        EmptyInputError: If there is no segmentation.
        EspMedSamError: If ``like`` cannot be read.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        like: str | os.PathLike[str] | None = None,
        split_segments: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.split_segments = split_segments
        self.overwrite = overwrite
        self.others: list[Path] = []
        self._like_path = None if like is None else os.fspath(like)
        self._refused: list[tuple[Path, EspMedSamError]] = []
        self._items = self._find(Path(source), Path(output))
        self._like = None if like is None else Like(like)

    @property
    def left_alone(self) -> str:
        """What is no segmentation, in one line; empty where there is nothing else."""
        return count_others(self.others) if self.others else ""

    def __len__(self) -> int:
        """Return the number of results there will be."""
        return len(self._items) + len(self._refused)

    def results(self) -> Iterator[SegmentResult]:
        """Convert all, and yield what became of each."""
        for item in self._items:
            try:
                result = self._convert(item)
            except Exception as error:  # one bad file never ends a run
                result = failure({"image": str(item.path)}, error)
            yield result
        for path, reason in self._refused:
            yield failure({"image": str(path)}, reason)

    def _find(self, source: Path, output: Path) -> list[_Item]:
        if not source.exists():
            msg = f"IN must be an existing file or folder; got {source}."
            raise InputNotFoundError(msg)
        if not source.is_dir():
            return [_Item(source, output / _name(source))]
        found: list[Path] = []
        for path in self._files(source):
            try:
                is_one = not path.name.startswith(".") and is_dicom(path) and is_segmentation(path)
            except EspMedSamError as error:
                self._refused.append((path, error))
                continue
            (found if is_one else self.others).append(path)
        if not found and not self._refused:
            what = self.left_alone or "nothing"
            msg = f"IN must hold at least one DICOM Segmentation; got {source} with {what}."
            raise EmptyInputError(msg)
        items = [_Item(p, output / p.parent.relative_to(source) / _name(p)) for p in found]
        rivals = Counter(str(item.stem).casefold() for item in items)
        for item in items:
            if rivals[str(item.stem).casefold()] > 1:
                msg = f"{item.path} must have an output name of its own; others share {item.stem}."
                self._refused.append((item.path, NameClashError(msg)))
        return [item for item in items if rivals[str(item.stem).casefold()] == 1]

    def _files(self, folder: Path) -> list[Path]:
        """Return all files below a folder; links to folders are not followed."""

        def unreadable(error: OSError) -> None:
            msg = f"A folder of the input must be readable; {error.filename} cannot be listed."
            self._refused.append((Path(str(error.filename)), EmptyInputError(msg)))

        return sorted(
            Path(parent, name)
            for parent, _, names in os.walk(folder, onerror=unreadable)
            for name in names
        )

    def _convert(self, item: _Item) -> SegmentResult:
        """Write the files of one segmentation, its record last."""
        segmentation, grid = self._placed(read_segmentation(item.path))
        made_with = self._made_with(item, segmentation, grid)
        record = item.stem.with_name(f"{item.stem.name}.json")
        previous = read_record(record)
        if previous is not None and not self.overwrite and agrees(previous, made_with, record):
            return SegmentResult(path=str(item.path), status="kept", record=str(record))
        files = self._files_of(item, segmentation)
        self._make_way([*files.values(), record])
        _remove(record)  # without it, what a crash leaves is no result
        voxels: dict[int, int] = {}
        with ExitStack() as undoing:  # of several files, the first go where a later one fails
            for number, array in _arrays(segmentation, list(files)):
                voxels |= _write(files[number], array, segmentation, grid, number)
                undoing.callback(_remove, files[number])
            for path in stale(previous, item.stem, files.values()):
                _remove(path)
            content = {
                **made_with,
                "fractional_type": segmentation.fractional_type or None,
                "files": [path.name for path in files.values()],
                "segments": [
                    {
                        **asdict(segment),
                        "file": files.get(segment.number, files.get(0, record)).name,
                        "voxels": voxels[segment.number],
                    }
                    for segment in segmentation.segments
                ],
                "warnings": list(segmentation.warnings),
            }
            write_record(record, content)
            undoing.pop_all()
        return SegmentResult(
            path=str(item.path), status="done", record=str(record), warnings=segmentation.warnings
        )

    def _made_with(
        self, item: _Item, segmentation: DicomSegmentation, grid: Grid | None
    ) -> dict[str, Any]:
        """Return what a record says a result was made of, and how."""
        geometry = segmentation.geometry if grid is None else grid.image
        return {
            "source": {
                "path": str(item.path),
                "sha256": sha256_of(item.path),
                "sop_instance_uid": segmentation.sop_instance_uid,
                "study_uid": segmentation.study_uid,
                "segmented_series": list(segmentation.source_series),
            },
            KIND: segmentation.kind.upper(),
            "like": self._like_path,
            "shape": list((segmentation if grid is None else grid.image).spatial_shape),
            "affine": np.asarray(geometry.affine).tolist(),
            "split_segments": self.split_segments,
        }

    def _placed(self, segmentation: DicomSegmentation) -> tuple[DicomSegmentation, Grid | None]:
        """Return the segmentation with its grid, and the grid to write on.

        Raises:
            GeometryError: If it has none.
        """
        grid = None
        if self._like is not None:
            grid = self._like.grid_for(segmentation)
            planes = segmentation.geometry.slice_affines
            step = None if planes is None else grid.spacing_along(planes[0][:3, 2])
            if step is not None:
                segmentation = segmentation.with_spacing(step)
        if segmentation.geometry.affine is None:
            msg = (
                f"{segmentation.path} must lie on an even grid, which is all that NIfTI can say: "
                f"{segmentation.problem} Open it in a DICOM viewer, or read it with "
                "esp_medsam.dicom.read_segmentation."
            )
            raise GeometryError(msg)
        return segmentation, grid

    def _files_of(self, item: _Item, segmentation: DicomSegmentation) -> dict[int, Path]:
        """Return files by the number of their segment; 0 stands for the labelmap of all."""
        name = item.stem.name
        if not self.split_segments and segmentation.kind != "fractional":
            return {0: item.stem.with_name(f"{name}.nii.gz")}
        return {
            segment.number: item.stem.with_name(f"{name}_segment{segment.number}.nii.gz")
            for segment in segmentation.segments
        }

    def _make_way(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.suffix == ".json" and path.exists() and read_record(path) is None:
                msg = f"{path} must be free; it is no record of seg2nifti. Move it, or change OUT."
                raise OutputExistsError(msg)
            if path.exists() and not self.overwrite:
                msg = f"{path} must be free; it exists. Pass --overwrite, or move it."
                raise OutputExistsError(msg)


def _arrays(
    segmentation: DicomSegmentation, numbers: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the mask of each segment, or for 0 the labelmap of all; a labelmap is decoded once."""
    labels = segmentation.labelmap() if segmentation.kind == "labelmap" or 0 in numbers else None
    for number in numbers:
        if labels is None:
            yield number, segmentation.mask(number)
        else:
            yield number, (labels == number).view(np.uint8) if number else labels


def _write(
    path: Path,
    array: npt.NDArray[Any],
    segmentation: DicomSegmentation,
    grid: Grid | None,
    number: int,
) -> dict[int, int]:
    """Write one file, of the segment of that number or of all; return voxels by segment."""
    by_number = {segment.number: segment for segment in segmentation.segments}
    affine = segmentation.geometry.affine
    assert affine is not None, "checked before"
    geometry = geometry_of(affine) if grid is None else grid.geometry
    if grid is not None:
        array = grid.take(array, affine)
    is_fraction = segmentation.kind == "fractional"
    shown = [(1, by_number[number])] if number else list(by_number.items())
    labels = [(value, _shown(segment)) for value, segment in shown]
    write_nifti(
        path,
        array,
        geometry=geometry,
        extension=b"" if is_fraction else label_extension(labels),
        slope=1 / segmentation.maximum if is_fraction else 1.0,
    )
    if number:
        return {number: int(np.count_nonzero(array))}
    return _counts(array, list(by_number))


def _counts(array: npt.NDArray[Any], numbers: Sequence[int]) -> dict[int, int]:
    """Return how many voxels hold each number, plane by plane: counting takes 64 bits a voxel."""
    last = max(numbers, default=0)
    planes = (array[..., k].ravel() for k in range(array.shape[-1]))
    total = sum(np.bincount(plane, minlength=last + 1) for plane in planes)
    return {number: int(np.asarray(total)[number]) for number in numbers}


def _shown(segment: SegSegment) -> _Shown:
    """Return name and color; without one a hue of its own, the golden ratio on from the last."""
    if segment.color is not None:
        return _Shown(segment.label, segment.color)
    hue = segment.number * 0.618034 % 1
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.7, 1))
    return _Shown(segment.label, (red, green, blue))


def _name(path: Path) -> str:
    """Return what outputs are called: UIDs as names keep their dots."""
    return path.name[:-4] if path.name.lower().endswith(".dcm") else path.name


def _remove(path: Path) -> None:
    """Remove a file where there is one.

    Raises:
        OutputError: If it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path} must be writable; got: {error.strerror}."
        raise OutputError(msg) from error
