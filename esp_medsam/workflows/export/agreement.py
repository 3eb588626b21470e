"""How an exported file agrees with the network it was made from, on images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esp_medsam.image import image_of
from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.runtimes.agreement import phantom
from esp_medsam.runtimes.export_formats import Run
from esp_medsam.runtimes.modality_graph import ModalityGraph
from esp_medsam.workflows.segment import SegmentRun


MOST_SLICES = 20
"""Slices, or pictures, that are compared: evenly spread over each volume."""


class Comparison(NamedTuple):
    """What was compared.

    Attributes:
        slices: Number of slices.
        difference: Largest difference of a probability.
        dice: Least Dice of a target's mask in a slice, of masks that are not empty in both.
        masks: Number of masks that are not empty in both.
        is_drawn: Whether the only image was drawn, because none was given.
    """

    slices: int
    difference: float
    dice: float
    masks: int
    is_drawn: bool

    @property
    def text(self) -> str:
        """The measurement in words."""
        count = "1 slice or picture" if self.slices == 1 else f"{self.slices} slices or pictures"
        what = "a drawn picture" if self.is_drawn else count
        masks = f"least Dice of masks {self.dice:.4f}" if self.masks else "there is no mask"
        return f"on {what}, probabilities differ by at most {self.difference:.1e}; {masks}"


def inputs_of(
    run: SegmentRun | None, graph: ModalityGraph, size: tuple[int, int]
) -> Iterator[Tensor]:
    """Yield inputs of the graph: slices of the images of a run, or without a run a drawn picture.

    Args:
        run: The run; its images are read and prepared as it would.
        graph: The graph.
        size: ``(H, W)`` of the input.
    """
    if run is None:
        yield (phantom(*size) * graph.deviation + graph.mean).clamp(0, 1)
        return
    inferer = run.inferer
    assert isinstance(inferer, SliceWiseInferer), "another was refused"
    items = list(run.plans.items)
    each = max(1, MOST_SLICES // max(1, len(items)))
    for item in items[:MOST_SLICES]:
        image = run.preprocessing({"image": item})["image"]
        slices = Slices(image.as_tensor(), image_of(image.meta), transforms=inferer.transforms)
        for place in np.linspace(0, len(slices) - 1, min(each, len(slices))).round().astype(int):
            shown, _ = inferer.input_of([slices[int(place)]], slices.spacing, torch.device("cpu"))
            yield shown * graph.deviation + graph.mean


def compared(
    graph: ModalityGraph, run: Run, inputs: Iterator[Tensor], *, is_drawn: bool
) -> Comparison:
    """Compare a file with the graph it was made from.

    Args:
        graph: The graph.
        run: Computes the file.
        inputs: Inputs of the graph.
        is_drawn: Whether they are one drawn picture.
    """
    difference, dice, masks, count = 0.0, 1.0, 0, 0
    for image in inputs:
        with torch.no_grad():
            expected = [each.numpy() for each in graph(image)]
        found = run(image.contiguous().numpy())
        count += 1
        for one, other in zip(expected, found, strict=True):
            largest = float(np.abs(one - other).max())
            difference = max(difference, largest if largest == largest else np.inf)
        scores = _dice_of(expected[0][0] >= 0.5, found[0][0] >= 0.5)
        masks += len(scores)
        dice = min([dice, *scores])
    return Comparison(count, difference, dice, masks, is_drawn)


def _dice_of(masks: np.ndarray, others: np.ndarray) -> Sequence[float]:
    pairs = zip(masks, others, strict=True)
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs if a.any() or b.any()]
