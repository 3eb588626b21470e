from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from esp_medsam.workflows.evaluation_statistics import (
    holm,
    mean_interval,
    reliability,
    risk_coverage,
    signed_rank,
)


class TestMeanInterval:
    def test_of_independent_cases_is_that_of_the_normal_law(self) -> None:
        values = np.random.default_rng(0).normal(0.8, 0.1, 400)

        interval = mean_interval(values.tolist(), range(400), resamples=4000, seed=0)

        half = norm.ppf(0.975) * values.std() / np.sqrt(400)
        assert interval is not None
        assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-3)

    def test_repeating_the_images_of_patients_makes_it_no_narrower(self) -> None:
        values, patients = np.random.default_rng(1).uniform(0, 1, 20), np.arange(20)

        once, repeated = (
            mean_interval(
                np.repeat(values, images).tolist(),
                np.repeat(patients, images).tolist(),
                resamples=1000,
                seed=3,
            )
            for images in (1, 50)
        )

        assert repeated == pytest.approx(once)

    def test_depends_on_the_seed_alone(self) -> None:
        values, groups = [0.1, 0.5, 0.9, 0.4], "abcd"

        first, again, other = (
            mean_interval(values, groups, resamples=200, seed=seed) for seed in (1, 1, 2)
        )

        assert first == again
        assert first != other

    def test_of_one_patient_is_none_and_of_equal_values_is_a_point(self) -> None:
        assert mean_interval([0.1, 0.9], ["a", "a"], resamples=100, seed=0) is None
        assert mean_interval([0.5, 0.5], ["a", "b"], resamples=100, seed=0) == (0.5, 0.5)


class TestSignedRank:
    def test_is_the_share_of_signs_that_are_as_extreme(self) -> None:
        differences = [0.3, 0.1, -0.2, 0.5, 0.4]
        ranks = [3, 1, 2, 5, 4]
        found = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
        sums = [
            sum(rank for rank, up in zip(ranks, signs, strict=True) if up)
            for signs in itertools.product((False, True), repeat=5)
        ]

        expected = 2 * sum(one >= found for one in sums) / len(sums)

        assert signed_rank(differences, range(5)) == pytest.approx(expected)

    def test_a_patient_counts_once(self) -> None:
        once = signed_rank([0.3, 0.1, -0.2], "abc")
        many = signed_rank([0.3] * 10 + [0.1] * 10 + [-0.2] * 10, "a" * 10 + "b" * 10 + "c" * 10)

        assert many == once

    def test_rounding_is_no_difference(self) -> None:
        assert signed_rank([0.1 + 0.2 - 0.3, 0.0], "ab") == 1.0

    def test_of_nothing_is_none(self) -> None:
        assert signed_rank([], []) is None


class TestHolm:
    def test_multiplies_by_how_many_are_left_and_never_falls(self) -> None:
        assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])

    def test_passes_over_what_was_not_tested_and_ends_at_one(self) -> None:
        assert holm([None, 0.6, 0.7]) == [None, 1.0, 1.0]


class TestRiskCoverage:
    def test_keeps_the_surest_first(self) -> None:
        curve = risk_coverage([0.6, 0.9, 0.8], [0.9, 0.0, 0.3])

        assert curve is not None
        assert curve.coverage == pytest.approx((1 / 3, 2 / 3, 1))
        assert curve.risk == pytest.approx((0.0, 0.15, 0.4))
        assert curve.area == pytest.approx(curve.best_area)

    def test_order_among_equals_does_not_matter(self) -> None:
        one = risk_coverage([0.7, 0.7, 0.9], [0.0, 1.0, 0.2])
        other = risk_coverage([0.7, 0.7, 0.9], [1.0, 0.0, 0.2])

        assert one == other

    def test_a_confidence_that_says_nothing_has_the_mean_risk_everywhere(self) -> None:
        curve = risk_coverage([0.7] * 4, [0.0, 0.2, 0.4, 0.6])

        assert curve is not None
        assert curve.risk == pytest.approx([0.3] * 4)
        assert curve.best_area < curve.area

    def test_of_nothing_is_none(self) -> None:
        assert risk_coverage([], []) is None


class TestReliability:
    def test_puts_confidence_beside_precision(self) -> None:
        low, high = reliability([0.5, 0.56, 1.0], [0.2, 0.4, 0.9], bins=5)

        assert low == (2, pytest.approx(0.53), pytest.approx(0.3))
        assert high == (1, 1.0, 0.9)

    def test_every_case_is_in_one_bin(self) -> None:
        confidence = np.random.default_rng(0).uniform(0.5, 1, 100)

        bins = reliability(confidence.tolist(), confidence.tolist())

        assert sum(one.cases for one in bins) == 100
        assert all(one.confidence == pytest.approx(one.precision) for one in bins)

    def test_of_nothing_is_empty(self) -> None:
        assert reliability([], []) == ()
