from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.workflows.case_score import TargetScore
from esp_medsam.workflows.confidence_curves import confidence_curves


def scores(
    pairs: list[tuple[float | None, float]], target: str = "liver", modality: str = "ct"
) -> list[TargetScore]:
    return [
        TargetScore("a", modality, target, f"{n}.png", True, dice, dice, 1, 1, confidence=value)
        for n, (value, dice) in enumerate(pairs)
    ]


class TestConfidenceCurves:
    @pytest.mark.parametrize(
        ("dices", "curve"),
        [
            (
                [(0.6, 0.0), (0.6, 0.4), (0.8, 0.7), (0.9, 0.9)],
                [(0.6, 0.2), (0.8, 0.7), (0.9, 0.9)],
            ),
            # 0.7 lies between.
            (
                [(0.6, 0.8), (0.7, 0.4), (0.8, 0.6), (0.9, 1.0)],
                [(0.6, 0.6), (0.8, 0.6), (0.9, 1.0)],
            ),
        ],
    )
    def test_are_the_means_where_these_rise_and_flat_where_they_fall(
        self, dices: list[tuple[float | None, float]], curve: list[tuple[float, float]]
    ) -> None:
        assert confidence_curves(scores(dices * 5))["ct"]["liver"] == curve

    def test_leave_out_masks_that_are_empty(self) -> None:
        pairs: list[tuple[float | None, float]] = [(None, 1.0)] * 30
        assert confidence_curves(scores(pairs)) == {}

    def test_of_few_cases_are_those_of_the_modality_or_of_all(self) -> None:
        many = scores([(0.9, 0.9)] * 30)
        few = scores([(0.9, 0.3)] * 5, "pancreas")
        other = scores([(0.9, 0.1)] * 5, "lungs", "xray")

        curves = confidence_curves([*many, *few, *other])

        assert curves["ct"]["liver"] == [(0.9, 0.9)]
        assert curves["ct"]["pancreas"] == [(0.9, round((27 + 1.5) / 35, 4))]
        assert curves["xray"]["lungs"] == [(0.9, pytest.approx((27 + 1.5 + 0.5) / 40, abs=1e-4))]

    @given(
        st.lists(
            st.tuples(st.floats(0.5, 1.0).map(lambda value: round(value, 2)), st.floats(0.0, 1.0)),
            min_size=20,
            max_size=60,
        )
    )
    def test_rise_lie_within_what_they_were_learned_from_and_keep_the_mean(
        self, pairs: list[tuple[float | None, float]]
    ) -> None:
        curve = confidence_curves(scores(pairs))["ct"]["liver"]

        known, dice = (np.array(each) for each in zip(*curve, strict=True))
        confidence = np.array([value for value, _ in pairs], float)
        assert (np.diff(known) > 0).all()
        assert (np.diff(dice) >= 0).all()
        assert (known[0], known[-1]) == (confidence.min(), confidence.max())
        mean = np.interp(confidence, known, dice).mean()
        assert mean == pytest.approx(np.mean([value for _, value in pairs]), abs=1e-3)
