from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from esp_medsam.image import segmentation_of
from esp_medsam.inferers.calibration import Calibration
from esp_medsam.inferers.plausibility import Plausibility, features_of
from esp_medsam.modality import ModalityTable
from tests.support.inference import as_batch, build_inferer


def encoded(features: Tensor) -> Any:
    return SimpleNamespace(pyramid=[features])


class TestFeatures:
    def test_are_mean_and_deviation_of_what_lies_inside(self) -> None:
        features = torch.zeros(2, 3, 4, 4)
        features[0, 1, :2, :3] = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

        found = features_of(encoded(features), [(16, 24), (32, 32)])

        assert found.shape == (2, 6)
        assert found[0].tolist() == pytest.approx([0, 3.5, 0, 0, np.std([1, 2, 3, 4, 5, 6]), 0])

    def test_do_not_depend_on_what_the_padding_holds(self) -> None:
        one = torch.rand(1, 3, 4, 4)
        other = one.clone()
        other[..., 3:, :] = 7.0
        other[..., 2:] = 9.0

        sizes = [(20, 16)]  # three rows begun, two columns
        assert torch.equal(features_of(encoded(one), sizes), features_of(encoded(other), sizes))


class TestScores:
    def test_are_squared_distances_from_the_nearest_center_by_the_limit(self) -> None:
        centers = {"ct": torch.tensor([[0.0, 0.0], [10.0, 0.0]]), "mri": torch.tensor([[5.0, 5.0]])}
        known = Plausibility(torch.eye(3)[:, :2], centers, 4.0)

        scores = known.scores(torch.tensor([[8.0, 1.0, 99.0], [0.0, 0.0, 0.0]]), "ct")

        assert scores.tolist() == pytest.approx([(2**2 + 1) / 4, 0.0])
        with pytest.raises(KeyError):
            known.scores(torch.zeros(1, 3), "xray")


class Gray(nn.Module):
    """A network that sees how bright an image is, and says that all of it is the target."""

    def __init__(self, table: ModalityTable) -> None:
        super().__init__()
        self.modalities, self.targets = table.indices, table.target_names
        self.nothing = nn.Parameter(torch.zeros(1))

    def encode(self, image: Tensor, modality: Tensor) -> Any:
        pooled = nn.functional.avg_pool2d(image[:, :1], 8)
        return SimpleNamespace(pyramid=[pooled], image=image)

    def decode(self, encoded: Any, modality: Tensor, targets: list[int], prompt: None) -> Any:
        logits = 9.0 * encoded.image[:, :1].repeat(1, len(targets), 1, 1)
        return SimpleNamespace(low_res_logits=logits)


def segmented(table: ModalityTable, gray: list[int], **options: Any) -> MetaTensor:
    """Segment a stack of slices, each of one gray with a ramp of eight over it."""
    ramp = np.linspace(0, 8, 32, dtype=np.uint8)[:, None, None]
    array = np.array(gray, np.uint8)[None, None, :] + ramp + np.zeros((1, 32, 1), np.uint8)
    image = as_batch(array[None], np.diag([1.0, 1.0, 5.0, 1.0]), "mri")
    return build_inferer(table, **options)(image, Gray(table))


class TestInference:
    @pytest.fixture
    def calibration(self) -> Calibration:
        centers = {"mri": torch.tensor([[0.5, 0.0]])}  # half bright
        return Calibration(Plausibility(torch.eye(2), centers, 0.1**2))

    def test_an_image_unlike_those_learned_from_is_told_and_segmented_all_the_same(
        self, table: ModalityTable, calibration: Calibration
    ) -> None:
        like = segmented(table, [120] * 3, calibration=calibration)
        unlike = segmented(table, [240] * 3, calibration=calibration)
        unsaid = segmented(table, [240] * 3)

        assert segmentation_of(like.meta).plausibility == pytest.approx(0.0, abs=0.1)
        assert not segmentation_of(like.meta).warnings
        score = segmentation_of(unlike.meta).plausibility
        assert score is not None
        assert score > 10
        (warning,) = segmentation_of(unlike.meta).warnings
        told = f"unlike the mri images that the weights were trained on (plausibility {score:.1f}"
        assert told in warning
        assert "check the modality and the body part" in warning
        assert segmentation_of(unsaid.meta).plausibility is None
        assert torch.equal(unlike.as_tensor(), unsaid.as_tensor())

    def test_some_slices_at_the_ends_of_a_volume_do_not_count(
        self, table: ModalityTable, calibration: Calibration
    ) -> None:
        ends = segmented(table, [0, 0, 120, 124, 120, 122, 250], calibration=calibration)

        assert not segmentation_of(ends.meta).warnings

    def test_nothing_is_said_of_a_modality_that_was_not_measured(
        self, table: ModalityTable, calibration: Calibration
    ) -> None:
        other = calibration.plausibility._replace(centers={"ct": torch.zeros(1, 2)})

        result = segmented(table, [240] * 3, calibration=Calibration(other))

        assert segmentation_of(result.meta).plausibility is None
