"""How fast inputs and outputs are hashed, and what it takes to see that a result is done.

    python benchmarks/hash_speed.py [--megabytes 1024] [--folder DIR]

Writes a file of that size into a folder of its own and hashes it from the page cache: a disk that
reads more slowly sets the pace itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from esp_medsam.grid import Grid
from esp_medsam.identity import identify
from esp_medsam.image import Image, Segmentation
from esp_medsam.io.output_path import record_path
from esp_medsam.io.record import Recipe, is_done, record_of, write_own_json


def seconds(call: Callable[[], object]) -> float:
    """Return the shortest time of three that a call takes."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    recipe = Recipe(modality="ct", targets=(), formats=(), weights_sha256=None)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        source, mask = Path(name, "in.nii"), Path(name, "in_seg.nii")
        block = os.urandom(2**20)
        with source.open("wb") as file:
            for _ in range(arguments.megabytes):
                file.write(block)
        mask.write_bytes(block)
        took = seconds(lambda: identify([source]))
        print(
            f"{arguments.megabytes / took:.0f} MB/s, {1024 * took / arguments.megabytes:.1f} s/GB"
        )
        image = Image(
            path=str(source),
            name="in",
            modality="ct",
            grid=Grid(shape=()),
            identity=identify([source]),
        )
        stem = Path(name, "in_seg")
        found = Segmentation(targets=(), confidence=())
        record = record_of(recipe, image, found, (), empty=True, files=[mask])
        write_own_json(record_path(stem), record, None)
        by_times = seconds(lambda: is_done(stem, recipe, [source]))
        by_hashes = seconds(lambda: is_done(stem, recipe, [source], verify=True))
        print(f"done: {1000 * by_times:.2f} ms by size and time, {by_hashes:.2f} s with verify")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
