from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esp_medsam.errors import OptionError
from esp_medsam.workflows.evaluation_comparison import Comparison, Difference, compare
from tests.support.scores import case


def of(comparison: Comparison, measure: str, target: str = "glioma") -> Difference:
    (found,) = (
        one for one in comparison.differences if (one.measure, one.target) == (measure, target)
    )
    return found


class TestCompare:
    def test_differences_are_these_less_the_others_case_by_case(self) -> None:
        mine = [case("a", 0.9), case("b", 0.5)]
        theirs = [case("b", 0.6), case("a", 0.7)]

        found = of(compare(mine, theirs, resamples=200), "dice")

        assert found.mean == pytest.approx(0.05)
        assert (found.cases, found.patients) == (2, 2)
        assert found.interval == pytest.approx((-0.1, 0.2))

    def test_swapping_the_models_swaps_the_sign_and_keeps_the_p_value(self) -> None:
        rng = np.random.default_rng(0)
        mine = [case(str(n), float(d)) for n, d in enumerate(rng.uniform(0.6, 1, 30))]
        theirs = [case(str(n), float(d)) for n, d in enumerate(rng.uniform(0.5, 0.9, 30))]

        one = of(compare(mine, theirs, resamples=200), "dice")
        other = of(compare(theirs, mine, resamples=200), "dice")

        assert one.mean == pytest.approx(-other.mean)
        assert one.p_value == pytest.approx(other.p_value)
        assert one.p_value is not None
        assert one.p_value < 0.01

    def test_p_values_are_corrected_for_all_targets_of_a_measure(self) -> None:
        mine, theirs = [], []
        for number in range(8):
            for target, gain in (("glioma", 0.1), ("left_ventricle", 0.05)):
                mine.append(case(str(number), 0.7 + gain, target=target))
                theirs.append(case(str(number), 0.7, target=target))

        comparison = compare(mine, theirs, resamples=100)

        alone = compare(mine[::2], theirs[::2], resamples=100)
        assert of(alone, "dice").adjusted == of(alone, "dice").p_value == pytest.approx(2 / 2**8)
        assert of(comparison, "dice").adjusted == pytest.approx(2 * 2 / 2**8)

    def test_cases_without_a_measure_or_without_the_target_are_left_out(self) -> None:
        mine = [
            case("a", 0.9, hd95=2.0),
            case("b", 0.0, hd95=None),
            case("c", 1.0, present=False),
        ]
        theirs = [
            case("a", 0.9, hd95=3.0),
            case("b", 0.4, hd95=9.0),
            case("c", 0.0, present=False),
        ]

        comparison = compare(mine, theirs, resamples=100)

        assert of(comparison, "dice").cases == 2
        assert (of(comparison, "hd95").cases, of(comparison, "hd95").mean) == (1, -1.0)

    def test_what_is_not_paired_is_counted(self) -> None:
        comparison = compare(
            [case("a", 0.9), case("b", 0.9)],
            [case("a", 0.9), case("c", 0.9), case("d", 0.9)],
            resamples=100,
        )

        assert (comparison.unpaired, comparison.others_unpaired) == (1, 2)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"tolerance": 1.0}, "tolerance 1.0 for 2.0"),
            ({"unit": "px"}, "unit px for mm"),
            ({"true_voxels": 6}, "true_voxels 6 for 5"),
            ({"protocol": "released"}, "protocol released for native"),
            ({"patient": "John"}, "another patient"),
        ],
    )
    def test_what_was_measured_otherwise_is_refused(
        self, changes: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(OptionError, match=f"compare must .*{told}") as caught:
            compare([case("a", 0.9)], [case("a", 0.9, **changes)])

        assert "John" not in str(caught.value)

    def test_cases_of_other_images_are_refused(self) -> None:
        with pytest.raises(OptionError, match="compare must hold cases of the same"):
            compare([case("a", 0.9)], [case("b", 0.9)])

    def test_a_case_twice_is_refused(self) -> None:
        with pytest.raises(OptionError, match="compare must hold each case once; got glioma of a"):
            compare([case("a", 0.9)], [case("a", 0.9), case("a", 0.8)])
