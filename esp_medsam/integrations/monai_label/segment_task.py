"""Automatic segmentation, one model of MONAI Label for each modality."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from esp_medsam.image import modality_of
from esp_medsam.integrations.monai_label.checked_image import check_image
from esp_medsam.integrations.monai_label.label_file import check_extension, write_label_file
from esp_medsam.integrations.monai_label.labels import label_names, unnamed
from esp_medsam.integrations.monai_label.parts import Parts
from esp_medsam.integrations.monai_label.request import Asked, options_of, read_request
from esp_medsam.integrations.monai_label.versions import CURRENT
from esp_medsam.workflows.one_image import Segmented, save_one


class Made(NamedTuple):
    """A result for a client.

    Attributes:
        file: The labelmap.
        told: What the client is told about it, as JSON.
        dicom_seg: The DICOM-SEG; None if it was not asked for.
    """

    file: Path
    told: dict[str, Any]
    dicom_seg: Path | None = None


class SegmentTask(InferTask):  # type: ignore[misc]  # MONAI Label has no types
    """Segmentation of images of one modality.

    Tasks share no setting, so that requests at the same time never cross.

    Args:
        modality: Modality of the images.
        parts: What the app's tasks share.
    """

    def __init__(self, modality: str, parts: Parts) -> None:
        ready = ", ".join(parts.ready(modality)) or "none"
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=label_names(parts.table[modality]),
            dimension=3,
            description=f"Automatic segmentation of {modality}. Targets that are ready: {ready}.",
        )
        self.modality = modality
        self.parts = parts

    def info(self) -> dict[str, Any]:
        """Return what clients show of the model, with the colors of its labels."""
        targets = self.parts.table[self.modality].targets
        colors = {target.name: list(target.color) for target in targets}
        return {**super().info(), "modality": self.modality, "colors": colors}

    def config(self) -> dict[str, Any]:
        """Return the options of the model, as clients show them."""
        devices = self.parts.segmenters.devices
        return options_of(self.modality, self.parts.table, devices, self._versions())

    def asked(self, request: Mapping[str, Any]) -> Asked:
        """Return what a request asks for; see :func:`~.request.read_request`."""
        devices = self.parts.segmenters.devices
        return read_request(request, self.modality, self.parts.table, devices, self._versions())

    def _versions(self) -> list[str]:
        """Return the names of the versions that may be asked for."""
        return [CURRENT, *(version.name for version in self.parts.versions.all(self.modality))]

    def is_valid(self) -> bool:
        """Return True: weights were checked when the app was prepared."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment an image, as MONAI Label's own code asks; see :meth:`segment`."""
        made = self.segment(Path(request["image"]), request)
        return str(made.file), made.told

    def segment(self, image: Path, request: Mapping[str, Any]) -> Made:
        """Segment an image and write the labelmap.

        Args:
            image: A file, or the folder of a DICOM series.
            request: Parameters of the request, see :func:`~.request.read_request`.

        Raises:
            EspMedSamError: If the request or the image is refused.
        """
        asked = self.asked(request)
        with unnamed(image):
            return self._made(image, asked, is_seg_wanted=bool(request.get("dicom_seg")))

    def _made(self, image: Path, asked: Asked, *, is_seg_wanted: bool) -> Made:
        grid = check_image(image, self.parts.settings.most_voxels)
        if grid is not None:  # before it takes time; that of DICOM is not known yet
            check_extension(asked.extension, is_picture=not grid.is_volume)
        began, version = time.monotonic(), self.parts.versions.named(self.modality, asked.version)
        made = self.parts.segmenters.segment(
            image,
            bundle=version.bundle,
            device=asked.device,
            most_seconds=self.parts.settings.most_seconds,
            modality=self.modality,
            **asked.settings,
        )
        with new_folder(self.parts.temporary) as folder:
            file = write_label_file(
                made.labelmap, made.image, made.targets, folder, asked.extension
            )
            seg = None
            if is_seg_wanted:
                own = {"output_format": "dicom-seg", "write_empty": True}
                seg, *_ = save_one(made, output_dir=str(folder / "seg"), **own)
        seconds = time.monotonic() - began
        return Made(file, {**told(made, seconds), "version": version.name}, seg)


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder for a result, which is removed if the result is not made."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_made(file: str) -> None:
    """Remove a result that was sent or saved, with its folder."""
    shutil.rmtree(Path(file).parent, ignore_errors=True)


def told(made: Segmented, seconds: float) -> dict[str, Any]:
    """Return what a client is told about a result; nothing in it names the image or a patient."""
    segmentation = made.segmentation
    found: Sequence[Mapping[str, Any]] = made.record["targets"]
    warnings = (*made.image.warnings, *segmentation.warnings)
    return {
        "label_names": label_names(made.request.table[modality_of(made.image)]),
        "confidence": dict(zip(segmentation.targets, segmentation.confidence, strict=True)),
        "found": {each["name"]: {k: each[k] for k in ("voxels", "ml")} for each in found},
        "warnings": [said.replace(made.image.path, "image") for said in warnings],
        "latencies": {"total": round(seconds, 2)},
    }
