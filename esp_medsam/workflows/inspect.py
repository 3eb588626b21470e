"""What is understood of each image and volume, without a network: nothing is segmented."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam import io
from esp_medsam.dicom.modality import settle
from esp_medsam.errors import (
    EspMedSamError,
    ModalityError,
    OptionError,
    OutputExistsError,
    explain,
)
from esp_medsam.image import Image, image_of
from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.contact_sheet import Tile
from esp_medsam.io.preview import TILES, spread
from esp_medsam.io.raster import PNG_MARK
from esp_medsam.modality import Modality, ModalityTable
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.describe import Description, describe
from esp_medsam.workflows.items import Item, Plan, plan_items
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.segment import failure


MOST_TILES = 81
"""Tiles of one sheet; items beyond are not drawn."""

_NOBODY = "not_given"
_ANY = ModalityTable((Modality(_NOBODY, 0, ()),))
"""A table for files whose modality nobody said: readers change no value for its only modality."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an item cannot be segmented as it is.

    Attributes:
        path: The file, or the folder of a DICOM volume.
        volume: Name of the DICOM volume in the folder; None for other formats.
        code: Stable code of the reason.
        message: What is wrong and what to do, one line.
    """

    path: str
    volume: str | None
    code: str
    message: str


class Inspection:
    """Describe items one by one, and draw what the network would see of them.

    An item whose modality is known is prepared as it would be to be segmented; of others the
    file is read alone. It prints and writes nothing.

    Args:
        plan: The items, and what was refused already.
        preprocessing: From an item to the data with its image loaded and measured.
        inferer: How slices are taken and scaled.
        frame: Which volume of a 4-D file, from 0.
        join: What to join that DICOM files keep apart.
        is_given: Whether the user said the modality.
        draw: Whether to draw; then every item must have a modality.

    Attributes:
        tiles: What was drawn so far, at most :data:`MOST_TILES`.
        undrawn: Items described after the sheet was full.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        preprocessing: Callable[[Item], dict[str, Any]],
        inferer: SliceWiseInferer,
        frame: int | None = None,
        join: Sequence[str] | None = None,
        is_given: bool = False,
        draw: bool = False,
    ) -> None:
        self.plan = plan
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.frame = frame
        self.join = tuple(join or ())
        self.is_given = is_given
        self.draw = draw
        self.tiles: list[Tile] = []
        self.undrawn = 0

    @property
    def left_alone(self) -> str:
        """What is no item, in one line; empty where there is nothing else."""
        return self.plan.left_alone

    def __len__(self) -> int:
        """Return the number of results there will be."""
        return len(self.plan.refused) + len(self.plan.items)

    def results(self) -> Iterator[Description | Refusal]:
        """Yield one result per item, as it comes."""
        for item in self.plan.items:
            result: Description | Refusal
            try:
                result = self.inspect(item)
            except Exception as error:  # one bad case never ends a run
                result = _refusal(item, error)
            yield result
        for item, reason in self.plan.refused:
            yield _refusal(item, reason)

    def inspect(self, item: Item) -> Description:
        """Describe one item, and draw it where that was asked for.

        Raises:
            EspMedSamError: If it cannot be segmented as it is; MONAI wraps it, see
                :func:`esp_medsam.errors.explain`.
        """
        try:
            image = self.preprocessing(dict(item))["image"]
        except Exception as error:
            if self.draw or not self._lacks_modality(error):
                raise
            record = self._read(item)
            if record.sources and not self._is_open(record):
                raise
            return describe(record, item, slice_axis=self.inferer.slice_axis, has_modality=False)
        record, pixels = image_of(image.meta), image.as_tensor()
        described = replace(record, pixels=pixels.numpy())
        description = describe(described, item, slice_axis=self.inferer.slice_axis)
        if self.draw and len(self.tiles) < MOST_TILES:
            self.tiles += tiles_of(pixels, record, self.inferer)[: MOST_TILES - len(self.tiles)]
        elif self.draw:
            self.undrawn += 1
        return description

    def _lacks_modality(self, error: Exception) -> bool:
        """Whether nothing is wrong but that nobody says the modality."""
        code = (explain(error) or "").partition(":")[0]
        return not self.is_given and code == ModalityError.code

    def _read(self, item: Item) -> Image:
        """Return what an item holds that does not say its modality."""
        return io.read(
            item["image"],
            modality=_NOBODY,
            table=_ANY,
            volume=item.get("volume"),
            files=item.get("files"),
            join=self.join,
            frame=self.frame,
            force_modality=True,
        )

    def _is_open(self, record: Image) -> bool:
        """Whether a DICOM image leaves its modality to the user."""

        def agrees(given: str | None) -> bool:
            uid = record.sources[0].sop_class_uid
            try:
                settle(record.dicom_modality, uid, given, self.inferer.table, source=record.path)
            except ModalityError:
                return False
            return True

        return not agrees(None) and any(agrees(name) for name in self.inferer.table.names)


def build_inspection(request: Request, *, draw: bool = False) -> Inspection:
    """Plan what to describe, with the bundle's own preparation.

    Args:
        request: What is asked for; its ``dataset_dir`` is a file, or a folder, searched in depth.
        draw: Whether to draw what the network would see.

    Raises:
        EspMedSamError: If the path or an option is not usable; MONAI wraps those it meets while
            building, see :func:`esp_medsam.errors.explain`.
    """
    config = read_config(request)
    settings: InferenceSettings = config.get_parsed_content("settings")
    table = request.table
    is_given = isinstance(settings.modality, str)
    plan = plan_items(
        settings.dataset_dir,
        None,  # there is no output
        settings.include,
        settings.exclude,
        table=table,
        # Forced, so that nothing is refused for its modality before it is looked at.
        modality=settings.modality if is_given else table.names[0],
        force_modality=True,
        series=settings.series,
        join=settings.join,
    )
    return Inspection(
        plan=plan,
        preprocessing=config.get_parsed_content("preprocessing"),
        inferer=config.get_parsed_content("inferer"),
        frame=settings.frame,
        join=settings.join,
        is_given=is_given,
        draw=draw,
    )


def check_sheet(path: Path, plan: Plan, *, overwrite: bool) -> None:
    """Refuse a place where no sheet may be written, before anything is read.

    Raises:
        OptionError: If it is no PNG, or one of the images themselves.
        OutputExistsError: If it exists and ``overwrite`` was not given, or was not written here.
    """
    if path.suffix.lower() != ".png":
        msg = f"preview must end in .png; got {path}."
        raise OptionError(msg)
    files = {file for item in plan.items for file in (item["image"], *item.get("files", ()))}
    if path.exists() and path.resolve() in {Path(file).resolve() for file in files}:
        msg = f"preview must be none of the images inspected; got {path}. Write it elsewhere."
        raise OptionError(msg)
    if path.exists() and not overwrite:
        msg = f"preview must not exist yet; {path} does. Pass --overwrite to replace it."
        raise OutputExistsError(msg)
    if os.path.lexists(path) and not is_ours(path, PNG_MARK):
        msg = f"preview must replace no file but a preview; {path} is none. Write it elsewhere."
        raise OutputExistsError(msg)


def tiles_of(pixels: Tensor, record: Image, inferer: SliceWiseInferer) -> list[Tile]:
    """Draw slices of an image as the network would see them, evenly spread over a volume.

    Args:
        pixels: ``(C, *spatial)`` in the image's own dtype.
        record: What is known and was measured of it.
        inferer: How slices are taken, prepared and scaled.
    """
    slices = Slices(pixels, record, transforms=inferer.transforms, slice_axis=inferer.slice_axis)
    last = len(slices) - 1
    return [
        Tile(
            f"{record.relative_dir}/{record.name}".removeprefix("/"),
            f"slice {index} (0-{last})" if record.is_volume else "",
            seen(slices, index, inferer),
        )
        for index in spread(len(slices), TILES)
    ]


def seen(slices: Slices, index: int, inferer: SliceWiseInferer) -> npt.NDArray[np.uint8]:
    """Return a slice as it enters the network, before normalization: ``(H, W, 3)``.

    Padding has the color that is zero to the network, the mean.
    """
    inputs, _ = inferer.input_of([slices[index]], slices.spacing, torch.device("cpu"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (inferer.pixel_mean, inferer.pixel_std))
    rgb = (inputs[0] * std + mean).clamp(0.0, 1.0).mul(255.0).round()
    drawn: npt.NDArray[np.uint8] = rgb.to(torch.uint8).permute(1, 2, 0).numpy()
    return drawn


def _refusal(item: Item, error: BaseException) -> Refusal:
    result = failure(item, error)
    return Refusal(
        path=str(item["image"]),
        volume=item.get("volume"),
        code=result.code or EspMedSamError.code,
        message=result.message,
    )
