"""Seconds to check a datalist of many pictures, each with its own mask.

    python benchmarks/datalist_check.py [--images 100000] [--size 256] [--workers N]

Writes gray PNGs to a temporary folder, each image with different noise and half of them in each of
two sections, and checks them twice; the masks are in the system's cache even the first time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.datalist_check import faults_of


def write(folder: Path, number: int, size: int, rng: np.random.Generator) -> dict[str, object]:
    """Write an image and its mask, a disk; return the item."""
    coarse = rng.integers(0, 256, (size // 8, size // 8), np.uint8)
    image = PIL.Image.fromarray(coarse).resize((size, size), PIL.Image.Resampling.BICUBIC)
    rows, columns = np.ogrid[:size, :size]
    middle, radius = rng.integers(size // 4, 3 * size // 4, 2), size // 6
    disk = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
    image.save(folder / f"{number}.png", compress_level=1)
    PIL.Image.fromarray(disk.astype(np.uint8) * 255).save(folder / f"{number}_mask.png")
    labels = {"lungs": f"{number}_mask.png"}
    return {"image": f"{number}.png", "modality": "xray", "labels": labels}


def main() -> None:
    """Print the seconds, and the time for 100,000 images at the same rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    table = ModalityTable.read(find_bundle() / TABLE)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = [write(folder, number, options.size, rng) for number in range(options.images)]
        half = len(items) // 2
        sections = {"training": items[:half], "validation": items[half:]}
        start = time.perf_counter()
        faults = faults_of(sections, folder, table, workers=options.workers)
        seconds = time.perf_counter() - start
    assert not faults, faults
    each = seconds / options.images
    print(
        f"{options.images:,} images of {options.size} x {options.size}: {seconds:.1f} s, "
        f"{1e3 * each:.2f} ms each, {1e5 * each:.0f} s of 100,000"
    )


if __name__ == "__main__":
    main()
