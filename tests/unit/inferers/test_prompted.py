"""Clicks and boxes: where they lie on images of any orientation, and what they switch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch import Tensor, nn

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.inferers import SliceWiseInferer
from esp_medsam.inferers.prompted import Box, Click, PromptedSlices, pixel_of
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import display_of


_nib: Any = nibabel

CODES = ("RAS", "LPS", "LAS", "RPS", "PIR", "ASL", "SRA", "IPL")
"""Eight orientations: flips, and each order of the axes."""


class Prediction(NamedTuple):
    low_res_logits: Tensor


class Obedient(nn.Module):
    """A network whose mask is its patch prompt; on its own it draws nothing.

    Attributes:
        encoded: How many slices it encoded.
    """

    def __init__(self, table: ModalityTable) -> None:
        super().__init__()
        self.modalities = table.indices
        self.targets = table.target_names
        self.weight = nn.Parameter(torch.zeros(1))
        self.encoded = 0

    def encode(self, image: Tensor, modality: Tensor | None) -> tuple[Tensor]:
        self.encoded += 1
        return (image,)

    def decode(self, encoded: Any, modality: Any, targets: list[int], prompt: Tensor) -> Prediction:
        drawn = prompt.nan_to_num(0.0).repeat_interleave(32, -1).repeat_interleave(32, -2)
        return Prediction(drawn * 20 - 10)


def volume(code: str, shape: Sequence[int] = (64, 64, 64)) -> MetaTensor:
    """Return a CT whose file has its axes in an order, 1 mm apart."""
    affine = _nib.orientations.inv_ornt_aff(_nib.orientations.axcodes2ornt(code), shape)
    record = Image(
        path="ct.nii.gz",
        name="ct",
        grid=Grid(shape=tuple(shape), affine=affine),
        modality="ct",
        unit="HU",
        intensity_range=(-160.0, 240.0),
    )
    pixels = torch.zeros((1, *shape), dtype=torch.int16)
    return MetaTensor(pixels, meta={IMAGE_KEY: record})


@pytest.fixture
def network(table: ModalityTable) -> Obedient:
    return Obedient(table)


@pytest.fixture
def inferer(table: ModalityTable) -> SliceWiseInferer:
    return SliceWiseInferer(table=table, input_size=(64, 64))


class TestPixelOf:
    @pytest.mark.parametrize("plane", [None, "axial", "coronal", "sagittal"])
    @pytest.mark.parametrize("code", CODES)
    @given(data=st.data())
    def test_is_where_the_slice_shows_the_voxel(
        self, code: str, plane: str | None, data: st.DataObject
    ) -> None:
        shape = data.draw(st.tuples(*[st.integers(2, 5)] * 3))
        voxel = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
        affine = _nib.orientations.inv_ornt_aff(_nib.orientations.axcodes2ornt(code), shape)
        display = display_of(shape, affine, plane)
        marked = np.zeros((1, *shape), np.uint8)
        marked[(0, *voxel)] = 1

        pixel = pixel_of(voxel, shape, display)

        shown = display.show(marked, pixel.slice)[0]
        assert shown[pixel.row, pixel.column] == 1

    def test_a_photograph_is_shown_as_stored(self) -> None:
        assert pixel_of((3, 5), (10, 20), display_of((10, 20), None)) == (0, 3, 5)

    @pytest.mark.parametrize("voxel", [(3, 20), (-1, 5), (3,), (3, 5, 0)])
    def test_refuses_a_voxel_that_there_is_not(self, voxel: tuple[int, ...]) -> None:
        with pytest.raises(OptionError, match="A click must lie in the image, which has 10 x 20"):
            pixel_of(voxel, (10, 20), display_of((10, 20), None))


class TestPromptedSlices:
    @pytest.mark.parametrize("code", CODES)
    def test_a_click_draws_where_it_lies_in_the_file(
        self, network: Obedient, inferer: SliceWiseInferer, code: str
    ) -> None:
        slices = PromptedSlices(inferer, network, volume(code))

        for voxel in ((5, 40, 50), (60, 3, 33), (33, 60, 2)):
            ((index, drawn),) = slices.segment("liver", [Click(voxel)]).items()

            axis = slices.slices.display.slice_axis
            assert axis is not None
            place = tuple(n for k, n in enumerate(voxel) if k != axis)
            assert index == voxel[axis]
            assert drawn[place] >= 128
            assert drawn[tuple(63 - n for n in place)] < 128

    def test_a_second_click_takes_back_the_first(
        self, network: Obedient, inferer: SliceWiseInferer
    ) -> None:
        slices = PromptedSlices(inferer, network, volume("RAS"))
        clicks = [Click((5, 5, 9)), Click((7, 7, 9), is_inside=False)]

        (drawn,) = slices.segment("liver", clicks).values()

        assert drawn.max() < 128
        assert torch.equal(drawn, slices.automatic("liver", 9))

    def test_a_box_draws_its_patches_and_no_others(
        self, network: Obedient, inferer: SliceWiseInferer
    ) -> None:
        slices = PromptedSlices(inferer, network, volume("RAS"))

        prompts = [Click((60, 60, 9)), Box((40, 5, 9), (60, 20, 9))]
        (drawn,) = slices.segment("liver", prompts).values()

        assert drawn[50, 10] >= 128
        assert drawn[60, 60] < 128
        assert drawn[5, 5] < 128

    def test_a_box_in_two_slices_is_refused(
        self, network: Obedient, inferer: SliceWiseInferer
    ) -> None:
        slices = PromptedSlices(inferer, network, volume("RAS"))

        with pytest.raises(OptionError, match="A box must lie in one slice"):
            slices.segment("liver", [Box((1, 1, 1), (5, 5, 2))])

    def test_a_slice_is_encoded_once(self, network: Obedient, inferer: SliceWiseInferer) -> None:
        slices = PromptedSlices(inferer, network, volume("RAS"))

        for _ in range(3):
            slices.segment("liver", [Click((5, 5, 9)), Click((5, 5, 10))])

        assert network.encoded == 2

    def test_a_picture_is_one_slice(
        self, network: Obedient, inferer: SliceWiseInferer, table: ModalityTable
    ) -> None:
        record: Image = volume("RAS").meta[IMAGE_KEY]
        record = replace(
            record,
            grid=Grid(shape=(48, 64)),
            modality="fundus",
            unit=None,
            intensity_range=(0.0, 255.0),
        )
        picture = MetaTensor(torch.zeros((3, 48, 64), dtype=torch.uint8), meta={IMAGE_KEY: record})

        drawn = PromptedSlices(inferer, network, picture).segment("vessels", [Click((40, 10))])

        assert list(drawn) == [0]
        assert drawn[0].shape == (48, 64)
        assert drawn[0][40, 10] >= 128
        assert drawn[0][10, 50] < 128
