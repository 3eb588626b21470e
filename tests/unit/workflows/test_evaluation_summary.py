from __future__ import annotations

import pytest

from esp_medsam.workflows.case_score import TargetScore
from esp_medsam.workflows.evaluation_summary import Score, summarize
from esp_medsam.workflows.evaluation_table import WIDTH, lines_of
from tests.support.scores import case


def without(image: str, *, alarm: bool) -> TargetScore:
    """Return a case that is known not to hold its target."""
    return case(
        image,
        0.0 if alarm else 1.0,
        present=False,
        true_voxels=0,
        voxels=5 * alarm,
        precision=0.0 if alarm else None,
        recall=None,
        surface_dice=None,
        hd95=None,
        hd=None,
        confidence=0.9 if alarm else None,
        error="false alarm" if alarm else "",
    )


def only(*cases: TargetScore) -> Score:
    (score,) = summarize(cases, resamples=200)
    return score


class TestSummarize:
    def test_absent_images_do_not_enter_the_means(self) -> None:
        score = only(
            case("a", 0.4), case("b", 0.8), without("c", alarm=False), without("d", alarm=True)
        )

        assert score.dice == pytest.approx(0.6)
        assert (score.present, score.absent, score.empty, score.false_alarms) == (2, 2, 0.5, 1)
        assert (score.precision, score.recall) == (0.5, 1.0)

    def test_missed_cases_count_in_dice_and_not_in_distances(self) -> None:
        missed = case("b", 0.0, surface_dice=0.0, hd95=None, hd=None, error="missed")

        score = only(case("a", 0.8), missed)

        assert score.dice == pytest.approx(0.4)
        assert score.surface_dice == pytest.approx(0.45)
        assert (score.hd95, score.distance_cases, score.missed) == (3.0, 1, 1)

    def test_distances_in_several_units_have_no_mean(self) -> None:
        score = only(case("a"), case("b", unit="px"))

        assert (score.unit, score.hd95, score.surface_dice) == ("mixed", None, None)
        assert score.dice == pytest.approx(0.8)

    def test_images_of_one_patient_are_drawn_together(self) -> None:
        values = [0.2, 0.9, 0.5, 0.6]
        alone = only(*(case(name, dice) for name, dice in zip("abcd", values, strict=True)))
        together = only(
            *(case(n, d, patient=p) for n, d, p in zip("abcd", values, "xxyy", strict=True))
        )

        assert (alone.patients, together.patients) == (4, 2)
        # Of two patients of mean 0.55 each, every draw has the same mean.
        assert together.intervals["dice"] == pytest.approx((0.55, 0.55))
        assert alone.intervals["dice"].low < 0.5

    def test_a_patient_of_an_image_s_name_is_not_that_image(self) -> None:
        assert only(case("a", patient="b"), case("b")).patients == 2

    def test_one_patient_alone_has_no_interval(self) -> None:
        assert only(case("a", patient="x"), case("b", patient="x")).intervals == {}

    def test_confidence_is_judged_where_anything_was_found(self) -> None:
        score = only(case("a", 0.8), without("b", alarm=True), without("c", alarm=False))

        assert score.risk_coverage is not None
        assert score.risk_coverage.risk == pytest.approx((1.0, 0.6))
        assert sum(one.cases for one in score.reliability) == 2

    def test_the_released_protocol_counts_every_image_and_takes_f1_of_means(self) -> None:
        empty = without("b", alarm=False)._replace(protocol="released")

        score = only(case("a", 0.8, protocol="released", precision=0.5, recall=1.0), empty)

        assert score.protocol == "released"
        assert score.dice == pytest.approx(0.9)
        assert score.f1 == pytest.approx(2 / 3)

    def test_sets_and_targets_are_apart_in_the_order_of_the_cases(self) -> None:
        scores = summarize(
            [case("a", dataset="t"), case("b"), case("a", target="other")], resamples=100
        )

        assert [(score.dataset, score.target) for score in scores] == [
            ("t", "glioma"),
            ("s", "glioma"),
            ("s", "other"),
        ]


class TestLinesOf:
    def test_fit_the_terminal_and_name_the_tolerance(self) -> None:
        cases = [
            case("a", dataset="a set of a long name " * 3, target="intracranial_hemorrhage"),
            case("b", dataset="a set of a long name " * 3, target="intracranial_hemorrhage"),
            case("c", unit="px", patient="x"),
            case("d", unit="px", patient="x"),
        ]

        lines = lines_of(summarize(cases, resamples=100), None)

        assert max(map(len, lines)) <= WIDTH
        text = "\n".join(lines)
        assert "Surface: Dice of surfaces, tolerance 2 mm or px." in text
        assert "px: pixels, where images state no distance." in text
        assert "2/1" in text

    def test_names_are_no_markup(self) -> None:
        text = "\n".join(lines_of(summarize([case(dataset="[red]x[/]")], resamples=100), None))

        assert "[red]x" in text

    def test_say_that_a_protocol_is_the_released_one(self) -> None:
        scores = summarize([case(protocol="released")], resamples=100)

        lines = lines_of(scores, None)

        assert "Released protocol" in lines[0]
        assert "HD95" not in "".join(lines)
