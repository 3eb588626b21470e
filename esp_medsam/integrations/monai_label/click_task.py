"""Segmentation of one target by clicks and boxes, one model of MONAI Label for each modality."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from esp_medsam.errors import OptionError, TargetError, one_of, quoted
from esp_medsam.grid import Grid
from esp_medsam.integrations.monai_label.checked_image import check_image
from esp_medsam.integrations.monai_label.clicks import plane_along_third_axis, prompts_of
from esp_medsam.integrations.monai_label.label_file import write_label_file
from esp_medsam.integrations.monai_label.labels import label_names, unnamed
from esp_medsam.integrations.monai_label.segment_task import Made, SegmentTask, new_folder
from esp_medsam.io.read import read, read_grid
from esp_medsam.transforms.label_map import level_of


CLICKS = "_clicks"
"""Ending of the names of these models; before it is the modality."""


@lru_cache(maxsize=8)
def grid_of(image: Path, changed: int) -> Grid:
    """Return the grid of an image; a user clicks on one image many times.

    Args:
        image: A file, or the folder of a DICOM series.
        changed: When it was changed last.

    Raises:
        EspMedSamError: If it cannot be read.
    """
    del changed
    return read_grid(image) or read(image).grid


class ClickTask(InferTask):  # type: ignore[misc]  # MONAI Label has no types
    """Segmentation of one target in one slice, by clicks and boxes.

    Slices follow each other along the third axis of the image's file, as clients show them.

    Args:
        automatic: The model of the same modality.
    """

    def __init__(self, automatic: SegmentTask) -> None:
        modality = automatic.modality
        super().__init__(
            type=InferType.DEEPGROW,
            labels=label_names(automatic.parts.table[modality]),
            dimension=2,
            description=f"Segmentation of one target of {modality} by clicks, slice by slice.",
        )
        self.automatic = automatic
        self.modality = modality

    def config(self) -> dict[str, Any]:
        """Return the options of the model, as clients show them."""
        options = self.automatic.config()
        return {name: options[name] for name in ("version", "device")}

    def is_valid(self) -> bool:
        """Return True: weights were checked when the app was prepared."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment a slice, as MONAI Label's own code asks; see :meth:`segment`."""
        made = self.segment(Path(request["image"]), request)
        return str(made.file), made.told

    def asked(self, request: Mapping[str, Any]) -> Any:
        """Return what a request asks for, but for its prompts."""
        own = ("version", "device", "result_extension", "save_label", "label_tag")
        return self.automatic.asked({name: request[name] for name in own if name in request})

    def segment(self, image: Path, request: Mapping[str, Any]) -> Made:
        """Segment the slice that the prompts lie in; the rest of the labelmap is empty.

        Args:
            image: A file, or the folder of a DICOM series.
            request: ``label``, the target; see :func:`~.clicks.prompts_of` for the prompts.

        Raises:
            EspMedSamError: If the request or the image is refused.
        """
        asked, began = self.asked(request), time.monotonic()
        if asked.is_saved or request.get("dicom_seg"):
            msg = (
                "save_label and output=dicom_seg must be left out for clicks: a slice is no label."
            )
            raise OptionError(msg)
        names = [target.name for target in self.automatic.parts.table[self.modality].targets]
        name = request.get("label")
        if name not in names:
            msg = f"label {one_of(names)}; got {quoted(str(name))}."
            raise TargetError(msg)
        (target,) = self.automatic.parts.table.select(self.modality, [str(name)])
        version = self.automatic.parts.versions.named(self.modality, asked.version)
        with unnamed(image):
            check_image(image, self.automatic.parts.settings.most_voxels)
            grid = grid_of(image, image.stat().st_mtime_ns)
            prompts = prompts_of(request, of_picture=not grid.is_volume)
            record, found = self.automatic.parts.segmenters.prompted(
                image,
                target.name,
                prompts.given,
                bundle=version.bundle,
                device=asked.device,
                most_seconds=self.automatic.parts.settings.most_seconds,
                modality=self.modality,
                slice_axis=plane_along_third_axis(grid),
            )
        labelmap = torch.zeros(1, *record.grid.shape, dtype=torch.uint8)
        for index, probability in found.items():
            of_slice = labelmap[0] if not grid.is_volume else labelmap[0, :, :, index]
            of_slice[probability >= level_of(target)] = 1
        drawn = replace(target, label=1)
        with new_folder(self.automatic.parts.temporary) as folder:
            file = write_label_file(labelmap, record, [drawn], folder, asked.extension)
        told = {
            "label_names": {target.name: 1},
            "version": version.name,
            "latencies": {"total": round(time.monotonic() - began, 2)},
        }
        return Made(file, told)
