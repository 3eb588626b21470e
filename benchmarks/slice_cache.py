"""Time that the cache of training slices saves, on a datalist.

    python benchmarks/slice_cache.py DATALIST.json FOLDER

Prints how long it takes to read all slices of ``training`` into memory, to fill an empty cache in
FOLDER, and to start with the filled one; and how fast slices are read from it in random order.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.read_slices import SliceReader


def main() -> None:
    """Time three starts, and random reads from the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--draws", type=int, default=10_000)
    arguments = parser.parse_args()
    table = ModalityTable.read(find_bundle(None) / TABLE)
    size = (arguments.size, arguments.size)
    for what, folder in (
        ("filled cache missing", arguments.folder),
        ("filled cache there", arguments.folder),
        ("no cache", None),
    ):
        start = time.perf_counter()
        read = SliceReader(
            datalist=arguments.datalist, table=table, input_size=size, cache_dir=folder
        )
        slices = read("training")["training"]
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{what}: {len(slices)} slices in {seconds:.1f} s, peak memory {peak} MB")
        drawn, size_of_all = np.random.default_rng(0).integers(len(slices), size=arguments.draws), 0
        start = time.perf_counter()
        for place in drawn:
            piece = slices[int(place)]
            size_of_all += piece.image.numpy().nbytes + piece.label.numpy().nbytes
        seconds = time.perf_counter() - start
        rate, megabytes = arguments.draws / seconds, size_of_all / seconds / 1e6
        print(f"  {rate:,.0f} slices a second, {megabytes:,.0f} MB a second")


if __name__ == "__main__":
    main()
