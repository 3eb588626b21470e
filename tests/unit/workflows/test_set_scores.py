from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.train import SetScores


def batch(places: list[int], modality: int, dataset: str) -> dict[str, Any]:
    return {
        "slice": torch.tensor(places),
        "modality": torch.tensor([modality] * len(places)),
        "dataset": [dataset] * len(places),
    }


class TestSetScores:
    def test_are_means_by_modality_and_set_over_slices_that_hold_a_target(
        self, table: ModalityTable
    ) -> None:
        truth = torch.zeros(2, 2, 4, 4)
        truth[0, 0, :2] = 1  # the other slice holds nothing
        half = truth.clone()
        half[0, 0, 1] = 0

        def output(engine: Engine, data: dict[str, Any]) -> tuple[Tensor, Tensor]:
            return (truth if data["dataset"][0] == "good" else half), truth

        scores = SetScores(table, lambda pair: pair)
        engine = Engine(output)
        scores.attach(engine)
        data = [batch([2, 3], 6, "good"), batch([0, 1], 6, "half"), batch([4, 5], 1, "half")]

        for _ in range(2):  # each run begins anew
            engine.run(data)

        assert engine.state.metrics == pytest.approx(
            {"dice_ct": (1 + 2 / 3) / 2, "dice_xray": 2 / 3}
        )
        assert scores.by_set() == pytest.approx({"good": 1.0, "half": 2 / 3})
        assert [score.place for score in scores.scores] == [0, 2, 4]
