"""Images a second on a GPU, by size, batch, precision and runtime, and a warm volume.

    python benchmarks/speed/gpu.py [--sides 256 448 1024] [--batches 1 4 16 64]

The product's network, one target of CT. Prints the floor first: what a copy in the GPU's memory and
a product of matrices in bfloat16 reach. A row has the median of the rounds; what does not fit in
memory is left out, with a note. With ``--device cpu`` it only shows that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.inferers import SliceWiseInferer
from esp_medsam.inferers.device import is_out_of_memory
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RuntimeNetwork
from esp_medsam.runtimes.kinds import RUNTIMES, quick_runtimes
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.weights import load_network, network_of_table


MATRIX = 8192
BYTES = 2**30
CT = 6


def seconds(run: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Return the median wall time of a call, after two that are not counted."""
    for _ in range(2):
        run()
    times = []
    for _ in range(rounds):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_floor(device: torch.device, rounds: int) -> None:
    """Print what the device reaches without a network."""
    side = MATRIX if device.type == "cuda" else 256
    size = BYTES if device.type == "cuda" else 2**20
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    product = seconds(lambda: matrix @ matrix, device, rounds)
    copy = seconds(source.clone, device, rounds)
    print(
        f"floor: {2e-12 * side**3 / product:.0f} TFLOP/s in bfloat16, {2e-9 * size / copy:.0f} GB/s"
    )


def runs(network: InferenceNetwork, image: torch.Tensor, *, amp: bool) -> Callable[[], Any]:
    """Return a function that segments a batch."""
    index = torch.full((len(image),), CT, device=image.device)

    def run() -> Any:
        context = torch.autocast(image.device.type, torch.bfloat16) if amp else nullcontext()
        with context:
            return network.decode(network.encode(image, index), index, [0], None)

    return run


def networks(device: torch.device) -> Iterator[tuple[str, Callable[[], InferenceNetwork]]]:
    """Yield the runtimes of a device, each with a function that makes its network."""
    root = find_bundle(None)
    network = network_of_table(ModalityTable.read(root / TABLE))
    network = load_network(network, root / WEIGHTS, device)
    yield "eager", lambda: InferenceNetwork(network)
    kinds = quick_runtimes(device.type)
    kinds += tuple(
        RUNTIMES[name]
        for name in ("compile", "tensorrt")
        if device.type == "cuda" and not RUNTIMES[name].missing
    )
    for kind in kinds:
        run_by = partial(RuntimeNetwork, runtime=kind)
        yield kind.name, lambda run_by=run_by: InferenceNetwork(network, run_by)  # type: ignore[misc]


def measure(asked: argparse.Namespace, device: torch.device) -> None:
    """Print a row for each size, batch, precision and runtime."""
    print("| runtime | side | batch | precision | images/s | ms/batch | GB |\n|" + " --- |" * 7)
    began = time.monotonic()
    for name, make in networks(device):
        for side in asked.sides:
            for batch in asked.batches:
                for amp in (False, True):
                    is_quick = name == "eager" or RUNTIMES[name].is_quick
                    if time.monotonic() - began > asked.seconds or (not is_quick and batch != 16):
                        continue  # torch.compile takes minutes a shape
                    if amp and name != "eager" and not RUNTIMES[name].has_autocast:
                        continue
                    _row(name, make, side, batch, amp=amp, device=device, rounds=asked.rounds)


def _row(
    name: str,
    make: Callable[[], InferenceNetwork],
    side: int,
    batch: int,
    *,
    amp: bool,
    device: torch.device,
    rounds: int,
) -> None:
    image = torch.randn(batch, 3, side, side, device=device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        took = seconds(runs(make(), image, amp=amp), device, rounds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        print(f"| {name} | {side} | {batch} | does not fit | | | |", flush=True)
        return
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    kind = "bfloat16" if amp else "float32"
    numbers = f"{batch / took:.0f} | {1000 * took:.2f} | {peak:.1f}"
    print(f"| {name} | {side} | {batch} | {kind} | {numbers} |", flush=True)


def measure_volume(device: torch.device, slices: int) -> None:
    """Print the time of a volume whose network is warm: from pixels to probabilities."""
    table = ModalityTable.read(find_bundle(None) / TABLE)
    _, make = next(iter(networks(device)))
    pixels = torch.randint(-1000, 1000, (1, 1, 512, 512, slices), dtype=torch.int16)
    grid = Grid(shape=(512, 512, slices), affine=np.diag([0.7, 0.7, 1.5, 1.0]))
    shown = (-160.0, 240.0)
    record = Image(
        path="noise", name="noise", modality="ct", grid=grid, unit="HU", intensity_range=shown
    )
    inferer = SliceWiseInferer(
        table=table, input_size=(448, 448), targets=["liver"], device=device, amp=True
    )
    network, image = make(), MetaTensor(pixels, meta={IMAGE_KEY: [record]})
    took = seconds(lambda: inferer(image, network), device, 1)
    print(f"a volume of 512 x 512 x {slices}, warm: {took:.2f} s")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sides", nargs="+", type=int, default=[256, 448, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=150, help="Begin no row after this time.")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.manual_seed(0)
    with torch.no_grad():
        print_floor(device, asked.rounds)
        measure(asked, device)
        measure_volume(device, asked.slices)


if __name__ == "__main__":
    main()
