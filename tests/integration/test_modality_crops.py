"""What crops and fills leave of the structures in real images that an expert outlined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image as PillowImage

from esp_medsam.transforms.dermoscopy import CropDarkRim
from esp_medsam.transforms.endoscopy import CropBlackBorder
from esp_medsam.transforms.microscopy import is_bright_field
from esp_medsam.transforms.slices import CropToFound
from esp_medsam.transforms.ultrasound import CropToScan
from esp_medsam.transforms.vignette import dark_corners


def images(folder: Path, count: int) -> list[Path]:
    """Return about so many images of a set, evenly spread."""
    paths = sorted((folder / "images").iterdir())
    if not paths:
        pytest.skip(f"needs images in {folder}")
    return paths[:: max(1, len(paths) // count)]


def read(path: Path) -> torch.Tensor:
    pixels: npt.NDArray[Any] = np.asarray(PillowImage.open(path), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def outlined(path: Path) -> torch.Tensor:
    mask = path.parents[1] / "masks" / path.with_suffix(".png").name
    return torch.from_numpy(np.asarray(PillowImage.open(mask).convert("L")) > 127)


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("endoscopy/CVC-ClinicDB", CropBlackBorder()),
        ("dermoscopy/ISIC2017", CropDarkRim()),
        ("ultrasound/BUSI", CropToScan()),
    ],
)
class TestCrops:
    def test_keep_all_of_what_an_expert_outlined(
        self, shared: Path, name: str, crop: CropToFound
    ) -> None:
        for path in images(shared / "data2d" / name, 60):
            mask = outlined(path)

            box = crop.find(read(path))

            assert mask[box].sum() == mask.sum(), path.name


class TestDarkCorners:
    def test_hold_next_to_nothing_of_a_lesion(self, shared: Path) -> None:
        found = 0
        for path in images(shared / "data2d/dermoscopy/ISIC2017", 60):
            mask, corners = outlined(path), dark_corners(read(path))
            if corners is not None:
                found += 1
                assert (mask & corners).sum() <= 0.01 * mask.sum(), path.name
        assert found >= 5


class TestIsBrightField:
    def test_color_images_are_and_most_gray_ones_are_not(self, shared: Path) -> None:
        for path in images(shared / "data2d/microscopy/DSB2018", 60):
            image = read(path)
            # All of this set's fluorescence is gray, and all of its stained tissue bright.
            assert is_bright_field(image) == (len(image) == 3 or float(image.median()) > 0.5)
