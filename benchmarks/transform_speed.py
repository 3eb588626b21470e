"""Time of each transform, compared with the network's forward pass on the same image.

    python benchmarks/transform_speed.py [--clock processor] [--seconds 1.5] [--only NAME ...]

Prints a table of milliseconds per megapixel (for volumes: million voxels) and the ratio to the
forward pass of the shipped network on that image, for all targets of its modality, with random
weights; for a volume, on all of its slices. The two are timed in turn and medians are printed, so
that a busy machine slows both alike; ``--clock processor`` counts CPU time only. Returns 1 if a
transform costs more than the forward pass and :data:`REASONS` does not say why.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import skimage
import torch
from scipy.ndimage import gaussian_filter
from skimage.draw import bezier_curve, disk
from torch import Tensor

from esp_medsam import transforms as t
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.workflows.bundle import TABLE, find_bundle


INPUT_SIZE = (448, 448)
"""As in bundle/configs/inference.yaml."""

REASONS = {
    "Clahe": "It works at the image's own size, here up to 21 times the network's pixels, and its "
    "histograms are counted on one thread.",
    "MeasureBiasField": "N4 runs on one thread, because its last bits depend on their number; it "
    "runs once in a volume.",
    "SubtractLocalAverage": "It works at the image's own size, here 10 times the network's pixels.",
}
"""Why a transform may cost more than the forward pass."""

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

SHAPES = {
    "ct": (512, 512),
    "mri": (256, 256),
    "dermoscopy": (768, 1024),
    "endoscopy": (576, 720),
    "ultrasound": (600, 800),
    "xray": (2048, 2048),
    "fundus": (1411, 1411),
    "microscopy": (1024, 1024),
}
"""Rows and columns that images of a modality commonly have."""

SLICES = 32
"""Slices of a volume."""


@dataclass(frozen=True)
class Case:
    """One transform on one image."""

    transform: object
    modality: str
    run: Callable[[], object]
    slices: int = 1

    @property
    def name(self) -> str:
        """Name of the transform."""
        return type(self.transform).__name__

    @property
    def size(self) -> tuple[int, ...]:
        """Rows and columns, and slices for a volume."""
        return (*SHAPES[self.modality], self.slices)[: 2 + (self.slices > 1)]


def cases() -> Iterator[Case]:
    """Yield every transform, on an image that it changes."""
    rows = SHAPES["ct"][0]
    box = t.CropToBox(rows=(20, rows - 20), columns=(30, rows - 30))
    three = t.Windows([t.LUNG, t.SOFT_TISSUE, t.BONE])
    for transform in (t.PaddingToAir(), t.ClipMetal(), three, t.TableRemoval(), box):
        yield on_slice(transform, "ct", trunk())
    yield on_volume(t.MeasureBody(), "ct", trunk())

    head = 900.0 * trunk(SHAPES["mri"]).clamp(0.0, 1.0)
    for measure in (t.MeasurePercentiles(), t.MeasureZScore(), t.MeasureBiasField()):
        yield on_volume(measure, "mri", head)
    yield on_slice(t.ApplyBiasField(np.linspace(-0.5, 0.5, 784).reshape(28, 28)), "mri", head)

    shown: dict[str, tuple[Any, ...]] = {
        "dermoscopy": (t.ShadesOfGray(), t.RemoveHair(), t.CropDarkRim(), t.FillDarkCorners()),
        "endoscopy": (t.CropBlackBorder(), t.SuppressSpecular()),
        "ultrasound": (
            t.CropToScan(), t.MaskBurnedIn(), t.ReduceSpeckle(), t.NormalizeGain(),
            t.SuppressDoppler(),
        ),
        "fundus": (
            t.CropToFieldOfView(), t.KeepFieldOfView(), t.SubtractLocalAverage(), t.Clahe(),
        ),
    }  # fmt: skip
    for modality, chosen in shown.items():
        for transform in chosen:
            image = photograph(SHAPES[modality])
            yield on_slice(transform, modality, scan(image) if modality == "ultrasound" else image)
    radiograph = photograph(SHAPES["xray"])[1:2]
    yield Case(t.MeasureWindow(), "xray", lambda: t.MeasureWindow()(*radiograph_file(radiograph)))
    for transform in (t.CropCollimation(), t.Clahe()):
        yield on_slice(transform, "xray", radiograph)
    yield on_slice(t.NormalizeStain(), "microscopy", stained())
    yield on_slice(t.ScaleFluorescence(), "microscopy", 0.2 * (1.0 - stained()))


def on_slice(transform: Any, modality: str, image: Tensor) -> Case:
    """Return the case of a slice transform."""
    return Case(transform, modality, lambda: transform(image))


def on_volume(measure: Any, modality: str, image: Tensor) -> Case:
    """Return the case of a measure, on a volume that repeats one slice."""
    rows, columns = SHAPES[modality]
    volume = image[0].T.round().short().numpy()[None, ..., None].repeat(SLICES, axis=3)
    record = Image(
        path="made up",
        name="made up",
        modality=modality,
        grid=Grid(shape=(columns, rows, SLICES), affine=np.diag([-0.8, -0.8, 5.0, 1.0])),
    )
    return Case(measure, modality, lambda: measure(volume, record), SLICES)


def photograph(shape: tuple[int, int]) -> Tensor:
    """Return a round field in a dark frame, with hairs, highlights and letters on it."""
    path = Path(skimage.__file__).parent / "data" / "retina.jpg"
    picture = PIL.Image.open(path).convert("RGB").resize((max(shape), max(shape)))
    top = (max(shape) - shape[0]) // 2
    image = np.asarray(picture, np.float32)[top : top + shape[0]].transpose(2, 0, 1) / 255.0
    draw = np.random.default_rng(0)
    for _ in range(12):
        ends = (draw.uniform(0.2, 0.8, (3, 2)) * shape).astype(int)
        line = bezier_curve(*ends.ravel(), weight=1.5, shape=shape)
        image[:, line[0], line[1]] = image[:, (line[0] + 1) % shape[0], line[1]] = 0.1
    for row, column in (draw.uniform(0.3, 0.7, (20, 2)) * shape).astype(int):
        spot = disk((row, column), max(3, shape[0] // 150), shape=shape)
        image[:, spot[0], spot[1]] = 0.97
        image[:, row : row + 9, column + 20 : column + 60 : 5] = 1.0
    return torch.from_numpy(np.ascontiguousarray(image))


def scan(image: Tensor) -> Tensor:
    """Return a photograph in gray except for a color window, as color flow ultrasound has."""
    gray = image.mean(0, keepdim=True).repeat(3, 1, 1)
    rows, columns = (slice(int(0.4 * side), int(0.6 * side)) for side in image.shape[1:])
    gray[:, rows, columns] = image[:, rows, columns]
    return gray


def trunk(shape: tuple[int, int] = SHAPES["ct"]) -> Tensor:
    """Return a body on a table, in Hounsfield units."""
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    far = np.hypot(rows[:, None] / 0.55, columns / 0.8)
    image = np.where(far < 1, 40.0, -1000.0) - 500.0 * (far < 0.4)
    image[int(0.85 * shape[0]) : int(0.87 * shape[0])] = -200.0
    noise = np.random.default_rng(0).normal(0, 15, shape)
    return torch.from_numpy((image + noise).astype(np.float32))[None]


def stained() -> Tensor:
    """Return nuclei in stroma: hematoxylin and eosin, mixed by smooth noise."""
    shape = SHAPES["microscopy"]
    draw = np.random.default_rng(0)
    fields = [gaussian_filter(draw.normal(size=shape), sigma) for sigma in (4, 12)]
    blue, red = (np.clip(0.4 + 0.4 * field / field.std(), 0.0, 1.2) for field in fields)
    absorbed = np.multiply.outer((0.56, 0.72, 0.41), blue)
    absorbed += np.multiply.outer((0.22, 0.80, 0.56), red)
    return torch.from_numpy((0.94 * np.exp(-absorbed)).astype(np.float32))


def radiograph_file(image: Tensor) -> tuple[npt.NDArray[np.uint16], Image]:
    """Return pixels as a detector gives them, and a window that covers some of them."""
    pixels = (image * 4095.0).round().numpy().astype(np.uint16)
    record = Image(
        path="made up", name="made up", modality="xray", grid=Grid(shape=pixels.shape[1:]),
        window=(500.0, 3000.0),
    )  # fmt: skip
    return pixels, record


@dataclass(frozen=True)
class Forward:
    """The shipped network's forward pass for all targets of a modality on one image."""

    network: ESPMedSAM

    def __call__(self, modality: str) -> Tensor:
        """Return the logits."""
        index = torch.tensor([self.network.modalities[modality]])
        places = list(range(len(self.network.targets[modality])))
        with torch.no_grad():
            image = torch.zeros(1, 3, *INPUT_SIZE)
            return self.network.predict(image, index, places, None).low_res_logits


def measured(case: Case, forward: Forward, clock: Callable[[], float], seconds: float) -> Any:
    """Return the medians of the transform and of the forward pass, in seconds."""
    case.run()
    forward(case.modality)
    own, network = [], []
    end = time.perf_counter() + seconds
    while len(own) < 3 or (time.perf_counter() < end and len(own) < 15):
        start = clock()
        case.run()
        between = clock()
        forward(case.modality)
        own.append(between - start)
        network.append(clock() - between)
    return median(own), median(network) * case.slices


def main() -> int:
    """Print the table; return 1 if a transform costs too much without a stated reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each, three rounds at least")
    parser.add_argument("--only", nargs="+", help="names of transforms")
    arguments = parser.parse_args()
    table = ModalityTable.read(find_bundle() / TABLE)
    forward = Forward(build_product(table.indices, table.target_names).eval())
    print(f"{torch.get_num_threads()} threads, {arguments.clock} time\n")
    print("| transform | modality | size | ms per megapixel | of the forward pass |")
    print("|---|---|---|---|---|")
    costly, timed = [], set()
    for case in cases():
        timed.add(case.name)
        if arguments.only and case.name not in arguments.only:
            continue
        own, network = measured(case, forward, CLOCKS[arguments.clock], arguments.seconds)
        size = "x".join(str(side) for side in case.size)
        per_megapixel = 1e9 * own / float(np.prod(case.size))
        flag = " **more**" if own > network else ""
        print(
            f"| `{case.name}` | {case.modality} | {size} | {per_megapixel:.1f} "
            f"| {own / network:.3f}{flag} |",
            flush=True,
        )
        if own > network:
            costly.append(case.name)
    for name in sorted(set(costly)):
        print(f"\n{name} costs more: {REASONS.get(name, 'nothing says why.')}")
    offered = {n for n in t.__all__ if f"{n}d" in t.__all__ or n.startswith("Measure")}
    untimed = offered - timed - {"LabelMap", "MeasureImage", "MeasureImaged"}
    for name in sorted(untimed):
        print(f"\n{name} is not timed.")
    return int(bool(untimed) or any(name not in REASONS for name in costly))


if __name__ == "__main__":
    raise SystemExit(main())
