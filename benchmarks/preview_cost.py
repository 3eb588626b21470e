"""Time and memory of drawing and writing the page of a result.

    python benchmarks/preview_cost.py [--shape 512 512 400]

Draws a CT volume of noise with two balls as masks, and a picture of 256 x 256, and prints processor
time and the peak of what was allocated meanwhile, without the volume itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io.page import Shown
from esp_medsam.io.preview import write_preview
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle


def ball(shape: tuple[int, ...], center: float, radius: float) -> npt.NDArray[np.bool_]:
    """Return a ball, its center and radius as shares of each axis."""
    axes = np.ogrid[tuple(slice(0, length) for length in shape)]
    squares = [
        ((axis / length - center) / radius) ** 2 for axis, length in zip(axes, shape, strict=True)
    ]
    inside: npt.NDArray[np.bool_] = sum(squares[1:], squares[0]) < 1
    return inside


def measure(shape: tuple[int, ...], modality: str) -> str:
    """Draw and write a page twice, and return what it took."""
    table = ModalityTable.read(find_bundle() / TABLE)
    targets = table[modality].targets[:2]
    labels = np.zeros((1, *shape), np.uint8)
    for place, target in enumerate(targets):
        labels[0][ball(shape, 0.3 + 0.4 * place, 0.2)] = target.label
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (1, *shape), np.int16 if len(shape) == 3 else np.uint8)
    affine = np.diag([0.8, 0.8, 1.5, 1.0]) if len(shape) == 3 else None
    grid = Grid(shape=shape, affine=affine)
    image = Image(path="a", name="a", modality=modality, grid=grid, intensity_range=(0.0, 200.0))
    shown = [Shown(target, "1.0 ml") for target in targets]
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        write_preview(Path(folder) / "a_seg", pixels, labels, image, shown)
        seconds = time.process_time() - began
        tracemalloc.start()
        write_preview(Path(folder) / "a_seg", pixels, labels, image, shown)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    size = " x ".join(map(str, shape))
    return f"{size}: {seconds:.2f} s of a core, {peak / 1e6:.0f} MB at most"


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 400])
    asked = parser.parse_args()
    print(measure(tuple(asked.shape), "ct"))
    print(measure((256, 256), "fundus"))


if __name__ == "__main__":
    main()
