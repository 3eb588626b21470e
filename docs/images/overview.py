"""Draw ``overview.svg``, README's picture of the way of the data.

Run from anywhere: ``python docs/images/overview.py`` (needs ``esp-medsam[report]``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch


INK = "#1f2933"
PAPER = "#ffffff"
GIVEN, SHARED, OWN, RESULT = "#e4e9ef", "#cfe3f6", "#fbe3c4", "#d5ecd4"


@dataclass(frozen=True)
class Box:
    """One station of the data: its left edge, middle height, size, title, small print and fill."""

    x: float
    y: float
    width: float
    height: float
    title: str
    note: str
    fill: str

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width

    def draw(self, ax: Axes) -> None:
        """Draw the box with its title and small print."""
        ax.add_patch(
            FancyBboxPatch(
                (self.x, self.y - self.height / 2),
                self.width,
                self.height,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=self.fill,
                edgecolor=INK,
                linewidth=1.0,
            )
        )
        middle = self.x + self.width / 2
        note_lines = self.note.count("\n") + 1 if self.note else 0
        ax.text(middle, self.y + 0.115 * note_lines, self.title, size=10.5, weight="bold", **CENTER)
        if self.note:
            ax.text(middle, self.y - 0.16, self.note, size=8.5, linespacing=1.35, **CENTER)


CENTER = {"ha": "center", "va": "center", "color": INK}

IMAGE = Box(0.1, 2.45, 1.75, 1.0, "Image", "DICOM, NIfTI, NRRD,\nPNG, JPEG, TIFF", GIVEN)
MODALITY = Box(0.1, 0.85, 1.75, 1.0, "Modality", "given by you or DICOM,\nnever guessed", GIVEN)
SLICES = Box(
    2.35, 2.45, 1.6, 1.0, "Slices", "shown as in reading,\nscaled to the input size", GIVEN
)
ENCODER = Box(4.75, 2.45, 1.7, 0.95, "Image encoder", "shared by all modalities", SHARED)
CONTROLLER = Box(4.75, 0.85, 1.7, 0.95, "Controller", "one per modality", OWN)
PROMPT = Box(6.85, 0.85, 1.7, 0.95, "Patch prompt", "from the image itself", SHARED)
DECODER = Box(
    6.85, 2.45, 1.7, 0.95, "Mask decoder", "one query per target,\neach decoded alone", OWN
)
PROBABILITY = Box(
    9.35, 2.45, 1.75, 1.0, "Probability", "8 bit, per target,\non the image's own grid", RESULT
)
FILES = Box(
    9.35, 0.85, 1.75, 1.0, "Masks", "DICOM-SEG, NIfTI, PNG,\nand how they were made", RESULT
)
BOXES = (
    IMAGE, MODALITY, SLICES, ENCODER, CONTROLLER, PROMPT, DECODER, PROBABILITY, FILES,
)  # fmt: skip


def arrow(ax: Axes, *points: tuple[float, float]) -> None:
    """Draw a line through ``points`` that ends in an arrow head."""
    for start, end in pairwise(points[:-1]):
        ax.plot([start[0], end[0]], [start[1], end[1]], color=INK, linewidth=1.3)
    ax.add_patch(
        FancyArrowPatch(
            points[-2], points[-1], arrowstyle="-|>", mutation_scale=12, color=INK,
            linewidth=1.3, shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip


def draw() -> Figure:
    """Return the figure."""
    figure = Figure(figsize=(11.2, 3.6), facecolor=PAPER)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set(xlim=(0, 11.2), ylim=(0.05, 3.65))
    ax.axis("off")
    ax.add_patch(
        FancyBboxPatch(
            (4.5, 0.15), 4.3, 3.3, boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="none", edgecolor=INK, linewidth=1.0, linestyle=(0, (4, 3)),
        )
    )  # fmt: skip
    ax.text(6.65, 3.22, "one network for eight modalities", size=9.5, style="italic", **CENTER)
    for box in BOXES:
        box.draw(ax)

    arrow(ax, (IMAGE.right, IMAGE.y), (SLICES.x, SLICES.y))
    arrow(ax, (SLICES.right, SLICES.y), (ENCODER.x, ENCODER.y))
    arrow(ax, (MODALITY.right, MODALITY.y), (CONTROLLER.x, CONTROLLER.y))
    middle = ENCODER.x + ENCODER.width / 2
    arrow(ax, (middle, CONTROLLER.y + 0.475), (middle, ENCODER.y - 0.475))
    arrow(ax, (ENCODER.right, ENCODER.y), (DECODER.x, DECODER.y))
    between = (ENCODER.right + DECODER.x) / 2
    arrow(ax, (between, ENCODER.y), (between, PROMPT.y), (PROMPT.x, PROMPT.y))
    middle = DECODER.x + DECODER.width / 2
    arrow(ax, (middle, PROMPT.y + 0.475), (middle, DECODER.y - 0.475))
    arrow(ax, (DECODER.right, DECODER.y), (PROBABILITY.x, PROBABILITY.y))
    middle = PROBABILITY.x + PROBABILITY.width / 2
    arrow(ax, (middle, PROBABILITY.y - 0.5), (middle, FILES.y + 0.5))
    return figure


if __name__ == "__main__":
    mpl.rcParams["svg.fonttype"] = "path"  # looks the same where a font is missing
    mpl.rcParams["svg.hashsalt"] = "esp_medsam"  # the same bytes every time
    path = Path(__file__).with_suffix(".svg")
    draw().savefig(path, metadata={"Date": None})
    print(path)
