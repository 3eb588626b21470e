"""Run one image through the pipeline, and keep its result in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
from torch import Tensor

from esp_medsam.errors import InputChangedError, OptionError, listed
from esp_medsam.image import Image, Segmentation, image_of, modality_of, segmentation_of
from esp_medsam.inferers.device import device_of
from esp_medsam.inferers.prompted import PromptedSlices
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.io.item import Item
from esp_medsam.io.preview import preview, shown_targets
from esp_medsam.io.record import file_names, read_record, record_of
from esp_medsam.io.result_plan import ResultPlanner
from esp_medsam.io.save import SaveSegmentationd
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.modality import Target
from esp_medsam.settings import given_settings
from esp_medsam.workflows.pipeline import build, read_config
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.segment import SegmentRun
from esp_medsam.workflows.weights import check_weights


MOST_NAMED = 5
"""Number of a folder's images that a message names."""


class Segmented(NamedTuple):
    """One image and its result.

    Attributes:
        request: The request.
        data: ``image``, ``pred`` (the labelmap) and ``probability``, as the pipeline left them.
        record: Record of how the result was made, without its files.
    """

    request: Request
    data: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def image(self) -> Image:
        """Metadata of the image."""
        return image_of(self.data["pred"].meta)

    @property
    def segmentation(self) -> Segmentation:
        """Metadata of the result."""
        return segmentation_of(self.data["pred"].meta)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Targets, in the order of the probabilities."""
        return self.request.table.select(modality_of(self.image), self.segmentation.targets)

    @property
    def labelmap(self) -> Tensor:
        """uint8, ``(1, *spatial)``."""
        labelmap: Tensor = self.data["pred"].as_tensor()
        return labelmap

    @property
    def probability(self) -> Tensor:
        """uint8, ``(T, *spatial)``."""
        probability: Tensor = self.data["probability"].as_tensor()
        return probability


def read_parts(request: Request) -> dict[str, Any]:
    """Read the weights of a request, for :func:`segment_one`.

    Raises:
        InputChangedError: If the weights file was replaced in the meantime.
        EspMedSamError: If the weights are not usable, or a setting is invalid.
    """
    parsed = read_config(request)
    settings = parsed.get_parsed_content("settings")
    weights = settings.ckpt_path
    check_weights(weights)
    device_of(settings.device)
    before = hash_of_weights(weights)
    parts = {name: parsed.get_parsed_content(name) for name in ("network", "calibration")}
    if hash_of_weights(weights) != before:
        msg = f"{weights} must stay what it is while it is read; it was replaced. Try again."
        raise InputChangedError(msg)
    return {**parts, "weights_sha256": before}


def prompt_one(request: Request, parts: Mapping[str, Any]) -> PromptedSlices:
    """Return the slices of the one image of a request, to be segmented by clicks and boxes.

    Args:
        request: The request; its ``dataset_dir`` holds one image.
        parts: What :func:`read_parts` returned.

    Raises:
        OptionError: If there are several images.
        EspMedSamError: If the image is refused, or cannot be read.
    """
    run = build(request, network=parts["network"], calibration=parts["calibration"])
    data = run.preprocessing({"image": _the_one(run)})
    assert isinstance(run.inferer, SliceWiseInferer), "the config's inferer is one"
    return PromptedSlices(run.inferer, run.network, data["image"])


def segment_one(
    request: Request,
    *,
    network: Any,
    calibration: Any,
    weights_sha256: str,
    on_slices: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Segment the one image of a request.

    Args:
        request: The request; its ``dataset_dir`` holds one image.
        network: Network with its weights.
        calibration: Calibration that was measured for the network, or None.
        weights_sha256: Hash of the weights when they were read.
        on_slices: Called after each batch with the number of slices that are done, and of all.

    Raises:
        OptionError: If there are several images.
        EspMedSamError: If the image is refused, or cannot be read.
    """
    run = build(request, network=network, calibration=calibration)
    if on_slices is not None:
        run.tell_slices(on_slices)
    data = run.preprocessing({"image": _the_one(run)})
    data["pred"] = run.inferer(data["image"][None], run.network)[0]
    for transform in run.postprocessing.transforms:  # type: ignore[attr-defined]  # a Compose
        if not isinstance(transform, SaveSegmentationd):
            data = transform(data)
    made = Segmented(request, data, {})
    run.outputs.weights_sha256 = weights_sha256
    return made._replace(record=_record(made, run.outputs))


def _the_one(run: SegmentRun) -> Item:
    """Return the one image that was planned."""
    items = []
    for step in run.plans.steps:
        if isinstance(step, Refusal):
            raise step.error
        items.append(step)
    if len(items) > 1:
        named = [item.label for item in items[:MOST_NAMED]]
        more = f", and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
        msg = f"source must be one image or volume; got {listed(named)}{more}. Pass one of them, "
        raise OptionError(msg + "of DICOM by series, or take esp-medsam segment for the folder.")
    return items[0]


def _record(made: Segmented, outputs: ResultPlanner) -> dict[str, Any]:
    image, segmentation = made.image, made.segmentation
    recipe = replace(outputs.plan(image, segmentation.targets).recipe, formats=())
    empty = not any(segmentation.voxels)
    record = record_of(recipe, image, segmentation, made.targets, empty=empty)
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))  # as in a file
    return plain


def save_one(made: Segmented, **given: Any) -> list[Path]:
    """Save a result, and return its files, the record last.

    Args:
        made: The result.
        given: Keys of ``inference.yaml`` that outputs depend on.

    Raises:
        EspMedSamError: As of :class:`~esp_medsam.io.save.SaveSegmentationd`.
    """
    settings = {**made.request.settings, **given_settings(given, made.request.table)}
    saver = read_config(replace(made.request, settings=settings)).get_parsed_content("saver")
    saver.outputs.weights_sha256 = made.record["weights_sha256"]  # the file may have changed
    saver(made.data)
    plan = saver.outputs.plan(made.image, made.segmentation.targets)
    written = read_record(plan.stem)
    assert written is not None, "it was written last"
    return [*(plan.stem.with_name(name) for name in file_names(written)), plan.record]


def draw_one(made: Segmented) -> PIL.Image.Image:
    """Return a picture of a result: contours over the image, with a legend."""
    return preview(
        made.data["image"].as_tensor().numpy(),
        made.labelmap.numpy(),
        made.image,
        shown_targets(made.targets, made.segmentation, made.image),
        made.record["settings"].get("slice_axis"),
    )
