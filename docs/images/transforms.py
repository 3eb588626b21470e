"""Draw ``transforms.png``: images of each modality before and after some of its transforms.

Run from anywhere: ``python docs/images/transforms.py`` (needs ``esp-medsam[report]``). What is
shown ships with scikit-image and pydicom, or is made up here; each side is what the network would
see, with the defaults at the left and with the transforms named below at the right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import skimage
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter
from skimage.draw import bezier_curve, disk, ellipse, polygon

from esp_medsam import transforms as t
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.resizing import content_size, to_content
from esp_medsam.io import read, settle_modality
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle


Floats = npt.NDArray[np.float64]

INK, PAPER = "#1f2933", (255, 255, 255)
SIDE = 190
"""Longest side of a picture, pixels."""

WIDTH, LINE = 860, 236
"""Of the figure, and the height of each of its lines, pixels."""


@dataclass(frozen=True)
class Pair:
    """An image and what it is prepared with in place of the defaults."""

    title: str
    image: Image
    transforms: t.ModalityTransforms

    @property
    def names(self) -> str:
        """What the transforms are called."""
        chosen = (*self.transforms.measure, *self.transforms.native, *self.transforms.shown)
        return ", ".join(type(transform).__name__ for transform in chosen)

    def seen(self, *, prepared: bool) -> npt.NDArray[np.uint8]:
        """Return what the network sees of the first slice, ``(SIDE, SIDE, 3)``."""
        image = self.image
        table = {image.modality: self.transforms} if prepared else None
        assert image.pixels is not None
        measured = t.MeasureImage(table)(image.pixels, image)
        slices = Slices(as_meta_tensor(image).as_tensor(), measured, transforms=table)
        view = slices[0]
        size = content_size(view.size, slices.spacing, (SIDE, SIDE), "fit")
        content = to_content([view.pixels], size, view.intensity_range, torch.device("cpu"))[0]
        pixels = (content.expand(3, -1, -1) * 255.0).round().byte().permute(1, 2, 0).numpy()
        tile = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
        top, left = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
        tile[top : top + size[0], left : left + size[1]] = pixels
        return tile


def shipped(name: str, modality: str) -> Image:
    """Read a file of scikit-image or pydicom."""
    folder = Path(skimage.__file__).parent / "data"
    path = folder / name if (folder / name).is_file() else Path(str(get_testdata_file(name)))
    table = ModalityTable.read(find_bundle() / TABLE)
    return settle_modality(read(path), modality, table)


def made_up(pixels: Floats, modality: str, **known: Any) -> Image:
    """Return a record of ``(C, rows, columns)`` in 0..1, held in 8 bits."""
    levels = (pixels.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    return Image(
        path="made up", name="made up", modality=modality, grid=Grid(shape=levels.shape[1:]),
        pixels=levels, **known,
    )  # fmt: skip


def texture(shape: tuple[int, int], sigma: float, seed: int) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.asarray((noise - noise.mean()) / noise.std())


def colored(values: Floats, color: tuple[float, float, float]) -> Floats:
    """Return ``(3, rows, columns)``: one color, more or less of it."""
    return np.asarray(color)[:, None, None] * values


def body() -> Image:
    """A trunk on the scanner's table, in Hounsfield units, four sections of it."""
    shape = (200, 240)
    rows = np.indices(shape)[0]
    image = np.full(shape, -1000.0)
    parts = (  # center, half axes, HU
        ((95, 120), (62, 92), -90), ((95, 120), (55, 84), 55), ((70, 80), (30, 34), 110),
        ((112, 165), (16, 22), 35), ((135, 120), (14, 16), 320), ((88, 150), (12, 20), -300),
    )  # fmt: skip
    for center, axes, value in parts:
        image[ellipse(*center, *axes, shape=shape)] = value
    table = (abs(rows - 172 - 0.0012 * (np.indices(shape)[1] - 120) ** 2) < 2).astype(float)
    image = gaussian_filter(image, 1.2) + 1080 * table + 14 * texture(shape, 0.7, 1)
    volume = np.repeat(image.T[None, ..., None], 4, axis=3).round().astype(np.int16)
    return Image(
        path="made up", name="made up", modality="ct", pixels=volume, unit="HU",
        grid=Grid(shape=volume.shape[1:], affine=np.diag([-1.7, -1.7, 5.0, 1.0])),
    )  # fmt: skip


def abdomen() -> Image:
    """An abdomen, as a coil at its front would see it."""
    image = shipped("examples_overlay.dcm", "mri")
    assert image.pixels is not None
    columns, rows = np.indices(image.pixels.shape[1:3])
    coil = np.exp(-2.6 * rows / rows.max() - 0.9 * columns / columns.max())
    return replace(image, pixels=(image.pixels * coil[None, ..., None]).astype(np.float32))


def skin() -> Image:
    """A lesion under hairs, in warm light, seen through a round window."""
    shape = (300, 400)
    rows, columns = np.indices(shape)
    spot = np.hypot((rows - 150) / 62, (columns - 195) / 84) + 0.07 * texture(shape, 9, 1)
    lesion = gaussian_filter((spot < 1).astype(float), 3) * (0.75 + 0.08 * texture(shape, 3, 2))
    image = colored(0.85 + 0.03 * texture(shape, 2, 3), (0.95, 0.72, 0.5))
    image = image * (1 - lesion) + lesion * colored(np.ones(shape), (0.42, 0.22, 0.13))
    for seed in range(9):
        draw = np.random.default_rng(seed)
        ends = draw.integers((0, 0, 60, 80, 0, 200), (300, 200, 240, 320, 300, 400))
        hair = bezier_curve(*ends, weight=1.5, shape=shape)
        image[:, hair[0], hair[1]] = image[:, (hair[0] + 1) % 300, hair[1]] = 0.14
    far = np.hypot(rows - 150, columns - 200)
    return made_up(image * np.clip((212 - far) / 8, 0.04, 1.0), "dermoscopy")


def colon() -> Image:
    """A polyp in uneven light with highlights on it, in a scope's black frame."""
    shape = (260, 280)
    rows, columns = np.indices(shape)
    folds = 0.62 + 0.06 * np.sin(columns / 17 + rows / 30) + 0.04 * texture(shape, 4, 1)
    bump = gaussian_filter((np.hypot(rows - 150, columns - 170) < 48).astype(float), 6)
    light = np.exp(-0.5 * (np.hypot(rows - 80, columns - 90) / 120) ** 2)
    picture = colored((folds + 0.2 * bump) * (0.28 + light), (1.0, 0.55, 0.42))
    for row, column, radius in ((96, 150, 7), (70, 84, 9), (130, 182, 6), (58, 120, 5)):
        spots = disk((row, column), radius)
        picture[:, spots[0], spots[1]] = 0.97
    corners = (rows + columns < 45) | (rows + 279 - columns < 45)
    corners |= (259 - rows + columns < 45) | (538 - rows - columns < 45)
    picture[:, corners] = 0.02
    frame = np.full((3, 300, 420), 0.02)
    frame[:, 20:280, 120:400] = picture
    for number, row in enumerate(range(30, 110, 16)):
        for column in range(12, 78 - 9 * number, 9):
            frame[:, row : row + 9, column : column + 6 : 2 + number % 2] = 0.8
    return made_up(frame, "endoscopy")


def doppler() -> Image:
    """A lymph node with power Doppler; the hospital's lines are left out."""
    image = shipped("examples_rgb_color.dcm", "ultrasound")
    assert image.pixels is not None
    pixels = image.pixels.copy()
    pixels[:, :48, :205] = 0
    return replace(image, pixels=pixels)


def chest() -> Image:
    """A chest as MONOCHROME1 has it, behind a collimator."""
    shape = (360, 320)
    rows, columns = np.indices(shape)
    image = np.full(shape, 0.62) + 0.1 * (rows / 360)
    for column, side in ((108, -1), (212, 1)):
        lung = np.zeros(shape)
        lung[ellipse(165, column, 112, 52, shape=shape, rotation=0.12 * side)] = 1.0
        image -= 0.42 * gaussian_filter(lung, 4)
        for rib in range(70, 300, 34):
            curve = rib + 0.0045 * (columns - column - 40 * side) ** 2
            image += 0.045 * np.exp(-0.5 * ((rows - curve) / 4) ** 2) * (abs(columns - column) < 62)
    image += 0.16 * np.exp(-0.5 * ((columns - 160) / 24) ** 2)
    heart = np.zeros(shape)
    heart[ellipse(225, 182, 52, 58, shape=shape)] = 1.0
    image += 0.22 * gaussian_filter(heart, 5) + 0.02 * texture(shape, 1, 1)
    image = 0.2 + 0.5 * image
    inside = polygon((24, 24, 330, 330), (40, 285, 285, 40), shape=shape)
    frame = np.full(shape, 0.03)
    frame[inside] = image[inside]
    return made_up(1.0 - frame[None], "xray", inverted=True)


def tissue() -> Image:
    """Nuclei in stroma, stained with hematoxylin and eosin, too blue and too pale."""
    shape = (256, 256)
    draw = np.random.default_rng(5)
    blue = 0.12 + 0.03 * texture(shape, 3, 1)
    red = (0.55 + 0.25 * texture(shape, 6, 2)).clip(0.05)
    for _ in range(120):
        row, column = draw.uniform(0, 256, 2)
        size, turn = draw.uniform(4, 8, 2), draw.uniform(0, 3)
        blue[ellipse(row, column, *size, shape=shape, rotation=turn)] = draw.uniform(0.7, 1.1)
    red[np.hypot(*(np.indices(shape) - np.array([70, 190])[:, None, None])) < 34] = 0.02
    blue = gaussian_filter(blue, 0.8)
    absorbed = colored(blue, (0.72, 0.62, 0.3)) + colored(red, (0.15, 0.84, 0.52))
    return made_up(0.94 * np.exp(-0.7 * absorbed), "microscopy")


def nuclei() -> Image:
    """Stained nuclei, dim, on a camera's offset."""
    shape = (256, 256)
    draw = np.random.default_rng(3)
    image = np.zeros(shape)
    for _ in range(34):
        row, column = draw.uniform(10, 246, 2)
        spot = ellipse(
            row, column, *draw.uniform(8, 13, 2), shape=shape, rotation=draw.uniform(0, 3)
        )
        image[spot] = np.maximum(image[spot], draw.uniform(0.4, 1.0))
    image = gaussian_filter(image, 1.5) * (0.85 + 0.1 * texture(shape, 2, 1))
    return made_up(0.06 + 0.14 * image[None] + 0.004 * texture(shape, 0.6, 2), "microscopy")


def pairs() -> list[Pair]:
    """Return what is shown, two to a line."""
    head, lying = shipped("J2K_pixelrep_mismatch.dcm", "ct"), body()
    return [
        Pair("CT: brain, soft tissue and bone as colors", head, t.ModalityTransforms(
            native=[t.Windows([(0, 80), t.SOFT_TISSUE, t.BONE])],
        )),
        Pair("CT: the body without its table", lying, t.ModalityTransforms(
            measure=[t.MeasureBody()], native=[t.PaddingToAir(), t.ClipMetal(), t.TableRemoval()],
        )),
        Pair("MRI: without the coil's shading", abdomen(), t.ModalityTransforms(
            measure=[t.MeasureBiasField(), t.MeasurePercentiles()],
        )),
        Pair("Dermoscopy: neutral light, hairs and corners filled", skin(), t.ModalityTransforms(
            shown=[t.FillDarkCorners(), t.RemoveHair(), t.ShadesOfGray()],
        )),
        Pair("Endoscopy: the picture alone, highlights filled", colon(), t.ModalityTransforms(
            shown=[t.CropBlackBorder(), t.SuppressSpecular()],
        )),
        Pair("Ultrasound: the scan, flow and text filled", doppler(), t.ModalityTransforms(
            shown=[t.CropToScan(), t.SuppressDoppler(), t.MaskBurnedIn()],
        )),
        Pair(
            "Ultrasound: gain and speckle", shipped("examples_ybr_color.dcm", "ultrasound"),
            t.ModalityTransforms(shown=[t.CropToScan(), t.NormalizeGain(), t.ReduceSpeckle()]),
        ),
        Pair("X-ray: inside the collimator, local contrast", chest(), t.ModalityTransforms(
            shown=[t.CropCollimation(), t.Clahe()],
        )),
        Pair("Fundus: vessels in even light", shipped("retina.jpg", "fundus"), t.ModalityTransforms(
            shown=[t.CropToFieldOfView(), t.SubtractLocalAverage()],
        )),
        Pair("Fundus: local contrast", shipped("retina.jpg", "fundus"), t.ModalityTransforms(
            shown=[t.KeepFieldOfView(), t.Clahe(clip_limit=3.0)],
        )),
        Pair("Microscopy: the stains of a reference", tissue(), t.ModalityTransforms(
            shown=[t.NormalizeStain()],
        )),
        Pair("Microscopy: any gain alike", nuclei(), t.ModalityTransforms(
            shown=[t.ScaleFluorescence()],
        )),
    ]  # fmt: skip


def draw() -> Figure:
    """Return the figure."""
    shown = pairs()
    height = LINE * -(-len(shown) // 2) + 6
    figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100, facecolor="white")
    for place, pair in enumerate(shown):
        line, column = divmod(place, 2)
        for side, prepared in enumerate((False, True)):
            left = 10 + column * 430 + side * 210
            bottom = height - 6 - (line + 1) * LINE + 26
            ax: Axes = figure.add_axes((left / WIDTH, bottom / height, SIDE / WIDTH, SIDE / height))
            ax.imshow(pair.seen(prepared=prepared), interpolation="none")
            ax.axis("off")
            if side == 0:
                ax.text(0, -7, pair.title, size=8.5, weight="bold", color=INK)
                ax.text(0, SIDE + 13, pair.names, size=7.5, color=INK)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure in 256 colors, which is what keeps it small."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    picture = picture.quantize(256, kmeans=3)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".png")
    save(draw(), path)
    print(path)
