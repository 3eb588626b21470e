"""Time, share of the processor's peak and memory of one forward pass, beside other networks.

    python benchmarks/speed/forward.py [--side 448] [--rounds 7] [--threads 1] [--only NAME ...]
    python benchmarks/speed/forward.py --side 1024 --check

All networks take the same image, in float32, in one process, in turns: CPU seconds, so that other
programs on the machine matter less. The ratio is the median over the rounds of the time to that of
the released design as released. The peak is what a product of 1024 x 1024 matrices reaches between
the rounds. Freed memory is kept for all, which the C library does not do by itself. Weights are
random but for the product's, and shapes are true. SAM needs segment-anything, SwinUNETR einops, and
runtimes their extras. ``--check`` compares the ratios of our own networks with those in
``baseline.json`` of the same kind of processor and side, and ends with status 1 if one got 10 %
worse; ``--keep`` writes them there.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.networks.nets import DynUNet, SwinUNETR, UNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esp_medsam.allocator import keep_memory
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_released
from esp_medsam.networks.builders import build_mobilesam_encoder
from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.networks.modality_controller import route
from esp_medsam.runtimes import RuntimeNetwork
from esp_medsam.runtimes.kinds import quick_runtimes
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.weights import load_network, network_of_table


RELEASED = "released design"
OWN = (RELEASED, "product")

BASELINE = Path(__file__).with_name("baseline.json")

MOST_WORSE = 1.1
"""Share of its baseline that a ratio may reach: noise is less."""

MATRIX = 1024


class Case(NamedTuple):
    """What is timed.

    Attributes:
        name: Its name in the table.
        network: Whose parameters and multiply-accumulates count.
        run: Does one forward pass with an image.
        counted: Does the same in PyTorch, where multiply-accumulates are counted; None if that is
            ``run`` itself.
    """

    name: str
    network: nn.Module
    run: Callable[[Tensor], Any]
    counted: Callable[[Tensor], Any] | None = None


def segmenting(
    network: ESPMedSAM | InferenceNetwork, modality: str, targets: list[int]
) -> Callable[[Tensor], Any]:
    """Return a function that encodes an image and decodes some targets of it."""
    index = torch.tensor([network.modalities[modality]])

    def run(image: Tensor) -> Any:
        return network.decode(network.encode(image, index), index, targets, None)

    return run


def own_networks() -> Iterator[Case]:
    """Yield the released design and the product, as trained and as rewritten for inference."""
    released = build_released("xray").eval()
    yield Case(RELEASED, released, segmenting(released, "xray", [0]))
    released_run = segmenting(fuse(released, "xray"), "xray", [0])
    yield Case("released design, rewritten", released, released_run)
    root = find_bundle(None)
    product = load_network(network_of_table(ModalityTable.read(root / TABLE)), root / WEIGHTS)
    rewritten = fuse(product, "ct")
    yield Case("product, as trained, one target", product, segmenting(product, "ct", [0]))
    product_run = segmenting(rewritten, "ct", [0])
    yield Case("product, one target", product, product_run)
    six = list(range(6))
    yield Case("product, six targets", product, segmenting(rewritten, "ct", six))
    for runtime in quick_runtimes("cpu"):
        run_by = partial(RuntimeNetwork, runtime=runtime)
        run = segmenting(InferenceNetwork(released, run_by), "xray", [0])
        yield Case(f"{RELEASED}, {runtime.name}", released, run, released_run)
        run = segmenting(InferenceNetwork(product, run_by), "ct", [0])
        yield Case(f"product, one target, {runtime.name}", product, run, product_run)


def other_networks(side: int) -> Iterator[Case]:
    """Yield networks that others use."""
    mobile = build_mobilesam_encoder({"xray": 0}).eval()
    yield Case("MobileSAM, the encoder alone", mobile, partial(_mobile, mobile))
    if find_spec("segment_anything") is not None:
        from segment_anything.modeling import ImageEncoderViT

        norm = partial(nn.LayerNorm, eps=1e-6)
        places = (2, 5, 8, 11)
        vit = ImageEncoderViT(
            img_size=side, norm_layer=norm, window_size=14, global_attn_indexes=places
        )
        yield Case("SAM ViT-B, the encoder alone", vit.eval(), vit)
    unet = UNet(2, 3, 1, (48, 96, 192, 384, 768), (2, 2, 2, 2), num_res_units=2)
    yield Case("MONAI UNet", unet.eval(), unet)
    if find_spec("einops") is not None:
        swin = SwinUNETR(3, 1, feature_size=24, spatial_dims=2)
        yield Case("MONAI SwinUNETR", swin.eval(), swin)
    kernels, strides = [3] * 6, [1, *[2] * 5]
    dynunet = DynUNet(2, 3, 1, kernels, strides, strides[1:], filters=[24, 48, 96, 192, 320, 320])
    yield Case("MONAI DynUNet", dynunet.eval(), dynunet)


def _mobile(encoder: nn.Module, image: Tensor) -> Any:
    """Encode without the controllers that MobileSAM does not have."""
    return encoder(image, route(0, None, 1))


def seconds(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def peak_memory(run: Callable[[], Any]) -> float:
    """Return by how many MB a call raises the memory of the process; NaN where it is not told."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return float("nan")

    def told(field: str) -> int:
        (line,) = [one for one in status.read_text().splitlines() if one.startswith(field)]
        return int(line.split()[1])

    gc.collect()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)  # what others freed, else a pass may take it anew
    clear.write_text("5")
    before = told("VmRSS")
    run()
    return (told("VmHWM") - before) / 1024


def multiply_accumulates(run: Callable[[], Any]) -> float:
    """Return the multiply-accumulates of matrix products and convolutions in a call."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 2


def measure(cases: list[Case], side: int, rounds: int) -> dict[str, float]:
    """Print a row for each network, and return the ratios."""
    image = torch.randn(1, 3, side, side)
    matrix = torch.randn(MATRIX, MATRIX)
    for case in cases:
        case.run(image)  # an engine is made at its first pass
    memory = {case.name: peak_memory(partial(case.run, image)) for case in cases}
    keep_memory()  # after which memory no longer tells what a pass needs
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    rates: list[float] = []
    for _ in range(rounds):
        rates.append(2e-9 * MATRIX**3 / seconds(partial(torch.mm, matrix, matrix)))
        for case in cases:
            times[case.name].append(seconds(partial(case.run, image)))
    peak = statistics.median(rates)
    print(f"{side} x {side}, {torch.get_num_threads()} threads, {peak:.0f} GFLOP/s of matrices")
    print("| network | parameters | GMACs | CPU s | ratio | of peak | MB |\n|" + " --- |" * 7)
    ratios: dict[str, float] = {}
    for case in cases:
        own, first = times[case.name], times[cases[0].name]
        ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
        ratios[case.name] = round(ratio, 3)
        parameters = sum(one.numel() for one in case.network.parameters()) / 1e6
        took = statistics.median(own)
        gmacs = multiply_accumulates(partial(case.counted or case.run, image)) / 1e9
        row = f"{parameters:.1f} M | {gmacs:.1f} | {took:.3f} | {ratio:.2f}"
        share = 2 * gmacs / took / peak
        print(f"| {case.name} | {row} | {share:.2f} | {memory[case.name]:.0f} |", flush=True)
    return ratios


def kind_of_processor() -> str:
    """Return the units that decide which code libraries take."""
    known = torch.cpu.get_capabilities()
    units = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")
    return next((unit for unit in units if known.get(unit)), str(known.get("architecture")))


def compare(ratios: dict[str, float], place: str, *, keep: bool) -> bool:
    """Whether no ratio of our own networks got worse than :data:`MOST_WORSE` allows; say which.

    Args:
        ratios: What was measured.
        place: Kind of processor, side and threads.
        keep: Whether to keep the ratios as the new baseline instead.
    """
    own = {name: ratio for name, ratio in ratios.items() if name.startswith(OWN)}
    known = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    if keep:
        known[place] = own
        BASELINE.write_text(f"{json.dumps(known, indent=1)}\n", encoding="utf-8")
    if place not in known:
        print(f"No baseline for {place}: write one with --keep.")
        return True
    worse = [name for name in own if own[name] > MOST_WORSE * known[place].get(name, math.inf)]
    for name in worse:
        print(f"{name}: ratio {own[name]}, baseline {known[place][name]} ({place})")
    return not worse


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="Networks whose names begin so.")
    parser.add_argument("--check", action="store_true", help="Compare with the baseline.")
    parser.add_argument("--keep", action="store_true", help="Write the baseline.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    cases = [*own_networks(), *other_networks(asked.side)]
    if asked.only:
        wanted = (RELEASED, *asked.only)
        cases = [case for case in cases if case.name.startswith(wanted)]
    with torch.inference_mode():
        ratios = measure(cases, asked.side, asked.rounds)
    place = f"{kind_of_processor()}, {asked.side}, {asked.threads} threads"
    if (asked.check or asked.keep) and not compare(ratios, place, keep=asked.keep):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
