"""HTML page at the end of a training: curves, datasets, worst slices."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import jinja2

from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.tile import png_bytes
from esp_medsam.workflows.distributed import is_first
from esp_medsam.workflows.history import History
from esp_medsam.workflows.set_scores import PREFIX, SetScores, SliceScore
from esp_medsam.workflows.slice_pictures import SlicePictures


MOST_WORST = 8
"""Maximum number of worst slices on the page."""

WIDTH, HEIGHT = 420, 180
"""Size of a chart, in pixels."""

COLORS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#2f9c95", "#7a4b3a", "#555555")
"""Line colors of a chart, used in turn."""


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: Name of the series.
        points: ``x,y`` in pixels, in SVG notation.
        color: Color of the line and its name.
        last: The last value.
    """

    name: str
    points: str
    color: str
    last: float


class Chart(NamedTuple):
    """A chart of lines over epochs.

    Attributes:
        title: Title of the chart.
        lines: The lines.
        top: Value at the upper edge; the lower edge is 0.
    """

    title: str
    lines: list[Line]
    top: float


def chart(title: str, series: Mapping[str, Sequence[float | None]], top: float | None) -> Chart:
    """Return a chart of series over the same epochs.

    Args:
        title: Title of the chart.
        series: Values of each epoch by name; None if an epoch has no value.
        top: Value at the upper edge; None takes the largest value.
    """
    values = [value for each in series.values() for value in each if value is not None]
    highest = top or max([*values, 1e-9])
    lines = []
    for number, (name, each) in enumerate(series.items()):
        step = WIDTH / max(1, len(each) - 1)
        points = [
            (place * step, HEIGHT * (1 - min(value, highest) / highest), value)
            for place, value in enumerate(each)
            if value is not None
        ]
        if points:
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
            lines.append(Line(name, drawn, COLORS[number % len(COLORS)], points[-1][2]))
    return Chart(title, lines, highest)


@dataclass(eq=False)
class TrainingPage:
    """Writer of the training page, a self-contained file.

    Args:
        path: HTML file to write or replace.
        history: The epochs.
        scores: Scores of the last validation.
        pictures: Draws the slices of the validation.
        settings: Facts about the run to show, by name.
    """

    path: str | Path
    _: KW_ONLY
    history: History
    scores: SetScores
    pictures: SlicePictures
    settings: Mapping[str, str]

    def write(self) -> None:
        """Write the page; only the first process does.

        Raises:
            OutputError: If the page cannot be written.
        """
        if not is_first():
            return
        page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
            TEMPLATE
        )
        worst = sorted(self.scores.scores, key=lambda score: score.dice)[:MOST_WORST]
        names = self.pictures.dataset.slices.names
        text = page.render(
            charts=self._charts(),
            sets=_rows(self.scores.scores),
            worst=[(score, names[score.place], self._inline(score)) for score in worst],
            settings=self.settings,
            skipped=sum(epoch["skipped"] for epoch in self.history.epochs),
            epochs=len(self.history.epochs),
            width=WIDTH,
            height=HEIGHT,
        )
        with atomic_file(Path(self.path)) as file:
            file.write(text.encode())

    def _charts(self) -> list[Chart]:
        epochs = self.history.epochs
        names = sorted({name for e in epochs for name in e["metrics"] if name.startswith(PREFIX)})
        dice = {
            name.removeprefix(PREFIX): [epoch["metrics"].get(name) for epoch in epochs]
            for name in names
        }
        charts = [
            chart("Loss", {"training": [epoch["loss"] for epoch in epochs]}, None),
            chart("Dice in validation", dice, 1.0),
        ]
        alike = [epoch["metrics"].get("val_embedding_similarity") for epoch in epochs]
        if alike != [None] * len(epochs):  # only for a distillation
            charts.append(chart("Agreement with the teacher in validation", {"cosine": alike}, 1.0))
        return charts

    def _inline(self, score: SliceScore) -> str:
        return base64.b64encode(png_bytes(self.pictures.draw(score.place))).decode()


def _rows(scores: Sequence[SliceScore]) -> list[dict[str, Any]]:
    """Return a row per set: slices, mean and lowest Dice."""
    rows = []
    for name, modality in sorted({(score.dataset, score.modality) for score in scores}):
        dice = [s.dice for s in scores if (s.dataset, s.modality) == (name, modality)]
        row = {"dataset": name, "modality": modality, "slices": len(dice)}
        rows.append({**row, "mean": fmean(dice), "least": min(dice)})
    return rows


TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Training</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 1.8em; }
table { border-collapse: collapse; } th, td { padding: .25em .9em .25em 0; text-align: left;
  border-bottom: 1px solid #ddd; vertical-align: top; } td.n, th.n { text-align: right; }
td:first-child { white-space: nowrap; } td:last-child { overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: 2.5em; }
figure { margin: 0 0 1.2em; max-width: 450px; }
figcaption { font-size: .9em; color: #555; overflow-wrap: anywhere; }
svg { background: #fafafa; border: 1px solid #ddd; overflow: visible; }
svg text { font-size: 11px; fill: #777; }
img { width: 450px; max-width: 100%; display: block; image-rendering: auto; }
</style>
<h1>Training, {{ epochs }} epochs</h1>
{% if skipped %}<p>{{ skipped }} steps were skipped, because they were not finite.</p>{% endif %}
<div class="row">
{% for chart in charts %}
<figure>
<figcaption>{{ chart.title }}
{% for line in chart.lines %}<span style="color: {{ line.color }}">&#9632; {{ line.name }}
{{ "%.3f"|format(line.last) }}</span> {% endfor %}</figcaption>
<svg width="{{ width }}" height="{{ height }}" role="img" aria-label="{{ chart.title }}">
<text x="4" y="12">{{ "%.3g"|format(chart.top) }}</text>
<text x="4" y="{{ height - 4 }}">0</text>
<text x="{{ width - 4 }}" y="{{ height - 4 }}" text-anchor="end">epoch {{ epochs }}</text>
{% for line in chart.lines %}
<polyline points="{{ line.points }}" fill="none" stroke="{{ line.color }}" stroke-width="2"/>
{% endfor %}
</svg>
</figure>
{% endfor %}
</div>
<h2>Sets, at the last validation</h2>
{% if sets %}
<table>
<tr><th>Set</th><th>Modality</th><th class="n">Slices with a target</th><th class="n">Mean Dice</th>
<th class="n">Lowest</th></tr>
{% for row in sets %}
<tr><td>{{ row.dataset }}</td><td>{{ row.modality }}</td><td class="n">{{ row.slices }}</td>
<td class="n">{{ "%.3f"|format(row.mean) }}</td><td class="n">{{ "%.3f"|format(row.least) }}</td>
</tr>
{% endfor %}
</table>
{% else %}<p>No validation slice holds a target, or none was validated.</p>{% endif %}
{% if worst %}
<h2>The worst slices</h2>
<p>Left: the truth. Right: the network's mask.</p>
<div class="row">
{% for score, name, picture in worst %}
<figure>
<img src="data:image/png;base64,{{ picture }}" alt="">
<figcaption>{{ score.dataset }}, {{ score.modality }}: Dice {{ "%.3f"|format(score.dice) }}<br>
{{ name }}</figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
<h2>Settings</h2>
<table>
{% for name, value in settings.items() %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</table>
</html>
"""
