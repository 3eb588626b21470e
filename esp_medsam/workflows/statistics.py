"""Statistics of the segments in existing results and masks, without segmenting again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import FormatError, InputNotFoundError, OutputExistsError, not_found
from esp_medsam.grid import Grid
from esp_medsam.image import Image, SliceJump
from esp_medsam.io.formats import is_image, name_of
from esp_medsam.io.labels import as_labels
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.io.record import file_names, is_own, read_record
from esp_medsam.io.recorded_file import is_whole
from esp_medsam.io.report_files import is_report_file
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import display_of_image
from esp_medsam.plain_data import read_own_json
from esp_medsam.transforms.segment_statistics import SegmentStatistics, segment_statistics
from esp_medsam.transforms.slice_jump import slice_jumps
from esp_medsam.workflows.datalist import Mask
from esp_medsam.workflows.datalist_images import MaskReader
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.results import Outcome, failure
from esp_medsam.workflows.walk import files_below


RECORD = "_seg.json"
"""Ending of the records of results."""

MASK_ENDINGS = ("_seg", "_mask", "_masks", "_label", "_labels", "_gt", "_segmentation")
"""Endings of the names of masks, which their images do not have."""

IMAGE_ENDINGS = ("", "_0000", "_image", "_img")
"""Endings of the names of images, which their masks do not have; ``_0000`` is of nnU-Net."""

_OF_A_TARGET = ("confidence", "expected_dice", "slice_jump", "slice_jump_at")
"""What the record of a result states of each target, besides its size."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured(Outcome):
    """Outcome of one result or mask: ``done`` or ``failed``.

    Attributes:
        rows: A row for each segment.
    """

    rows: tuple[Row, ...] = ()

    @property
    def details(self) -> str:
        """Number of segments that are not empty."""
        return f": {sum(row['voxels'] > 0 for row in self.rows)} segments"


class Statistics:
    """Statistics of all results and masks in a folder.

    A result of this package is known by its record, whose statistics are taken if it has any. Of
    other masks, each value is a segment.

    Args:
        source: A record, a mask, or a folder, which is searched recursively.
        table: Available modalities and targets.
        images: Folder of the images, for intensities; of results, the folder that was segmented.
        modality: Modality of masks that have no record; its table names their values.

    Attributes:
        inputs: Records, and masks without one.
        prefix: Beginning of the names of results and masks.

    Raises:
        InputNotFoundError: If there is no such file or folder.
        ModalityError: If there is no such modality.
    """

    def __init__(
        self,
        source: Path,
        table: ModalityTable,
        *,
        images: Path | None = None,
        modality: str | None = None,
    ) -> None:
        if not source.exists():
            raise not_found(source, argument="IN")
        if images is not None and not images.is_dir():
            raise not_found(images, "folder", argument="images")
        self.root = source if source.is_dir() else source.parent
        self.table = table
        self.images, self.prefix = images, ""
        self.modality = None if modality is None else table[modality].name
        self.inputs = self._inputs(source)

    def _inputs(self, source: Path) -> list[Path]:
        """Return records, and masks that belong to no record."""
        if source.is_file():
            return [source]
        files = sorted(files_below(source, []))
        records = [path for path in files if _is_record(path)]
        owned = {path.with_name(name) for path in records for name in _owned_names(path)}
        others = (path for path in files if is_image(path) and path not in owned)
        masks = [path for path in others if not is_report_file(path)]
        return sorted([*records, *masks])

    def __len__(self) -> int:
        """Return the number of results and masks."""
        return len(self.inputs)

    def results(self) -> Iterator[Measured]:
        """Yield the outcome of each result or mask."""
        yield from each_alone(self.inputs, self._measured, self._failed)

    def _label(self, path: Path) -> str:
        return f"{self.prefix}{path.relative_to(self.root).as_posix()}"

    def _failed(self, path: Path, error: Exception) -> Measured:
        return failure(self._label(path), error, kind=Measured)

    def _measured(self, path: Path) -> Measured:
        """Return the rows of one result or mask.

        Raises:
            EspMedSamError: If it, or its image, cannot be read.
        """
        rows = self._of_result(path) if path.name.endswith(RECORD) else self._of_mask(path)
        return Measured(path=self._label(path), status="done", rows=tuple(rows))

    def _of_result(self, path: Path) -> Iterator[Row]:
        record = _record(path)
        targets: Sequence[Mapping[str, Any]] = record["targets"]
        found = [target["statistics"] for target in targets if target.get("statistics")]
        if len(found) < len(targets):
            labels = [int(target["label"]) for target in targets]
            found = [asdict(one) for one in self._again(path, record, labels)]
        common = {key: record.get(key) for key in ("modality", "unit")}
        for target, one in zip(targets, found, strict=True):
            named = {"source": record["source"]["path"], "mask": self._label(path), **common}
            own = {key: target.get(key) for key in ("name", "label", *_OF_A_TARGET)}
            yield {**named, "target": own.pop("name"), **own, **columns(one)}

    def _again(
        self, path: Path, record: Mapping[str, Any], labels: Sequence[int]
    ) -> list[SegmentStatistics]:
        """Return the statistics of a result's labelmap, which must be the one of its record."""
        entry = next((one for one in record["files"] if is_image(one["name"])), None)
        if entry is None:
            msg = f"{path} must name a labelmap as NIfTI or PNG, or hold statistics; it does not. "
            raise FormatError(msg + "Segment with `statistics`, or convert with seg2nifti.")
        mask, image = path.with_name(entry["name"]), None
        if not is_whole(mask, entry):
            raise not_found(mask)
        if self.images is not None:
            place = PurePosixPath(record["source"]["path"])
            if place.is_absolute() or ".." in place.parts:
                msg = f"{path} must name its image below the folder of images; it does not."
                raise FormatError(msg)
            image = self._image(self.images / place, record["modality"])
        labelmap, stored = self._stored(mask, image)
        return _statistics(labelmap, stored.grid, labels, image)

    def _of_mask(self, path: Path) -> Iterator[Row]:
        image, names = None, dict[int, str]()
        if self.images is not None:
            image = self._image(self._image_of(path, self.images), self.modality)
        if self.modality is not None:
            names = {target.label: target.name for target in self.table[self.modality].targets}
        labelmap, stored = self._stored(path, image)
        values = [int(value) for value in np.unique(labelmap) if value]
        named = {
            "source": None if image is None else Path(image.path).name,
            "mask": self._label(path),
            "modality": self.modality,
            "unit": None if image is None else image.unit,
        }
        found = _statistics(labelmap, stored.grid, values, image)
        for value, one, jump in zip(values, found, _jumps(labelmap, stored, values), strict=True):
            own = {"target": names.get(value, ""), "label": value} | dict.fromkeys(_OF_A_TARGET)
            if jump is not None:
                own |= {"slice_jump": round(jump.share, 3), "slice_jump_at": jump.index}
            yield {**named, **own, **columns(asdict(one))}

    def _stored(self, mask: Path, image: Image | None) -> tuple[npt.NDArray[np.uint8], Image]:
        """Return a labelmap, and what it lies on: its image if there is one, else itself.

        Raises:
            OptionError: If it does not lie where its image does.
            FormatError: If it holds other values than whole numbers from 0 to 255.
        """
        if image is None:
            stored = read(mask, indices=True)
        else:
            stored = MaskReader(image, self.table).stored(Mask(path=str(mask), values=(1,)))
        assert stored.pixels is not None, "just read"
        labels = as_labels(stored.pixels[0])
        if len(stored.pixels) > 1 or labels is None:
            msg = f"{mask} must be a mask of whole numbers from 0 to 255; it is not."
            raise FormatError(msg)
        return labels, stored if image is None else image

    def _image(self, path: Path, modality: str | None) -> Image:
        """Return an image, in the unit of its modality if that is known."""
        image = read(path)
        if modality is None:
            return image
        return settle_modality(image, modality, self.table, force=False)

    def _image_of(self, mask: Path, images: Path) -> Path:
        """Return the image of a mask: in the same place, with the same name but for its ending.

        Raises:
            InputNotFoundError: If there is none, or more than one.
        """
        name, folder = name_of(mask), images / mask.relative_to(self.root).parent
        names = {name, *(name.removesuffix(ending) for ending in MASK_ENDINGS)}
        wanted = {f"{one}{ending}" for one in names for ending in IMAGE_ENDINGS}
        listed = sorted(folder.iterdir()) if folder.is_dir() else []
        found = [path for path in listed if is_image(path) and name_of(path) in wanted]
        found = [path for path in found if path.resolve() != mask.resolve()]
        if len(found) != 1:
            msg = (
                f"images must hold one image of {mask.name}, called like it; it holds {len(found)}."
            )
            raise InputNotFoundError(msg)
        return found[0]


def merged(
    sources: Sequence[Path],
    table: ModalityTable,
    *,
    images: Path | None = None,
    modality: str | None = None,
) -> list[Statistics]:
    """Return the statistics of several sources; what several of them hold is in the first alone.

    Names then begin with the folder as it was given. Arguments as of :class:`Statistics`.

    Raises:
        InputNotFoundError: If there is no such file or folder, or none of them holds a mask; a
            share of a run may have had nothing to do.
        ModalityError: If there is no such modality.
    """
    seen = set[Path]()
    found = []
    for source in sources:
        one = Statistics(source, table, images=images, modality=modality)
        root = one.root.resolve()
        one.inputs = [p for p in one.inputs if root / p.relative_to(one.root) not in seen]
        seen.update(root / path.relative_to(one.root) for path in one.inputs)
        if one.inputs:
            found.append(one)
    if not found:
        hold = "holds" if len(sources) == 1 else "hold"
        msg = f"IN must hold results or masks; {', '.join(map(str, sources))} {hold} none."
        raise InputNotFoundError(msg)
    for one in found if len(found) > 1 else ():
        one.prefix = f"{one.root.as_posix()}/"
    return found


def _is_record(path: Path) -> bool:
    """Whether a file says that it is a record of this package; other programs have theirs."""
    if not path.name.endswith(RECORD):
        return False
    try:
        return is_own(read_own_json(path))
    except (OSError, ValueError):
        return False


def _owned_names(path: Path) -> list[str]:
    """Return the names of a result's files; none if its record is damaged, which is told later."""
    try:
        return file_names(_record(path))
    except (FormatError, InputNotFoundError):
        return []


def _record(path: Path) -> dict[str, Any]:
    """Return the record of a result.

    Raises:
        FormatError: If it is damaged, or another program's.
        InputNotFoundError: If it is gone.
    """
    try:
        record = read_record(path.with_suffix(""))
    except OutputExistsError as error:
        msg = f"{path} must be a record of this program; it is damaged, or another program's."
        raise FormatError(msg) from error
    if record is None:
        raise not_found(path)
    return record


def _statistics(
    labelmap: npt.NDArray[np.uint8], grid: Grid, labels: Sequence[int], image: Image | None
) -> list[SegmentStatistics]:
    return segment_statistics(labelmap, labels, grid, None if image is None else image.pixels)


def _jumps(
    labelmap: npt.NDArray[np.uint8], lies_on: Image, labels: Sequence[int]
) -> Sequence[SliceJump | None]:
    """Return the largest jump of each mask along the axis that its volume would be cut along."""
    axis = display_of_image(lies_on).slice_axis
    return [None] * len(labels) if axis is None else slice_jumps(labelmap, labels, axis)


def columns(statistics: Mapping[str, Any]) -> Row:
    """Return statistics with a column for each number, in the same order for all images."""
    row: Row = {}
    for name, value in statistics.items():
        if name in _AXES:
            row |= _spread(name, value, _AXES[name])
        elif name == "percentiles":
            row |= _spread("percentile", value, _PERCENTILES)
        else:
            row[name] = value
    return row


_AXES = {
    "box_first": ("1", "2", "3"),
    "box_last": ("1", "2", "3"),
    "centroid": ("1", "2", "3"),
    "centroid_mm": ("right", "anterior", "superior"),
}
_PERCENTILES = ("5", "25", "50", "75", "95")


def _spread(name: str, values: Sequence[float] | None, endings: Sequence[str]) -> Row:
    held = list(values or ())
    held += [None] * (len(endings) - len(held))  # type: ignore[list-item]  # no number there
    return {f"{name}_{ending}": value for ending, value in zip(endings, held, strict=True)}
