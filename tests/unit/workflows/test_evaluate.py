from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.inferers import Inferer
from PIL import Image as PILImage

from esp_medsam.image import SEGMENTATION_KEY, Segmentation
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item, Mask
from esp_medsam.workflows.evaluate import CaseScorer


class BrightIsForeground(Inferer):
    """Give every target the image's own brightness as its probability."""

    def __init__(self, targets: list[str]) -> None:
        super().__init__()
        self.targets = targets

    def __call__(self, inputs: Any, network: Any, *args: Any, **kwargs: Any) -> Any:
        values = inputs.as_tensor()[:, :1].expand(-1, len(self.targets), -1, -1)
        segmentation = Segmentation(targets=tuple(self.targets), confidence=(), warnings=())
        return MetaTensor(values, meta={**inputs.meta, SEGMENTATION_KEY: segmentation})


@pytest.fixture
def item(tmp_path: Path) -> Item:
    image, mask = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    image[:8], mask[:4] = 200, 255
    PILImage.fromarray(image).save(tmp_path / "a.png")
    PILImage.fromarray(mask).save(tmp_path / "m.png")
    return Item.model_validate(
        {
            "image": str(tmp_path / "a.png"),
            "modality": "mri",
            "dataset": "made",
            "labels": {"glioma": [str(tmp_path / "m.png")]},
            "absent": ["left_ventricle"],
        }
    )


class TestCaseScorer:
    def test_scores_what_is_known_alone(self, item: Item, table: ModalityTable) -> None:
        names = [target.name for target in table["mri"].targets]

        scorer = CaseScorer(table=table, inferer=BrightIsForeground(names), network=None)
        scores = scorer.score(item)

        assert {score.target: (score.present, score.dice) for score in scores} == {
            "glioma": (True, pytest.approx(2 * 4 / (4 + 8))),
            "left_ventricle": (False, 0.0),
        }

    def test_pixels_of_which_nothing_is_known_count_on_neither_side(
        self, item: Item, tmp_path: Path, table: ModalityTable
    ) -> None:
        unknown = np.zeros((16, 16), np.uint8)
        unknown[2:6] = 255  # half of the truth, and half of what is found beside it
        PILImage.fromarray(unknown).save(tmp_path / "u.png")
        partly = item.model_copy(update={"unknown": (Mask(path=str(tmp_path / "u.png")),)})

        glioma, _ = CaseScorer(
            table=table,
            inferer=BrightIsForeground([target.name for target in table["mri"].targets]),
            network=None,
        ).score(partly)

        assert (glioma.true_voxels, glioma.voxels) == (2 * 16, 4 * 16)
        assert glioma.dice == pytest.approx(2 * 2 / (2 + 4))

    def test_nothing_found_where_nothing_is_counts_as_right(
        self, item: Item, table: ModalityTable
    ) -> None:
        PILImage.fromarray(np.zeros((16, 16), np.uint8)).save(item.image)

        scores = CaseScorer(
            table=table, inferer=BrightIsForeground(["left_ventricle"]), network=None
        ).score(item)

        assert [(score.target, score.dice) for score in scores] == [("left_ventricle", 1.0)]

    def test_states_errors_distances_and_what_they_are_in(
        self, item: Item, table: ModalityTable
    ) -> None:
        inferer = BrightIsForeground(["glioma", "left_ventricle"])

        found, alarm = CaseScorer(table=table, inferer=inferer, network=None, tolerance=3.0).score(
            item.model_copy(update={"patient": "p1"})
        )

        assert (found.unit, found.tolerance, found.error, found.patient) == ("px", 3.0, "", "p1")
        assert found.hd == pytest.approx(4.0)  # four rows too many
        assert (found.precision, found.recall, found.iou) == (0.5, 1.0, 0.5)
        assert found.surface_dice is not None
        assert 0 < found.surface_dice < 1
        assert (alarm.error, alarm.surface_dice, alarm.hd95) == ("false alarm", None, None)

    def test_nothing_found_of_a_target_that_is_there_is_missed(
        self, item: Item, table: ModalityTable
    ) -> None:
        PILImage.fromarray(np.zeros((16, 16), np.uint8)).save(item.image)
        there = item.model_copy(update={"absent": ()})

        (score,) = CaseScorer(
            table=table, inferer=BrightIsForeground(["glioma"]), network=None
        ).score(there)

        assert (score.error, score.dice, score.surface_dice, score.hd95) == ("missed", 0, 0, None)
        assert score.precision is None


class TestReleasedProtocol:
    def test_measures_at_its_own_size_and_says_so(self, item: Item, table: ModalityTable) -> None:
        (score,) = CaseScorer(
            table=table, inferer=BrightIsForeground(["glioma"]), network=None, protocol="released"
        ).score(item)

        # A quarter of the rows is true; half are found, and a bilinear edge moves a few.
        assert score.protocol == "released"
        assert score.unit == "px of 1024 x 1024"
        assert score.dice == pytest.approx(2 / 3, abs=0.02)
        assert score.hd == pytest.approx(256, abs=40)
        assert (score.surface_dice, score.hd95, score.tolerance) == (None, None, None)
