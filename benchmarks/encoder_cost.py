"""Cost of an image encoder by the number of pixels, with its exponent: a table and a plot.

    python benchmarks/encoder_cost.py OUT.json [--plot OUT.svg]

Measures TinyViT, TiC and SAM's ViT-B (if segment_anything is installed) with random weights of the
true shapes, float32, one thread: CPU seconds for one image, the least of ``--rounds`` taken in
turns, and billions of multiply-accumulates. ViT-B is timed up to 1024 x 1024 and only counted
beyond, where one matrix of its attention takes 13 GB. The exponent is the least-squares slope of
the logarithms: 1 is linear in pixels, 2 quadratic. The plot needs ``esp-medsam[report]``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network_cost import gmacs_of
from torch import Tensor, nn

from esp_medsam.networks import build_product
from esp_medsam.networks.modality_controller import Route


SIDES = (256, 384, 512, 768, 1024, 1536, 2048)
TIMED_VIT = 1024
COLORS = {"TinyViT": "#0072b2", "TiC": "#d55e00", "SAM ViT-B": "#555555"}


class OfOneModality(nn.Module):
    """Encoder of this package with a fixed modality, called with images alone."""

    def __init__(self, image_encoder: str) -> None:
        super().__init__()
        network = build_product({"ct": 6}, {"ct": ["liver"]}, image_encoder=image_encoder)  # type: ignore[arg-type]
        self.encoder = network.image_encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return the image embedding."""
        embedding: Tensor = self.encoder(image, Route(0, None, [], None)).image_embedding
        return embedding


def vit_b(side: int) -> nn.Module:
    """Return SAM's ViT-B for images of ``side`` x ``side``."""
    from segment_anything.modeling import ImageEncoderViT

    norm = partial(nn.LayerNorm, eps=1e-6)
    encoder: nn.Module = ImageEncoderViT(
        img_size=side,
        norm_layer=norm,
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
    )
    return encoder


def seconds(encoder: nn.Module, side: int) -> float:
    """Return the CPU seconds for one image."""
    image = torch.randn(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    began = time.process_time()
    encoder(image)
    return time.process_time() - began


def exponent(sides: list[int], costs: list[float]) -> float:
    """Return the power of the number of pixels with which the cost grows."""
    return float(np.polyfit(np.log([side**2 for side in sides]), np.log(costs), 1)[0])


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Return times and counts by encoder and image side."""
    makers: dict[str, Callable[[int], nn.Module]] = {
        "TinyViT": lambda _: OfOneModality("tiny_vit"),
        "TiC": lambda _: OfOneModality("tic"),
    }
    if find_spec("segment_anything"):
        makers["SAM ViT-B"] = vit_b
    found: dict[str, dict[str, Any]] = {name: {"seconds": {}, "gmacs": {}} for name in makers}
    for side in SIDES:
        for name, make in makers.items():
            with torch.device("meta"):
                counted = make(side)
            found[name]["gmacs"][side] = gmacs_of(counted.eval(), side)[""]
        timed = [name for name in makers if name != "SAM ViT-B" or side <= TIMED_VIT]
        encoders = {
            name: makers[name](side).eval().to(memory_format=torch.channels_last) for name in timed
        }
        taken: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, encoder in encoders.items():
                taken[name].append(seconds(encoder, side))
        for name in timed:
            found[name]["seconds"][side] = min(taken[name])
            print(f"{name} {side}: {min(taken[name]):.3f} s", flush=True)
    for each in found.values():
        for unit in ("seconds", "gmacs"):
            each[f"exponent of {unit}"] = exponent(list(each[unit]), list(each[unit].values()))
    return found


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot time and operations against pixels, on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    units = {"seconds": "seconds of one thread", "gmacs": "GMAC"}
    for axes, (unit, label) in zip(figure.subplots(1, 2), units.items(), strict=True):
        for name, each in found.items():
            sides, costs = [int(side) for side in each[unit]], list(each[unit].values())
            power = each[f"exponent of {unit}"]
            axes.loglog(
                sides, costs, "o-", color=COLORS[name], label=f"{name}, pixels to the {power:.2f}"
            )
        axes.set_xlabel("side of a square image, pixels")
        axes.set_ylabel(label)
        axes.set_xticks(SIDES, [str(side) for side in SIDES])
        axes.minorticks_off()
        axes.grid(visible=True, color="#dddddd")
        axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Measure, or load earlier measurements, then print and plot them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.out.exists():
        with torch.no_grad():
            found = measure(asked.rounds)
        asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    found = json.loads(asked.out.read_text(encoding="utf-8"))
    for name, each in found.items():
        print(name, {key: value for key, value in each.items() if key.startswith("exponent")})
    if asked.plot:
        draw(found, asked.plot)


if __name__ == "__main__":
    main()
