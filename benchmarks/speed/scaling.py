"""What segmenting costs against the size of the input, the number of slices, and cores: a figure.

    python benchmarks/speed/scaling.py docs/images/speed.svg

Seconds of wall time for one target of CT. The passes of a size are in turns, the median of some
rounds is shown; the volume is made of noise. Needs the extra ``report``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl


mpl.use("svg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.data import MetaTensor

from esp_medsam.allocator import reuse_memory
from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.inferers import SliceWiseInferer
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RuntimeNetwork
from esp_medsam.runtimes.kinds import quick_runtimes
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.engine_store import EngineStore
from esp_medsam.workflows.weights import load_network, network_of_table


SIDES = (224, 448, 672, 896, 1024)
SLICES = (1, 10, 20, 40)
SIDE = 448
CT = torch.tensor([6])

Passes = dict[str, InferenceNetwork]


def networks(table: ModalityTable) -> Iterator[tuple[str, InferenceNetwork]]:
    """Yield the product's network by runtime, of those that are installed and ready in seconds."""
    network = load_network(network_of_table(table), find_bundle(None) / WEIGHTS)
    yield "eager", InferenceNetwork(network)
    for runtime in quick_runtimes("cpu"):
        run_by = partial(RuntimeNetwork, runtime=runtime, store=EngineStore)
        yield runtime.name, InferenceNetwork(network, run_by)


def a_pass(network: InferenceNetwork, side: int) -> Callable[[], Any]:
    """Return a function that segments one image of a size."""
    image = torch.randn(1, 3, side, side)
    return lambda: network.decode(network.encode(image, CT), CT, [0], None)


def medians(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, taken in turns after a first time."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(own) for name, own in times.items()}


def volume(count: int) -> MetaTensor:
    """Return a CT of noise, with its record."""
    pixels = torch.randint(-1000, 1000, (1, 1, 256, 256, count), dtype=torch.int16)
    grid = Grid(shape=(256, 256, count), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
    shown = (-160.0, 240.0)
    record = Image(
        path="noise", name="noise", modality="ct", grid=grid, unit="HU", intensity_range=shown
    )
    return MetaTensor(pixels, meta={IMAGE_KEY: [record]})


def draw(axes: Any, xs: tuple[int, ...], lines: dict[str, list[float]], label: str) -> None:
    """Draw a line a runtime."""
    for name, ys in lines.items():
        axes.plot(xs[: len(ys)], ys, marker="o", label=name)
    axes.set_xlabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)


def main() -> None:
    """Measure, print the numbers, and write the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    reuse_memory()
    table = ModalityTable.read(find_bundle(None) / TABLE)
    held: Passes = dict(networks(table))
    cores = tuple(range(1, (os.cpu_count() or 1) + 1))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    with torch.inference_mode():
        torch.set_num_threads(1)
        by_side = [
            medians({name: a_pass(net, side) for name, net in held.items()}, asked.rounds)
            for side in SIDES
        ]
        inferer = SliceWiseInferer(table=table, input_size=(SIDE, SIDE), targets=["liver"])
        volumes = [volume(count) for count in SLICES]
        by_count = [
            medians({name: partial(inferer, one, net) for name, net in held.items()}, 1)
            for one in volumes
        ]
        by_cores = []
        for count in cores:
            torch.set_num_threads(count)
            fresh = dict(networks(table))  # engines take the number of threads when they are made
            runs = {name: a_pass(net, SIDE) for name, net in fresh.items()}
            by_cores.append(medians(runs, asked.rounds))
    for axes, xs, rows, label in (
        (left, SIDES, by_side, "side of the input, pixels (1 core)"),
        (middle, SLICES, by_count, f"slices of a volume at {SIDE} x {SIDE} (1 core)"),
        (right, cores, by_cores, f"cores, one slice at {SIDE} x {SIDE}"),
    ):
        lines = {name: [row[name] for row in rows] for name in held}
        draw(axes, xs, lines, label)
        for name, ys in lines.items():
            print(label, name, dict(zip(xs, [round(y, 3) for y in ys], strict=True)))
    right.set_xticks(cores)
    left.set_ylabel("seconds")
    left.legend()
    figure.savefig(asked.out)


if __name__ == "__main__":
    main()
