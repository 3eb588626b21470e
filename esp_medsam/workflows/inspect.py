"""Inspect images and volumes without segmenting them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_medsam.dicom.modality import resolve_modality
from esp_medsam.errors import (
    ModalityError,
    OptionError,
    OutputExistsError,
    explain,
)
from esp_medsam.image import Image
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.item import Item
from esp_medsam.io.item_reader import ItemReader
from esp_medsam.io.picture_file import PNG_MARK
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.describe import Description, describe
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.planning import plain_settings
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import Outcome, failure


if TYPE_CHECKING:  # drawing needs scipy; descriptions must not wait for its import
    from esp_medsam.io.contact_sheet import Tile


MOST_TILES = 81
"""Maximum number of tiles on a sheet; further items are not drawn."""


@dataclass(frozen=True, kw_only=True)
class Inspected(Outcome):
    """Outcome of one item: it was ``read`` or ``refused``.

    Attributes:
        source: The file, or the folder of a DICOM volume.
        volume: Name of the DICOM volume in the folder; None for other formats.
        description: Description of the item; None if it is refused.
    """

    statuses = ("read", "refused")

    source: str = ""
    volume: str | None = None
    description: Description | None = None


def _refused(refusal: Refusal) -> Inspected:
    """Return the outcome that stands for a refusal."""
    failed = failure(refusal.label, refusal.error, kind=Inspected)
    return replace(failed, source=refusal.path, volume=refusal.volume_name)


@dataclass(kw_only=True, eq=False)
class Inspection:
    """Inspector that describes items one by one, and draws what the network would see of them.

    It prints and writes nothing.

    Args:
        plans: The items, and the refusals so far.
        read: Reads an item into the image that would be segmented, pixels included.
        frame: Index of the volume in a 4-D file, from 0.
        join: Joins to apply to data that DICOM files keep apart.
        table: Available modalities.
        slice_axis: ``axial``, ``coronal`` or ``sagittal``, in place of the rule.
        is_given: Whether the user named the modality.
        draw: Turns an image from ``read`` into tiles; None draws nothing. If it is given, every
            item must have a modality.

    Attributes:
        tiles: Tiles drawn so far, at most :data:`MOST_TILES`.
        undrawn: Items described after the sheet was full.
    """

    plans: Plans
    read: Callable[[Item], Image]
    table: ModalityTable
    frame: int | None = None
    join: Sequence[str] | None = None
    slice_axis: str | None = None
    is_given: bool = False
    draw: Callable[[Image], Sequence[Tile]] | None = None
    tiles: list[Tile] = field(default_factory=list, init=False)
    undrawn: int = field(default=0, init=False)

    @property
    def left_alone(self) -> str:
        """Everything that is not an item, in one line; empty if there is nothing else."""
        return self.plans.left_alone.text

    def __len__(self) -> int:
        """Return the number of results of the parts planned so far."""
        return len(self.plans)

    def results(self) -> Iterator[Inspected]:
        """Yield one result per item as it is read; refused items cannot be segmented."""
        for plan in self.plans:
            yield from each_alone(
                plan.items, self._inspected, lambda item, error: _refused(Refusal.of(item, error))
            )
            yield from map(_refused, plan.refused)

    def _inspected(self, item: Item) -> Inspected:
        described = self.inspect(item)
        return Inspected(
            path=item.label,
            status="read",
            warnings=described.warnings,
            source=described.path,
            volume=described.volume,
            description=described,
        )

    def inspect(self, item: Item) -> Description:
        """Describe one item, and draw it if that was requested.

        Raises:
            EspMedSamError: If the item cannot be segmented as it is; MONAI wraps the error, see
                :func:`esp_medsam.errors.explain`.
        """
        if self.draw is None and not self.is_given and not item.is_dicom:
            # Only DICOM can state the modality instead of the user; others would be read twice.
            return describe(self._as_stored(item), slice_axis=self.slice_axis)
        try:
            image = self.read(item)
        except Exception as error:
            if self.draw is not None or not self._lacks_modality(error):
                raise
            image = self._as_stored(item)
            if image.sources and not self._is_open(image):
                raise
            return describe(image, slice_axis=self.slice_axis)
        description = describe(image, slice_axis=self.slice_axis)
        if self.draw is not None and len(self.tiles) < MOST_TILES:
            self.tiles += self.draw(image)[: MOST_TILES - len(self.tiles)]
        elif self.draw is not None:
            self.undrawn += 1
        return description

    def _lacks_modality(self, error: Exception) -> bool:
        """Whether an error means only that neither user nor file states the modality."""
        code = (explain(error) or "").partition(":")[0]
        return not self.is_given and code == ModalityError.code

    def _as_stored(self, item: Item) -> Image:
        """Return the image of an item that does not state its modality."""
        return read(item, join=tuple(self.join or ()), frame=self.frame)

    def _is_open(self, image: Image) -> bool:
        """Whether a DICOM image leaves its modality to the user."""

        def agrees(given: str | None) -> bool:
            uid = image.sources[0].sop_class_uid
            try:
                resolve_modality(image.dicom_modality, uid, given, self.table, source=image.path)
            except ModalityError:
                return False
            return True

        return not agrees(None) and any(agrees(name) for name in self.table.names)


def build_inspection(request: Request) -> Inspection:
    """Plan what to describe, without the network and the preparation of images for it.

    Args:
        request: The request; its ``dataset_dir`` is a file, or a folder, searched recursively.
            Its settings must be the whole request, see
            :func:`~esp_medsam.workflows.planning.is_plain`.

    Raises:
        EspMedSamError: If the path or an option is not usable.
    """
    settings = plain_settings(request)
    reader = ItemReader(
        table=request.table,
        targets=None,  # segment's default targets have to fit in memory
        **{name: settings[name] for name in ("modality", "force_modality", "series")},
        **{name: settings[name] for name in ("frame", "join", "ct_input")},
    )
    return Inspection(
        plans=plan_inspection(settings, request.table),
        read=reader,
        table=request.table,
        frame=settings["frame"],
        join=settings["join"],
        slice_axis=settings["slice_axis"],
        is_given=isinstance(settings["modality"], str),
    )


def plan_inspection(settings: Mapping[str, Any], table: ModalityTable) -> Plans:
    """Return the plans to describe; nothing is refused for its modality before it is read.

    Args:
        settings: Values of the keys of ``inference.yaml`` that select the input.
        table: Available modalities.

    Raises:
        EspMedSamError: As :func:`~esp_medsam.workflows.items.plan_parts`.
    """
    modality = settings["modality"]
    return plan_parts(
        settings["dataset_dir"],
        None,  # there is no output
        settings["include"],
        settings["exclude"],
        table=table,
        modality=modality if isinstance(modality, str) else table.names[0],
        force_modality=True,
        series=settings["series"],
        join=settings["join"],
        leave_alone=isinstance(modality, str) and not settings["force_modality"],
    )


def check_sheet(path: Path, inspected: Path, *, overwrite: bool) -> None:
    """Refuse a path where no sheet may be written, before anything is read.

    Args:
        path: Path of the sheet.
        inspected: The described file or folder.
        overwrite: Whether an earlier sheet may be replaced.

    Raises:
        OptionError: If the path is not a PNG, or is one of the images themselves.
        OutputExistsError: If the file exists and ``overwrite`` is off, or is not a sheet of ours.
    """
    if path.suffix.lower() != ".png":
        msg = f"preview must end in .png; got {path}."
        raise OptionError(msg)
    is_sheet = is_ours(path, PNG_MARK)
    place, root = path.resolve(), inspected.resolve()
    if path.exists() and (place == root or (root in place.parents and not is_sheet)):
        msg = f"preview must not be an input; got {path}. Write it elsewhere."
        raise OptionError(msg)
    if path.exists() and not overwrite:
        msg = f"preview must not exist yet; {path} does. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)
    if os.path.lexists(path) and not is_sheet:
        msg = f"preview must not replace a file that is not a preview; got {path}."
        raise OutputExistsError(msg)
