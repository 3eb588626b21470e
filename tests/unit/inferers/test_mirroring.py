"""Slices asked of mirrored too, where a modality's images may be, and averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.image import segmentation_of
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import Prediction
from esp_medsam.transforms.augmentation import mirrors_of
from tests.support.inference import as_batch, build_inferer


def picture(modality: str, shape: tuple[int, int] = (37, 52)) -> MetaTensor:
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    return as_batch(pixels, modality=modality)


class Stub:
    """A network whose logits and presence logits are functions of its input; counts its calls."""

    def __init__(self, table: ModalityTable, logits: Any, presence: Any = None) -> None:
        self.modalities, self.targets = table.indices, table.target_names
        self.logits, self.presence = logits, presence
        self.inputs: list[Tensor] = []

    def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
        self.inputs.append(image)
        return image

    def decode(
        self, encoded: Tensor, modality: Tensor | None, targets: list[int], patch_prompt: None
    ) -> Prediction:
        masks = self.logits(encoded).expand(-1, len(targets), -1, -1)
        presence = None if self.presence is None else self.presence(encoded)[:, None]
        return Prediction(masks, masks, encoded, presence)


def brightness(image: Tensor) -> Tensor:
    return 10 * (image.mean(1, keepdim=True) - 0.5)


def column(image: Tensor) -> Tensor:
    """Rises from left to right, whatever is seen."""
    return torch.linspace(-3, 3, image.shape[-1]).expand(len(image), 1, *image.shape[-2:])


def segment(table: ModalityTable, image: MetaTensor, network: Stub, **options: Any) -> MetaTensor:
    settings = {"input_size": (64, 64), "targets": "all", "flips": True, **options}
    return build_inferer(table, **settings)(image, network)


class TestFlips:
    @pytest.mark.parametrize("input_size", [(64, 64), "native"])
    @pytest.mark.parametrize("modality", ["dermoscopy", "ultrasound"])
    def test_change_nothing_where_the_network_says_the_same_of_a_mirrored_view(
        self, table: ModalityTable, modality: str, input_size: Any
    ) -> None:
        image, network = picture(modality), Stub(table, brightness)

        once = segment(table, image, network, flips=False, input_size=input_size)
        mirrored = segment(table, image, network, input_size=input_size)

        difference = (once.as_tensor().int() - mirrored.as_tensor().int()).abs()
        assert difference.max() <= 1  # the last bits of scaling, rounded to another byte

    @pytest.mark.parametrize(
        ("modality", "calls"),
        [("ct", 1), ("mri", 1), ("xray", 1), ("ultrasound", 2), ("fundus", 4), ("endoscopy", 4)],
    )
    def test_are_those_that_training_shows_the_modality_in(
        self, table: ModalityTable, modality: str, calls: int
    ) -> None:
        network = Stub(table, brightness)

        segment(table, picture(modality), network)

        assert len(network.inputs) == calls
        first = network.inputs[0][..., :46, :64]
        for axes, other in zip(mirrors_of(modality), network.inputs[1:], strict=True):
            assert torch.allclose(other[..., :46, :64], first.flip(axes), atol=1e-6)

    @pytest.mark.parametrize("modality", ["ct", "mri", "xray"])
    def test_say_that_they_do_nothing_where_left_and_right_mean_something(
        self, table: ModalityTable, modality: str
    ) -> None:
        image, network = picture(modality), Stub(table, column)

        result = segment(table, image, network)

        assert torch.equal(
            result.as_tensor(), segment(table, image, network, flips=False).as_tensor()
        )
        (warning,) = segmentation_of(result.meta).warnings
        assert warning == f"Flips had no effect: images of {modality} are never mirrored."

    def test_average_what_the_network_says_of_each_view(self, table: ModalityTable) -> None:
        network = Stub(table, column)

        result = segment(table, picture("ultrasound", (64, 64)), network).as_tensor()

        one = column(torch.zeros(1, 3, 64, 64)).sigmoid()
        expected = 255 * (one + one.flip(-1)) / 2
        assert (result[0, :1].float() - expected).abs().max() <= 1

    def test_average_the_presence_too(self, table: ModalityTable) -> None:
        def left_is_bright(image: Tensor) -> Tensor:
            half = image.shape[-1] // 2
            return 50 * (image[..., :half].mean((1, 2, 3)) - image[..., half:].mean((1, 2, 3)))

        image = picture("ultrasound", (64, 64))
        image[..., :32] = 0  # alone, the slice would be called empty; mirrored, present
        network = Stub(table, lambda seen: 40.0 + brightness(seen), left_is_bright)

        once = segment(table, image, network, flips=False, presence_threshold=0.4)
        both = segment(table, image, network, presence_threshold=0.4)

        assert not once.any()
        assert both.as_tensor().min() == 255
