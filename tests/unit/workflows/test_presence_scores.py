from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor

from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.train import PresenceScores


class Said(NamedTuple):
    presence_logits: Tensor


def metrics_of(
    table: ModalityTable, presence_logits: Tensor, annotation: Annotation, modality: list[int]
) -> dict[str, Any]:
    def output(engine: Engine, batch: dict[str, Tensor]) -> dict[str, Any]:
        return {"pred": Said(presence_logits), "label": annotation}

    engine = Engine(output)
    PresenceScores(table).attach(engine)
    for _ in range(2):  # each run begins anew
        engine.run([{"modality": torch.tensor(modality)}])
    return engine.state.metrics


@pytest.fixture
def annotation() -> Annotation:
    """Two slices of CT and one of MRI; in the first two lies the first of three targets."""
    mask = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    mask[:2, 0, 1] = 1
    known = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    return Annotation(mask, known, torch.ones(3, 1, 4, 4, dtype=torch.bool))


class TestPresenceScores:
    def test_are_shares_of_present_and_of_absent_targets_by_modality(
        self, table: ModalityTable, annotation: Annotation
    ) -> None:
        said = torch.tensor([[2.0, 1.0, 9.0], [-1.0, -3.0, -0.1], [-5.0, 9.0, 9.0]])

        found = metrics_of(table, said, annotation, [6, 6, 7])

        assert found == pytest.approx(
            {"present_kept_ct": 1 / 2, "absent_emptied_ct": 2 / 3, "absent_emptied_mri": 1.0}
        )

    def test_a_target_that_may_lie_where_nothing_is_labeled_counts_in_neither(
        self, table: ModalityTable, annotation: Annotation
    ) -> None:
        assert annotation.labeled is not None
        annotation.labeled[:, :, 3] = False

        found = metrics_of(table, torch.ones(3, 3), annotation, [6, 6, 7])

        assert found == {"present_kept_ct": 1.0}

    def test_rows_beyond_the_prediction_are_passed_over(
        self, table: ModalityTable, annotation: Annotation
    ) -> None:
        assert metrics_of(table, -torch.ones(3, 1), annotation, [6, 6, 7]) == {
            "present_kept_ct": 0.0,
            "absent_emptied_mri": 1.0,
        }

    def test_networks_without_presence_have_none(
        self, table: ModalityTable, annotation: Annotation
    ) -> None:
        assert metrics_of(table, torch.zeros(3, 0), annotation, [6, 6, 7]) == {}
