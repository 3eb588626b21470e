"""Slices that lack a target get no mask of it, where the network says which those are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.image import segmentation_of
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, Prediction, build_product
from tests.support.inference import as_batch, build_inferer


@pytest.fixture
def volume() -> MetaTensor:
    """Six slices of noise, each brighter than the one before."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (1, 32, 32, 6)) + 25 * np.arange(6)
    return as_batch(pixels.astype(np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]), "mri")


class AllThere(nn.Module):
    """A network whose mask of every target is the whole slice.

    Its presence logits are those of ``probability`` for each target, or, without, rise with the
    slice's brightness.
    """

    def __init__(self, table: ModalityTable, probability: list[float] | None = None) -> None:
        super().__init__()
        self.modalities, self.targets = table.indices, table.target_names
        self.logits = None if probability is None else torch.logit(torch.tensor(probability))
        self.anchor = nn.Parameter(torch.zeros(1))

    def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
        return image

    def decode(
        self, encoded: Tensor, modality: Tensor | None, targets: list[int], patch_prompt: None
    ) -> Prediction:
        masks = 3.0 + encoded.mean(1, keepdim=True).expand(-1, len(targets), -1, -1)
        brightness = encoded.mean((1, 2, 3))[:, None].expand(-1, len(targets))
        presence = 100 * (brightness - 0.5)
        if self.logits is not None:
            presence = self.logits[targets].expand(len(encoded), -1)
        return Prediction(masks, masks[..., :1, :1], encoded, presence)


def segment(table: ModalityTable, image: MetaTensor, network: Any, **options: Any) -> Tensor:
    return build_inferer(table, **{"targets": "all", **options})(image, network)


class TestPresence:
    def test_smoothing_puts_no_mask_into_a_slice_without_the_target(
        self, table: ModalityTable, volume: MetaTensor
    ) -> None:
        network = AllThere(table)

        plain = segment(table, volume, network)
        smooth = segment(table, volume, network, slice_smoothing=6.0)

        for kept in (plain, smooth):
            found = (kept.as_tensor()[0, 0] > 0).any(0).any(0)
            assert found.any()
            assert not found.all()
            assert torch.equal(found, (plain.as_tensor()[0, 0] > 0).any(0).any(0))

    @pytest.mark.parametrize("slice_batch", [1, 4])
    def test_slices_that_lack_the_targets_get_no_mask_and_others_the_same_bits(
        self, table: ModalityTable, volume: MetaTensor, slice_batch: int
    ) -> None:
        network = AllThere(table)

        gated = segment(table, volume, network, slice_batch=slice_batch)
        plain = segment(table, volume, network, presence_threshold=0)

        assert gated.dtype == torch.uint8
        # Their means are 50, 75 and so on of 255.
        assert gated.flatten(1, -2).amax(1)[0].bool().tolist() == [False] * 4 + [True] * 2
        assert torch.equal(gated[..., 4:].as_tensor(), plain[..., 4:].as_tensor())
        assert (plain >= 128).all()

    def test_each_target_is_asked_alone_in_the_order_of_the_table(
        self, table: ModalityTable, volume: MetaTensor
    ) -> None:
        names = table.target_names["mri"]
        network = AllThere(table, [0.9, 0.1, *[0.9] * (len(names) - 2)])

        some = segment(table, volume, network, targets=[names[2], names[1]])

        assert [bool(mask.any()) for mask in some[0]] == [False, True]
        told = segmentation_of(some.meta)
        assert told.targets == (names[1], names[2])
        assert told.confidence[0] is None

    @pytest.mark.parametrize(("threshold", "kept"), [(0, True), (0.3, True), (0.31, False)])
    def test_the_threshold_is_of_the_probability(
        self, table: ModalityTable, volume: MetaTensor, threshold: float, kept: bool
    ) -> None:
        network = AllThere(table, [0.3001] * len(table.target_names["mri"]))

        found = segment(table, volume, network, presence_threshold=threshold)

        assert bool(found.any()) is kept

    def test_presence_that_is_not_finite_is_refused(
        self, table: ModalityTable, volume: MetaTensor
    ) -> None:
        network = AllThere(table, [float("nan")] * len(table.target_names["mri"]))

        with pytest.raises(NonFiniteError, match="logits must be finite"):
            segment(table, volume, network)

    @pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
    def test_a_threshold_that_is_none_is_refused(self, table: ModalityTable, value: float) -> None:
        with pytest.raises(OptionError, match=r"presence_threshold must be from 0.* to 1;"):
            build_inferer(table, presence_threshold=value)


class TestOwnNetwork:
    @pytest.fixture
    def network(self, table: ModalityTable) -> ESPMedSAM:
        targets = {"mri": table.target_names["mri"]}
        network = build_product({"mri": 7}, targets, expert_ratio=0.1, presence=True)
        return network.eval().requires_grad_(False)

    def test_heads_that_say_no_empty_the_mask_and_heads_that_say_yes_change_no_bit(
        self, table: ModalityTable, volume: MetaTensor, network: ESPMedSAM
    ) -> None:
        heads = list(network.presence.heads["mri"].values())
        plain = segment(table, volume, network, presence_threshold=0).as_tensor()
        assert plain.flatten(2).amax(2).all()
        for number, head in enumerate(heads):
            head.weight.zero_()
            head.bias.fill_(10.0 if number else -10.0)

        gated = segment(table, volume, network).as_tensor()

        assert not gated[0, 0].any()
        assert torch.equal(gated[0, 1:], plain[0, 1:])

    def test_no_heads_and_any_threshold_change_no_bit(
        self, table: ModalityTable, volume: MetaTensor, network: ESPMedSAM
    ) -> None:
        plain = segment(table, volume, network, presence_threshold=0).as_tensor()
        network.presence = None

        without = segment(table, volume, network, presence_threshold=1).as_tensor()

        assert torch.equal(without, plain)
