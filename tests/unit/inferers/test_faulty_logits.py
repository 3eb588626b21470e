"""What a network must not say, and what is done where memory does not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from esp_medsam.errors import (
    NetworkOutputError,
    NonFiniteError,
)
from esp_medsam.image import segmentation_of
from esp_medsam.modality import ModalityTable
from tests.support.inference import as_batch, blobs, build_inferer
from tests.support.networks import BrightIsForeground, Prediction


RAS = np.diag([1.0, 1.0, 3.0, 1.0])


class TestFaults:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_logits_that_are_not_finite_are_refused(
        self, table: ModalityTable, network: BrightIsForeground, value: float
    ) -> None:
        pixels = blobs((8, 8, 3)).astype(np.float32)
        network.scale.data.fill_(value)

        with pytest.raises(NonFiniteError, match=r"slice 0 of /data/a.png"):
            build_inferer(table)(as_batch(pixels, RAS, "mri"), network)

    def test_logits_that_are_all_the_same_are_refused(self, table: ModalityTable) -> None:
        """As zeros for weights give, or a dead layer of one target alone."""

        class Dead(BrightIsForeground):
            def decode(self, *arguments: Any) -> Prediction:
                logits = super().decode(*arguments).low_res_logits
                logits[:, 1] = -3.0
                return Prediction(logits)

        image = as_batch(blobs((12, 10, 6)), RAS, "mri")

        with pytest.raises(
            NetworkOutputError, match=r"for left_ventricle it.*all pixels of /data/a\.png"
        ):
            build_inferer(table, targets="all")(image, Dead(table))

    def test_f18_a_network_of_zeros_is_refused(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        network.scale.data.zero_()

        with pytest.raises(NetworkOutputError, match=r"for lungs it.*all pixels of /data/a\.png"):
            build_inferer(table)(as_batch(blobs((12, 10))), network)

    def test_padding_does_not_hide_logits_that_are_all_the_same(self, table: ModalityTable) -> None:
        class Padded(BrightIsForeground):
            def decode(self, encoded: Tensor, *arguments: Any) -> Prediction:
                return super().decode((encoded != 0).float(), *arguments)

        image = as_batch(blobs((12, 30)).clip(1))

        with pytest.raises(NetworkOutputError, match=r"for lungs .* of /data/a\.png"):
            build_inferer(table)(image, Padded(table, stride=4))

    def test_a_mask_that_is_empty_by_far_is_one(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        network.scale.data.fill_(1e5)

        result = build_inferer(table)(as_batch(blobs((12, 10)) // 3), network)

        assert not result.any()
        assert segmentation_of(result.meta).warnings == ()

    def test_slices_that_are_each_the_same_throughout_are_told_apart(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        pixels = np.zeros((1, 12, 10, 6), np.uint8) + np.arange(6, dtype=np.uint8)

        assert build_inferer(table)(as_batch(pixels, RAS, "mri"), network).shape == (
            1,
            3,
            12,
            10,
            6,
        )

    @pytest.mark.parametrize("shape", [(12, 10), (12, 10, 6)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_n19_a_constant_image_is_segmented_with_a_warning(
        self,
        table: ModalityTable,
        network: BrightIsForeground,
        shape: tuple[int, ...],
        channels: int,
    ) -> None:
        pixels = np.stack([np.full(shape, 9 * k, np.uint8) for k in range(channels)])

        result = build_inferer(table)(as_batch(pixels, RAS, "mri"), network)

        assert not (result >= 128).any()
        (warning,) = segmentation_of(result.meta).warnings
        assert warning.startswith("The image is constant")

    def test_f7_slice_batch_is_halved_where_memory_runs_out(
        self,
        table: ModalityTable,
        network: BrightIsForeground,
    ) -> None:
        class Small(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
                if len(image) > 1:
                    raise torch.OutOfMemoryError
                return super().encode(image, modality)

        image = as_batch(blobs((12, 10, 6)), RAS, "mri")

        result = build_inferer(table, slice_batch=4)(image, Small(table))

        expected = build_inferer(table)(image, network)
        assert torch.equal(result.as_tensor(), expected.as_tensor())
        assert segmentation_of(result.meta).warnings == (
            "Out of memory on cpu: went on with slice_batch=1 on cpu.",
        )

    def test_other_errors_of_the_network_are_not_swallowed(self, table: ModalityTable) -> None:
        class Broken(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
                msg = "sizes differ"
                raise RuntimeError(msg)

        with pytest.raises(RuntimeError, match="sizes differ"):
            build_inferer(table)(as_batch(blobs((9, 9))), Broken(table))
