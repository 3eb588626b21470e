"""Each transform of each modality, in the table and driven as inference and training drive it."""

from __future__ import annotations

import pickle
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esp_medsam import transforms
from esp_medsam.grid import Grid
from esp_medsam.image import Image, UltrasoundRegion
from esp_medsam.inferers.preparation import Slices
from esp_medsam.transforms import (
    bias_field,
    body,
    clahe,
    ct,
    dermoscopy,
    endoscopy,
    fundus,
    microscopy,
    mri,
    ultrasound,
    xray,
)
from esp_medsam.transforms.box import CropToBox
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms, describe_transforms
from esp_medsam.transforms.slices import CropToFound, SliceTransform


Pixels = npt.NDArray[np.generic]

STAGES: dict[ModuleType, tuple[str, str]] = {
    ct: ("ct", "native"),
    body: ("ct", "native"),
    mri: ("mri", "native"),
    bias_field: ("mri", "native"),
    clahe: ("xray", "shown"),
    dermoscopy: ("dermoscopy", "shown"),
    endoscopy: ("endoscopy", "shown"),
    fundus: ("fundus", "shown"),
    microscopy: ("microscopy", "shown"),
    ultrasound: ("ultrasound", "shown"),
    xray: ("xray", "shown"),
}
"""Modality and stage of each file's slice transforms."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "ApplyBiasField": {"log": np.linspace(-0.5, 0.5, 6).reshape(2, 3)},
}
"""What has no default."""


def offered(module: ModuleType) -> list[type]:
    """Return the transforms of a file that the table takes."""
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and (issubclass(value, SliceTransform | CropToFound | CropToBox) or name[:7] == "Measure")
    ]


OFFERED = [(kind, *stage) for module, stage in STAGES.items() for kind in offered(module)]


def row(kind: type, stage: str) -> ModalityTransforms:
    """Return the table's row that holds one transform of this kind."""
    transform = kind(**ARGUMENTS.get(kind.__name__, {}))
    return ModalityTransforms(**{"measure" if "Measure" in kind.__name__ else stage: [transform]})


def image(modality: str, content: str) -> tuple[Pixels, Image]:
    """Return a tiny image of a modality, and what is known of it."""
    known: dict[str, Any] = {}
    placed: dict[str, Any] = {}
    shape: tuple[int, ...] = (3, 26, 22)
    dtype: type = np.uint8
    low, high = 0, 255
    if modality in ("ct", "mri"):
        shape = (1, 26, 22, 3)
        placed["affine"] = np.diag([-3.0, -3.0, 5.0, 1.0])
        dtype, low, high = (np.int16, -1024, 3000) if modality == "ct" else (np.float32, 0, 900)
        known["unit"] = "HU" if modality == "ct" else None
    elif modality == "ultrasound":
        region = UltrasoundRegion(rows=(3, 20), columns=(4, 18), data_type=1, spatial_format=1)
        shape, placed = (3, 26, 22, 2), {"stack_axis": 2}
        known["ultrasound_regions"] = (region,)
    elif modality == "xray":
        shape, dtype, high = (1, 26, 22), np.uint16, 4095
        known = {"window": (100.0, 3000.0), "inverted": True}
    if content == "gray":
        shape = (1, *shape[1:])
    generator = np.random.default_rng(0)
    pixels = generator.uniform(low, high, shape)
    if content == "framed":  # a disc in a black border
        rows, columns = np.ogrid[:26, :22]
        outside = (rows - 13) ** 2 + (columns - 11) ** 2 > 81
        pixels[:, outside] = low
        pixels[:, ~outside] = high - (pixels[:, ~outside] - low) / 3
    elif content == "constant":
        pixels[:] = (low + high) // 2
    elif content == "black":
        pixels[:] = low
    elif content == "narrow":
        pixels = pixels[:, :2]
    grid = Grid(shape=pixels.shape[1:], **placed)
    return pixels.astype(dtype), Image(path="a", name="a", modality=modality, grid=grid, **known)


CONTENTS = ("noise", "gray", "framed", "constant", "black", "narrow")


class TestEveryTransform:
    @pytest.mark.parametrize("content", CONTENTS)
    @pytest.mark.parametrize(
        ("kind", "modality", "stage"), OFFERED, ids=[kind.__name__ for kind, *_ in OFFERED]
    )
    def test_shows_the_network_a_sound_picture_whose_mask_covers_the_grid(
        self, kind: type, modality: str, stage: str, content: str
    ) -> None:
        pixels, record = image(modality, content)
        before = pixels.copy()
        table = {modality: row(kind, stage)}

        measured = MeasureImage(table)(pixels, record)
        slices = Slices(torch.from_numpy(pixels), measured, transforms=table)
        mask = torch.full((1, *pixels.shape[1:]), 9, dtype=torch.uint8)
        for index in range(len(slices)):
            view = slices[index]
            low, high = view.intensity_range
            shown = (view.pixels.float() - low) / (high - low)

            assert torch.isfinite(shown).all()
            assert shown.shape == (*shown.shape[:1], *view.size)
            assert shown.shape[0] in (1, 3)
            assert min(view.size) > 0
            if view.pixels.is_floating_point() and view.intensity_range == (0.0, 1.0):
                assert shown.min() >= 0
                assert shown.max() <= 1
            inside = torch.ones(1, *view.size, dtype=torch.uint8)
            slices.display.put(mask, index, view.put_back(inside))

        assert mask.max() == 1  # every pixel was written, foreground or zero
        assert np.array_equal(pixels, before)

    @pytest.mark.parametrize("kind", [kind for kind, *_ in OFFERED])
    def test_is_offered_by_name_in_both_forms(self, kind: type) -> None:
        name = kind.__name__

        assert getattr(transforms, name) is kind
        assert name in transforms.__all__
        assert "Measure" in name or f"{name}d" in transforms.__all__

    @pytest.mark.parametrize(("kind", "modality", "stage"), OFFERED)
    def test_is_told_in_records_and_sent_to_workers(
        self, kind: type, modality: str, stage: str
    ) -> None:
        table = {modality: row(kind, stage)}

        sent = pickle.loads(pickle.dumps(table))

        assert kind.__name__ in describe_transforms(table)[modality]
        assert describe_transforms(sent) == describe_transforms(table)

    def test_exists_for_every_modality(self) -> None:
        assert {modality for _, modality, _ in OFFERED} == {stage[0] for stage in STAGES.values()}
