"""Masks from clicks and boxes: slices are encoded once, and decoded again for each prompt.

A click switches the patch that it lies in on or off, and a box switches on its patches and off all
others; other patches stay as the network's own prompt generator has them. How far masks follow
depends on the weights: see ``simulated_clicks`` of ``train.yaml``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.image import Image, image_of, modality_of
from esp_medsam.inferers.network_output import places_in
from esp_medsam.inferers.preparation import Slices, View
from esp_medsam.inferers.resizing import to_probability
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.networks.prompt_generator import PATCH
from esp_medsam.orientation import Display


KEPT_SLICES = 16
"""Number of slices whose encoding is kept; at 448 x 448 each takes 30 MB."""


class Click(NamedTuple):
    """A voxel that a user marked.

    Attributes:
        voxel: Its index along each axis of the image's file.
        is_inside: Whether it is inside the target.
    """

    voxel: tuple[int, ...]
    is_inside: bool = True


class Box(NamedTuple):
    """A box around a target in one slice.

    Attributes:
        first: Index of one of its corner voxels along each axis of the image's file.
        last: Index of the opposite corner voxel.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]


class Pixel(NamedTuple):
    """A voxel as it is shown.

    Attributes:
        slice: Index of its slice.
        row: Its row in the slice as shown.
        column: Its column.
    """

    slice: int
    row: int
    column: int


def pixel_of(voxel: Sequence[int], shape: Sequence[int], display: Display) -> Pixel:
    """Return where a voxel is shown.

    Args:
        voxel: Its index along each axis of the array.
        shape: Voxels along each axis.
        display: How the array is sliced and shown.

    Raises:
        OptionError: If the image has no such voxel.
    """
    if len(voxel) != len(shape) or any(not 0 <= v < n for v, n in zip(voxel, shape, strict=True)):
        size, given = (" x ".join(map(str, each)) for each in (shape, voxel))
        msg = f"A click must lie in the image, which has {size} voxels; got {given}."
        raise OptionError(msg)
    axis = display.slice_axis
    place, sides = ([n for k, n in enumerate(each) if k != axis] for each in (voxel, shape))
    # As Display.turn does: transposed first, then flipped.
    if display.transpose:
        place.reverse()
        sides.reverse()
    (row, column), (rows, columns) = place, sides
    row = rows - 1 - row if display.flip_rows else row
    column = columns - 1 - column if display.flip_columns else column
    return Pixel(0 if axis is None else voxel[axis], row, column)


class _Encoded(NamedTuple):
    """A slice in the network: its view, the size of its content, and the encoder's output."""

    view: View
    size: tuple[int, int]
    input_size: tuple[int, int]
    features: Any


class PromptedSlices:
    """One image, of which slices are segmented by clicks and boxes.

    Presence is not asked: who clicks sees whether the target is there.

    Args:
        inferer: How images become the network's input.
        network: An object with ``encode``, ``decode``, ``modalities`` and ``targets``.
        image: Pixels ``(C, *spatial)`` with the image's record, whose intensities were measured.

    Raises:
        ModalityError: If the network does not have the modality.
    """

    def __init__(self, inferer: SliceWiseInferer, network: Any, image: MetaTensor) -> None:
        self.inferer = inferer
        self.network = network
        self.record: Image = image_of(image.meta)
        self.slices = Slices(
            image.as_tensor(),
            self.record,
            transforms=inferer.transforms,
            slice_axis=inferer.slice_axis,
        )
        self.shape = tuple(image.shape[1:])
        self._encoded: OrderedDict[int, _Encoded] = OrderedDict()

    def pixel(self, voxel: Sequence[int]) -> Pixel:
        """Return where a voxel is shown; errors as for :func:`pixel_of`."""
        return pixel_of(voxel, self.shape, self.slices.display)

    def segment(
        self,
        target: str,
        prompts: Sequence[Click | Box],
        on_slices: Callable[[int, int], None] | None = None,
    ) -> dict[int, Tensor]:
        """Return the probability of a target in each slice that a prompt lies in.

        Args:
            target: Name of the target.
            prompts: Clicks and boxes, the later ones over the earlier ones.
            on_slices: Called before each slice with the number of slices that are done, and of all.

        Returns:
            By the slice's index: uint8 ``(rows, columns)`` of the slice in the order of the file,
            255 times the probability.

        Raises:
            OptionError: If a prompt lies outside the image, or a box in several slices.
            TargetError: If the network does not have the target.
            NonFiniteError: If the network's output is not finite.
        """
        by_slice: dict[int, list[Click | Box]] = {}
        for prompt in prompts:
            voxel = prompt.voxel if isinstance(prompt, Click) else prompt.first
            index = self.pixel(voxel).slice
            if isinstance(prompt, Box) and self.pixel(prompt.last).slice != index:
                msg = "A box must lie in one slice; its corners lie in two."
                raise OptionError(msg)
            by_slice.setdefault(index, []).append(prompt)
        found: dict[int, Tensor] = {}
        for index, own in by_slice.items():
            if on_slices is not None:
                on_slices(len(found), len(by_slice))
            found[index] = self._probability(index, target, own)
        return found

    def automatic(self, target: str, index: int) -> Tensor:
        """Return the probability of a target in a slice without a prompt, as :meth:`segment` does.

        Raises:
            TargetError: If the network does not have the target.
        """
        return self._probability(index, target, ())

    def _probability(self, index: int, target: str, prompts: Sequence[Click | Box]) -> Tensor:
        encoded = self._encode(index)
        modality, places = places_in(self.network, self._modality, [target])
        prompt = self._switched(encoded, prompts)
        number = torch.tensor([modality], device=prompt.device)
        with torch.no_grad():
            decoded = self.network.decode(encoded.features, number, places, prompt)
        logits, size = decoded.low_res_logits.float(), encoded.view.size
        if not torch.isfinite(logits).all():  # NaN > 0 is False: the mask would silently be empty
            msg = f"The network's logits must be finite; got NaN or infinity in slice {index}."
            raise NonFiniteError(msg)
        (probability,) = to_probability(logits, encoded.size, encoded.input_size, size)
        turned: Tensor = self.slices.display.turn_back(encoded.view.put_back(probability))
        return turned[0]

    @property
    def _modality(self) -> str:
        return modality_of(self.record)

    def _encode(self, index: int) -> _Encoded:
        """Return a slice's encoding, from before if it was among the last ones."""
        if index in self._encoded:
            self._encoded.move_to_end(index)
            return self._encoded[index]
        view = self.slices[index]
        device = next(self.network.parameters()).device
        image, (size,) = self.inferer.input_of([view], self.slices.spacing, device)
        number = torch.tensor([self.network.modalities[self._modality]], device=device)
        with torch.no_grad():
            features = self.network.encode(image, number)
        whole = (int(image.shape[-2]), int(image.shape[-1]))
        self._encoded[index] = _Encoded(view, size, whole, features)
        if len(self._encoded) > KEPT_SLICES:
            self._encoded.popitem(last=False)
        return self._encoded[index]

    def _switched(self, encoded: _Encoded, prompts: Sequence[Click | Box]) -> Tensor:
        """Return what prompts say of patches, ``(1, 1, h, w)``; NaN where they say nothing."""
        height, width = (-(-side // PATCH) for side in encoded.input_size)
        device = next(self.network.parameters()).device
        prompt = torch.full((1, 1, height, width), torch.nan, device=device)
        for each in prompts:
            if isinstance(each, Click):
                row, column = self._patch(each.voxel, encoded)
                prompt[0, 0, row, column] = float(each.is_inside)
                continue
            corners = np.array([self._patch(each.first, encoded), self._patch(each.last, encoded)])
            (top, left), (bottom, right) = corners.min(0), corners.max(0)
            prompt.zero_()
            prompt[0, 0, top : bottom + 1, left : right + 1] = 1.0
        return prompt

    def _patch(self, voxel: Sequence[int], encoded: _Encoded) -> tuple[int, int]:
        """Return the patch that a voxel lies in; of one outside the view, the nearest."""
        pixel = self.pixel(voxel)
        places = (pixel.row, pixel.column)
        patch = []
        for place, part, side, size in zip(
            places, encoded.view.box, encoded.view.size, encoded.size, strict=True
        ):
            inside = min(max(place - part.start, 0), side - 1)
            patch.append(int((inside + 0.5) * size / side) // PATCH)
        return patch[0], patch[1]
