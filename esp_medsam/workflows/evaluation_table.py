"""Print an evaluation as a text table of 100 columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from esp_medsam.errors import one_line
from esp_medsam.workflows.evaluation_comparison import Comparison, Difference
from esp_medsam.workflows.evaluation_statistics import Interval
from esp_medsam.workflows.evaluation_summary import Score


WIDTH = 100

NAME_WIDTH = 23
"""Length in characters of the longest shipped target name."""

_S = TypeVar("_S", Score, Difference)

SMALLEST_P = 0.001
"""Smallest p-value that is printed; smaller ones are printed as less than it."""


def lines_of(
    scores: Sequence[Score], comparison: Comparison | None, *, failed: int = 0, images: int = 0
) -> list[str]:
    """Return an evaluation as lines: the table of targets, its notes, and the comparison.

    Args:
        scores: Score of each target of each set.
        comparison: Comparison with another model; None without one.
        failed: Number of images that could not be scored.
        images: Number of all images.
    """
    released = any(score.protocol == "released" for score in scores)
    parts: list[Table | str] = [*(_released_tables(scores) if released else _native(scores))]
    parts += _notes(scores)
    if failed:
        parts.append(f"Not scored: {failed} of {images} images, which no number here includes.")
    if comparison is not None:
        parts += _comparison_tables(comparison)
    return _as_lines(parts)


def _as_lines(parts: Sequence[Table | str]) -> list[str]:
    # Into a buffer: a default console would check the terminal and color other outputs.
    buffer = io.StringIO()
    console = Console(file=buffer, width=WIDTH, color_system=None, highlight=False, markup=False)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def compared_lines(
    one: tuple[str, Sequence[Score]], other: tuple[str, Sequence[Score]], comparison: Comparison
) -> list[str]:
    """Return the Dice of two models side by side, as lines.

    Args:
        one: Name and scores of the first model.
        other: Name and scores of the second model, for the same sets and targets.
        comparison: Scores of the second model minus those of the first.
    """
    differences = {
        (d.dataset, d.modality, d.target): d for d in comparison.differences if d.measure == "dice"
    }
    others = {(s.dataset, s.modality, s.target): s for s in other[1]}
    parts: list[Table | str] = []
    for dataset, own in _by_set(one[1]):
        shown = _table(dataset, "with it", one[0], other[0], "mean difference (95 %)", "p")
        for score in own:
            key = score.dataset, score.modality, score.target
            difference, beside = differences.get(key), others.get(key)
            shown.add_row(
                score.target,
                _count(score.present, score.patients),
                _number_text(score.dice),
                _number_text(None if beside is None else beside.dice),
                "" if difference is None else _difference_text(difference),
                "" if difference is None else _p_value(difference.p_value),
            )
        parts.append(shown)
    return _as_lines([*parts, "Dice, of images with the target. p: Wilcoxon over patients."])


def _native(scores: Sequence[Score]) -> list[Table]:
    columns = ("with it", "Dice (95 %)", "IoU", "surface", "HD95", "missed", "without", "alarms")
    tables = []
    for dataset, own in _by_set(scores):
        shown = _table(dataset, *columns)
        for score in own:
            unit = f" {score.unit}" if score.hd95 is not None else ""
            shown.add_row(
                score.target,
                _count(score.present, score.patients),
                _mean(score, "dice"),
                _number_text(score.iou),
                _number_text(score.surface_dice),
                _number_text(score.hd95, 1) + unit,
                f"{score.missed}" if score.present else "",
                f"{score.absent}",
                f"{score.false_alarms}" if score.absent else "",
            )
        tables.append(shown)
    return tables


def _released_tables(scores: Sequence[Score]) -> list[Table | str]:
    parts: list[Table | str] = ["Released protocol: every image, 1024 x 1024 pixels"]
    for dataset, own in _by_set(scores):
        shown = _table(dataset, "images", "Dice (95 %)", "mIoU", "HD", "F1")
        for score in own:
            shown.add_row(
                score.target,
                _count(score.present + score.absent, score.patients),
                _mean(score, "dice"),
                _number_text(score.iou),
                _number_text(score.hd, 1),
                _number_text(score.f1),
            )
        parts.append(shown)
    return parts


def _comparison_tables(comparison: Comparison) -> list[Table | str]:
    parts: list[Table | str] = ["These scores less those of compare, case by case"]
    for dataset, own in _by_set(comparison.differences):
        shown = _table(dataset, "measure", "cases", "mean difference (95 %)", "p", "p, Holm")
        for one in own:
            shown.add_row(
                one.target,
                one.measure,
                _count(one.cases, one.patients),
                _difference_text(one),
                _p_value(one.p_value),
                _p_value(one.adjusted),
            )
        parts.append(shown)
    notes = [
        "p: Wilcoxon signed-rank over patients, two-sided; Holm over the targets of each measure."
    ]
    if comparison.unpaired or comparison.others_unpaired:
        told = f"Not paired: {comparison.unpaired} cases here, {comparison.others_unpaired} there."
        notes.append(told)
    return [*parts, *notes]


def _notes(scores: Sequence[Score]) -> list[str]:
    """Return notes on what the table itself cannot show."""
    notes = []
    if any(score.protocol == "native" for score in scores):
        notes += [
            "Means: of images with the target. Alarms: images without it in which some was found."
        ]
    tolerances = {s.tolerance for s in scores if s.surface_dice is not None and s.tolerance}
    units = sorted({s.unit for s in scores if s.surface_dice is not None and s.unit})
    for tolerance in sorted(tolerances):
        notes.append(f"Surface: Dice of surfaces, tolerance {tolerance:g} {' or '.join(units)}.")
    if "px" in units:
        notes.append("px: pixels, where images state no distance.")
    if any(s.patients != s.present + s.absent and s.patients != s.present for s in scores):
        notes.append("After the slash: patients, which are resampled as a whole.")
    return notes


def _by_set(scores: Sequence[_S]) -> list[tuple[str, list[_S]]]:
    """Return scores by the name of their set, in the order in which the sets appear."""
    sets: dict[str, list[_S]] = {}
    for score in scores:
        sets.setdefault(f"{one_line(score.dataset)} ({score.modality})", []).append(score)
    return list(sets.items())


def _table(dataset: str, *columns: str) -> Table:
    # Names are the user's, so they are not parsed as markup.
    title = Text(dataset, style="bold")
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    shown.add_column("target", min_width=NAME_WIDTH, overflow="fold")
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    return shown


def _count(cases: int, patients: int) -> str:
    return f"{cases}" if cases == patients or not patients else f"{cases}/{patients}"


def _number_text(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _mean(score: Score, name: str) -> str:
    value = getattr(score, name)
    return f"{_number_text(value)}{_range(score.intervals.get(name))}"


def _range(interval: Interval | None, sign: str = "") -> str:
    return "" if interval is None else f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def _difference_text(one: Difference) -> str:
    return f"{one.mean:+.3f}{_range(one.interval, '+')}"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return f"< {SMALLEST_P}" if value < SMALLEST_P else f"{value:.3f}"
