"""The released network reproduces the released code's numbers.

``reference/delightsam_seed1.npz`` was made by the released code (github.com/xq141839/De-LightSAM at
d2260d7) on the CPU in float32, from the state dict and image that ``reference/weights.py`` draws
for seed 1. Every tensor there is synthetic. The tolerance is that of float32 sums in another order
over an encoder and a decoder, ten times what was measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from esp_medsam.networks.builders import RELEASED_MODALITIES
from esp_medsam.networks.checkpoints import from_delightsam, to_delightsam
from tests.parity.reference import weights


REFERENCE = Path(__file__).parent / "reference"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def state_dict() -> dict[str, Tensor]:
    drawn = weights.state_dict(REFERENCE / "delightsam_keys.json", 1)
    return {
        key: torch.as_tensor(array) if array.dtype == np.int64 else torch.tensor(array).float()
        for key, array in drawn.items()
    }


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(weights.image(1024, 1))


@pytest.fixture(scope="module")
def reference() -> dict[str, npt.NDArray[np.float32]]:
    with np.load(REFERENCE / "delightsam_seed1.npz") as arrays:
        return dict(arrays)


def greatest_difference(actual: Tensor, expected: npt.NDArray[np.float32]) -> float:
    assert tuple(actual.shape) == expected.shape
    return float(np.abs(actual.numpy() - expected).max())


class TestReleasedNetwork:
    @pytest.mark.parametrize("modality", RELEASED_MODALITIES)
    def test_gives_the_released_numbers(
        self,
        modality: str,
        state_dict: dict[str, Tensor],
        image: Tensor,
        reference: dict[str, npt.NDArray[np.float32]],
    ) -> None:
        index = RELEASED_MODALITIES[modality]
        network = from_delightsam(state_dict, modality)

        with torch.inference_mode():
            prediction = network.predict(image, torch.tensor([index]))

        embedding = prediction.image_embedding[0, :, ::4, ::4]
        low_res_logits = prediction.low_res_logits[0, 0, ::2, ::2]
        assert prediction.patch_logits.shape == (1, 1, 32, 32)
        assert prediction.low_res_logits.shape == (1, 1, 256, 256)
        assert greatest_difference(embedding, reference["image_embedding"]) < TOLERANCE
        assert (
            greatest_difference(prediction.patch_logits[0, 0], reference["patch_logits"])
            < TOLERANCE
        )
        assert greatest_difference(low_res_logits, reference["low_res_logits"][index]) < TOLERANCE

    @pytest.mark.parametrize("modality", ["dermoscopy", "fundus", "endoscopy"])
    def test_gives_the_released_masks_without_being_told_the_modality(
        self,
        modality: str,
        state_dict: dict[str, Tensor],
        image: Tensor,
        reference: dict[str, npt.NDArray[np.float32]],
    ) -> None:
        place = list(reference["domains"]).index(RELEASED_MODALITIES[modality])
        network = from_delightsam(state_dict, modality)

        with torch.inference_mode():
            logits = network(image)

        expected = reference["mask_logits_sample"][place]
        assert logits.shape == (1, 1, 1024, 1024)
        assert greatest_difference(logits[0, 0, ::16, ::16], expected) < TOLERANCE

    def test_state_dict_comes_back_exactly(self, state_dict: dict[str, Tensor]) -> None:
        returned = to_delightsam(from_delightsam(state_dict, "microscopy"), "microscopy")

        assert set(returned) == set(state_dict)
        assert all(returned[key].shape == value.shape for key, value in state_dict.items())
        assert all(torch.equal(returned[key], value) for key, value in state_dict.items())
