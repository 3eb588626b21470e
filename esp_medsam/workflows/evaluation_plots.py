"""Plots of an evaluation: scores and confidence. They need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esp_medsam.errors import OptionError
from esp_medsam.io.atomic import atomic_file
from esp_medsam.workflows.case_score import TargetScore, by_target


if TYPE_CHECKING:  # optional and slow to load, so wrong values are reported before the import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from esp_medsam.workflows.evaluation_summary import Score


INK, FAINT, LINE = "#1f2933", "#9aa5b1", "#2b6cb0"

PLOTS = ("dice", "risk_coverage", "reliability")
"""Names of the files, without extension."""

COLUMNS = 3
"""Number of panels side by side."""

SHOWN_LABEL = 34
"""Maximum number of characters shown of the name of a set and target."""


def check_plots() -> None:
    """Say what to install if matplotlib is missing.

    Raises:
        OptionError: If matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        msg = "plots must have matplotlib, which is missing; install esp-medsam[report]."
        raise OptionError(msg)


def write_plots(
    folder: Path, kind: str, cases: Sequence[TargetScore], scores: Sequence[Score]
) -> list[Path]:
    """Draw an evaluation and return the files: those of ``PLOTS`` that have something to show.

    Args:
        folder: Folder that the files are written to.
        kind: ``png`` or ``svg``.
        cases: Scores of the cases.
        scores: Summaries of these scores.

    Raises:
        OptionError: If matplotlib is missing.
        OutputError: If a file cannot be written.
    """
    check_plots()
    written = []
    for name, figure in _figures(cases, scores):
        content = io.BytesIO()
        # Without a date, the same scores give the same bytes.
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
        path = folder / f"{name}.{kind}"
        with atomic_file(path) as file:
            file.write(content.getvalue())
        written.append(path)
    return written


def _figures(cases: Sequence[TargetScore], scores: Sequence[Score]) -> Iterator[tuple[str, Figure]]:
    if any(case.present for case in cases):
        yield "dice", _spread(cases, scores)
    sure = [score for score in scores if score.risk_coverage is not None]
    if sure:
        yield "risk_coverage", _panels(sure, _draw_risk, "share of cases kept", "mean 1 - Dice")
    right = [score for score in scores if score.reliability]
    if right:
        yield "reliability", _panels(right, _draw_reliability, "confidence", "precision")


def _spread(cases: Sequence[TargetScore], scores: Sequence[Score]) -> Figure:
    """Return a plot of the Dice of each case that holds the target, with the mean and interval."""
    from matplotlib.figure import Figure

    groups = by_target(case for case in cases if case.present or case.protocol == "released")
    rows = [(s, groups[s.dataset, s.modality, s.target]) for s in scores if s.dice is not None]
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    spread = np.random.default_rng(0)
    for row, (score, group) in enumerate(rows):
        values = [case.dice for case in group]
        heights = row + spread.uniform(-0.22, 0.22, len(values))
        axes.plot(values, heights, ".", color=FAINT, markersize=4, alpha=0.6, zorder=1)
        assert score.dice is not None
        low, high = score.intervals.get("dice", (score.dice, score.dice))
        axes.plot([low, high], [row, row], color=LINE, linewidth=3, zorder=2)
        axes.plot([score.dice], [row], "o", color=LINE, markersize=7, zorder=3)
    names = [f"{_label(score)} (n = {len(group)})" for score, group in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"Dice of each case; mean and 95 % interval{_protocol(scores)}")
    _plain(axes)
    return figure


def _panels(
    scores: Sequence[Score], draw: Callable[[Axes, Score], None], across: str, up: str
) -> Figure:
    """Return a figure with one panel per score."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.9 * rows), layout="constrained")
    for number, score in enumerate(scores):
        axes = figure.add_subplot(rows, columns, number + 1)
        draw(axes, score)
        axes.set_title(_label(score), fontsize=9, color=INK)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(up, fontsize=8)
        axes.tick_params(labelsize=8)
        _plain(axes)
    if note := _protocol(scores):
        figure.suptitle(note.removeprefix("; "), fontsize=9)
    return figure


def _draw_risk(axes: Axes, score: Score) -> None:
    curve = score.risk_coverage
    assert curve is not None
    axes.plot(curve.coverage, curve.risk, color=LINE, drawstyle="default", marker=".", markersize=3)
    axes.axhline(curve.risk[-1], color=FAINT, linestyle="--", linewidth=1)
    told = f"area {curve.area:.3f}\nbest {curve.best_area:.3f}\nn = {len(curve.risk)}"
    axes.text(0.03, 0.97, told, transform=axes.transAxes, va="top", fontsize=8, color=INK)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(1e-3, 1.5 * max(curve.risk)))


def _draw_reliability(axes: Axes, score: Score) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    axes.plot(
        [one.confidence for one in score.reliability],
        [one.precision for one in score.reliability],
        color=LINE,
        marker="o",
        markersize=5,
    )
    for one in score.reliability:
        place = (one.confidence, one.precision)
        axes.annotate(
            f"{one.cases}", place, (0, -12), textcoords="offset points", fontsize=7, ha="center"
        )
    axes.set_xlim(0.48, 1.02)
    axes.set_ylim(-0.08, 1.05)


def _label(score: Score) -> str:
    name = f"{score.dataset}: {score.target}"
    return name if len(name) <= SHOWN_LABEL else f"{name[: SHOWN_LABEL - 3]}..."


def _protocol(scores: Sequence[Score]) -> str:
    return "; released protocol" if any(s.protocol == "released" for s in scores) else ""


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)
