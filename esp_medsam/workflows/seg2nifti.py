"""Convert DICOM Segmentations to NIfTI."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esp_medsam.dicom import DicomSegmentation, is_dicom, is_segmentation, read_segmentation
from esp_medsam.errors import (
    EmptyInputError,
    EspMedSamError,
    FormatError,
    GeometryError,
    OutputExistsError,
    not_found,
)
from esp_medsam.identity import Identity, check_unchanged, identify
from esp_medsam.io.atomic import all_or_none, is_ours, remove_file
from esp_medsam.io.like import Like, OutputGrid
from esp_medsam.io.output_path import check_outputs
from esp_medsam.io.recorded_file import file_entry, identity_entry
from esp_medsam.workflows.clashes import shared_name
from esp_medsam.workflows.input_files import InputFiles, would_replace
from esp_medsam.workflows.item_loop import results_of
from esp_medsam.workflows.left_alone import Counted
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.seg2nifti_files import arrays_of, write_array
from esp_medsam.workflows.seg2nifti_record import (
    KIND,
    are_whole,
    check_agreement,
    names_of,
    owner_of,
    read_record,
    rivals_among,
    write_record,
)
from esp_medsam.workflows.walk import cannot_be_listed, files_below, is_there


_ENDING = re.compile(r"(?=(_segment\d+)?\.nii\.gz$|\.json$)")
"""Matches where the common stem of a result's file names ends."""


@dataclass(frozen=True)
class _Item:
    """One segmentation file and the destination of its outputs.

    Attributes:
        path: The file.
        place: Path of the file relative to the input's root.
        stem: Path of its outputs, without an ending.
    """

    path: Path
    place: str
    stem: Path

    @property
    def record(self) -> Path:
        """Path of the record that describes the outputs."""
        return self.stem.with_name(f"{self.stem.name}.json")


class Seg2Nifti:
    """Converter of DICOM Segmentations, one by one; a failed one does not end the run.

    For each segmentation, ``<OUT>/<relative folder>/<name>.nii.gz`` holds the segment numbers, and
    ``<name>.json``, written last, describes them. With ``split_segments``, or if segments are
    fractional, each one has its own file, ``<name>_segment<number>.nii.gz``.

    Args:
        source: A file, or a folder that is searched recursively.
        output: Output folder.
        like: NIfTI file, DICOM file or folder whose grid the outputs take; None takes the planes of
            the segments, from the first to the last.
        split_segments: Whether each segment has its own file, as overlapping segments require.
        overwrite: Whether existing files may be replaced.
        verify: Whether to read the files of an earlier result to check that they are intact;
            otherwise only sizes and times are compared.

    Attributes:
        others: Files that are not segmentations.

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
        verify: bool = False,
    ) -> None:
        self.split_segments = split_segments
        self.overwrite = overwrite
        self.verify = verify
        self.others: list[Path] = []
        self._output = Path(output)
        self._inputs: list[Path] = []
        self._refused: list[Refusal] = []
        self._items = self._find(Path(source))
        self._like = None if like is None else Like(like)
        self._spare_inputs()

    @property
    def left_alone(self) -> str:
        """Files that are not segmentations, in one line; empty if there are none."""
        return Counted(self.others).text if self.others else ""

    def __len__(self) -> int:
        """Return the expected number of results; a full disk yields fewer."""
        return len(self._items) + len(self._refused)

    def results(self) -> Iterator[ItemResult]:
        """Convert all segmentations and yield their results; a full disk ends the run.

        Raises:
            OutputError: If another run is writing to the output folder.
        """
        steps: list[Refusal | _Item] = [*self._refused, *self._items]
        return results_of(
            steps,
            self._convert,
            label_of=lambda item: str(item.path),
            output=self._output,
            folder_of=lambda item: item.stem.parent,
        )

    def _find(self, source: Path) -> list[_Item]:
        if not is_there(source):
            raise not_found(source, "file or folder", argument="IN")
        if not source.is_dir():
            self._inputs.append(source)
            if source.is_file() and os.access(source, os.R_OK) and not is_dicom(source):
                msg = f"IN must be a DICOM Segmentation; {source} is not a DICOM file."
                self._refused.append(Refusal(str(source), FormatError(msg)))
                return []
            return [_Item(source, source.name, self._output / _name(source))]
        found = self._inputs
        unreadable: list[tuple[Path, OSError]] = []
        for path in files_below(source, unreadable, follow_links=False):
            try:
                is_one = not path.name.startswith(".") and is_dicom(path) and is_segmentation(path)
            except EspMedSamError as error:
                self._refused.append(Refusal(str(path), error))
                continue
            (found if is_one else self.others).append(path)
        for folder, why in unreadable:
            self._refused.append(Refusal(str(folder), cannot_be_listed(folder, why)))
        if not found and not self._refused:
            what = self.left_alone or "nothing"
            msg = f"IN must hold at least one DICOM Segmentation; got {source} with {what}."
            raise EmptyInputError(msg)
        places = [path.relative_to(source) for path in found]
        items = [
            _Item(path, place.as_posix(), self._output / place.parent / _name(path))
            for path, place in zip(found, places, strict=True)
        ]
        rivals = rivals_among([item.stem for item in items])
        by_stem: defaultdict[Path, list[_Item]] = defaultdict(list)
        for item in items:
            by_stem[item.stem].append(item)
        for item in items:
            if item.stem in rivals:
                sharing = [each for stem in rivals[item.stem] for each in by_stem[stem]]
                others = sorted(str(each.path) for each in sharing if each is not item)
                clash = shared_name(str(item.path), item.stem.name, others)
                self._refused.append(Refusal(str(item.path), clash))
        return [item for item in items if item.stem not in rivals]

    def _spare_inputs(self) -> None:
        """Refuse items whose outputs would replace an input or the image that defines the grid."""
        inputs = list(self._inputs)
        if self._like is not None:
            path = self._like.path
            inputs += [path] if not path.is_dir() else list(path.iterdir())
        files = InputFiles(inputs, _ENDING)
        for item in self._items:
            if (replaced := files.replaced_by(item.stem)) is not None:
                error = would_replace(str(item.path), item.stem, replaced)
                self._refused.append(Refusal(str(item.path), error))
        refused = {refusal.path for refusal in self._refused}
        self._items = [item for item in self._items if str(item.path) not in refused]

    def _convert(self, item: _Item) -> ItemResult:
        """Write the files of one segmentation, with the record last."""
        identity = identify([item.path])
        segmentation, grid = self._placed(read_segmentation(item.path))
        check_unchanged(identity)
        made_with = self._made_with(item, identity, segmentation, grid)
        files = self._files_of(item, segmentation)
        check_outputs([*files.values(), item.record], self._output)
        previous = read_record(item.record)
        if previous is not None and not self.overwrite:
            check_agreement(previous, made_with, item.record)
            if are_whole(previous, item.record, verify=self.verify):
                record = str(item.record)
                return ItemResult(path=str(item.path), status="kept", record=record)
        self._make_way(item, files.values(), previous)
        remove_file(item.record, self._output)  # without it, files left by a crash are not a result
        stale = set(names_of(previous, item.stem)) - {path.name for path in files.values()}
        self._write(item, files, segmentation, grid, made_with, stale)
        return ItemResult(
            path=str(item.path),
            status="done",
            record=str(item.record),
            warnings=segmentation.warnings,
        )

    def _write(
        self,
        item: _Item,
        files: Mapping[int, Path],
        segmentation: DicomSegmentation,
        grid: OutputGrid | None,
        made_with: Mapping[str, Any],
        stale: Iterable[str],
    ) -> None:
        """Write the files and their record, and remove stale earlier files: all or none."""
        voxels: dict[int, int] = {}
        with all_or_none(self._output) as written:
            for number, array in arrays_of(segmentation, list(files)):
                path = files[number]
                voxels |= write_array(path, array, segmentation, grid, number, self._output)
                written.append(path)
            for name in stale:
                remove_file(item.stem.with_name(name), self._output)
            content = {
                **made_with,
                "fractional_type": segmentation.fractional_type or None,
                "files": [file_entry(path) for path in written],
                "segments": [
                    {
                        **asdict(segment),
                        "file": files.get(segment.number, files.get(0, item.record)).name,
                        "voxels": voxels[segment.number],
                    }
                    for segment in segmentation.segments
                ],
                "warnings": list(segmentation.warnings),
            }
            write_record(item.record, content, self._output)

    def _made_with(
        self,
        item: _Item,
        identity: Identity,
        segmentation: DicomSegmentation,
        grid: OutputGrid | None,
    ) -> dict[str, Any]:
        """Return the record's entries on source and method, without paths of this machine."""
        placed = segmentation.grid if grid is None else grid.grid
        like = None if self._like is None else self._like.path.absolute().name
        return {
            "source": {
                "path": item.place,
                **identity_entry(identity),
                "sop_instance_uid": segmentation.sop_instance_uid,
                "study_uid": segmentation.study_uid,
                "segmented_series": list(segmentation.source_series),
            },
            KIND: segmentation.kind.upper(),
            "like": like,
            "shape": list(placed.shape),
            "affine": np.asarray(placed.affine).tolist(),
            "split_segments": self.split_segments,
        }

    def _placed(
        self, segmentation: DicomSegmentation
    ) -> tuple[DicomSegmentation, OutputGrid | None]:
        """Return the segmentation with its grid, and the grid to write on.

        Raises:
            GeometryError: If the segmentation has no even grid.
        """
        grid = None
        if self._like is not None:
            grid = self._like.grid_for(segmentation)
            planes = segmentation.grid.slice_affines
            step = None if planes is None else grid.grid.spacing_along(planes[0][:3, 2])
            if step is not None:
                segmentation = segmentation.with_spacing(step)
        if segmentation.grid.affine is None:
            msg = (
                f"{segmentation.path} must lie on an even grid, which is all that NIfTI can say: "
                f"{segmentation.problem} Open it in a DICOM viewer, or read it with "
                "esp_medsam.dicom.read_segmentation."
            )
            raise GeometryError(msg)
        return segmentation, grid

    def _files_of(self, item: _Item, segmentation: DicomSegmentation) -> dict[int, Path]:
        """Return output files by segment number; 0 stands for the labelmap of all segments."""
        name = item.stem.name
        if not self.split_segments and segmentation.is_whole:
            return {0: item.stem.with_name(f"{name}.nii.gz")}
        return {
            segment.number: item.stem.with_name(f"{name}_segment{segment.number}.nii.gz")
            for segment in segmentation.segments
        }

    def _make_way(
        self, item: _Item, paths: Iterable[Path], previous: Mapping[str, Any] | None
    ) -> None:
        """Refuse to replace files that must stay.

        Raises:
            OutputExistsError: If a file exists that neither comes from an earlier result of the
                same item nor was left without a record by a killed run.
        """
        if previous is None and os.path.lexists(item.record):
            msg = (
                f"{item.record} must not exist; it does, and is not a record of seg2nifti. "
                "Move it, or change OUT."
            )
            raise OutputExistsError(msg)
        known = names_of(previous, item.stem)
        for path in paths:
            if not os.path.lexists(path) or path.name in known:
                continue
            if (owner := owner_of(path, item.record)) is not None:
                msg = f"{path} must not exist; it belongs to the result of {owner}. Change OUT."
                raise OutputExistsError(msg)
            if not is_ours(path) and not self.overwrite:
                msg = f"{path} must not exist; it does. Pass `overwrite`, or move it."
                raise OutputExistsError(msg)


def _name(path: Path) -> str:
    """Return the stem of the output names; UIDs used as file names keep their dots."""
    return path.name[:-4] if path.name.lower().endswith(".dcm") else path.name
