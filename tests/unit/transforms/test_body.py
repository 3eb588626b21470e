from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from pydicom.data import get_testdata_file
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.orientation import Display
from esp_medsam.transforms.body import (
    MeasureBody,
    TableRemoval,
    box_as_shown,
)


def phantom(*, table: bool = True, shape: tuple[int, int, int] = (120, 100, 30)) -> np.ndarray:
    """A body of water 60 mm wide with a lung, on a table 4 mm thick; 1 mm voxels."""
    x, y, _ = np.indices(shape)
    pixels = np.full(shape, -1000, np.int16)
    pixels[(x - 60) ** 2 + (y - 40) ** 2 < 30**2] = 0
    pixels[(x - 60) ** 2 + (y - 40) ** 2 < 12**2] = -850
    if table:
        pixels[10:110, 76:80] = 200
    return pixels[None]


def record(pixels: np.ndarray, spacing: float = 1.0) -> Image:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    shape = pixels.shape[1:]
    return Image(
        path="a", name="a", modality="ct", grid=Grid(shape=shape, affine=affine), unit="HU"
    )


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    return (dataset.pixel_array * 1.0 + float(dataset.RescaleIntercept))[None].astype(np.float32)


class TestMeasureBody:
    def test_leaves_the_table_out(self) -> None:
        pixels = phantom()

        box = MeasureBody(margin=0)(pixels, record(pixels)).box

        # The body reaches from 31 to 89 and from 11 to 69, the grid has steps of 4.
        assert np.abs(box - [(31, 90), (11, 70), (0, 30)]).max() <= 4

    def test_margin_is_in_millimeters(self) -> None:
        pixels = phantom()

        tight = MeasureBody(margin=0)(pixels, record(pixels, 2.0)).box
        wide = MeasureBody(margin=12)(pixels, record(pixels, 2.0)).box

        assert (tight - wide)[:2].tolist() == [[6, -6], [6, -6]]

    def test_keeps_both_legs(self) -> None:
        pixels = np.full((1, 120, 60, 20), -1000, np.int16)
        pixels[0, 10:50, 10:50] = 40
        pixels[0, 80:100, 20:40] = 40

        box = MeasureBody(margin=0)(pixels, record(pixels)).box

        assert box[0, 0] <= 10
        assert box[0, 1] >= 100

    @pytest.mark.parametrize("value", [-1000, 0])
    @pytest.mark.parametrize("shape", [(5, 5), (1, 1), (3, 4, 1), (40, 40, 3)])
    def test_constant_volume_is_kept_whole(self, value: int, shape: tuple[int, ...]) -> None:
        pixels = np.full((1, *shape), value, np.int16)

        box = MeasureBody()(pixels, record(pixels)).box

        assert box.tolist() == [[0, side] for side in shape]

    def test_array_equals_tensor(self) -> None:
        pixels = phantom()

        box = MeasureBody()(torch.from_numpy(pixels), record(pixels)).box

        np.testing.assert_array_equal(box, MeasureBody()(pixels, record(pixels)).box)


class TestTableRemoval:
    def test_takes_the_table_and_leaves_body_and_lung(self) -> None:
        clean, pixels = phantom(table=False)[..., 0], phantom()[..., 0]

        result = TableRemoval()(pixels)

        body = clean[0] > -1000
        np.testing.assert_array_equal(result[0][body], clean[0][body])
        assert (result[0, :, 74:] <= -1000).all()

    def test_leaves_a_slice_within_the_body_alone(self) -> None:
        pixels = np.zeros((1, 80, 80), np.float32)
        pixels[0, :50, 20:50] = -850  # a lung that is open to the border
        pixels[0, 20:24, 30:34] = 40  # a vessel in it

        np.testing.assert_array_equal(TableRemoval()(pixels), pixels)

    def test_leaves_a_real_slice_within_the_body_alone(self, real: np.ndarray) -> None:
        fine = MetaTensor(real, affine=torch.diag(torch.tensor([0.66, 0.66, 1.0, 1.0])))

        np.testing.assert_array_equal(TableRemoval()(fine), real)

    def test_measures_the_table_by_the_spacing_of_the_slice(self) -> None:
        pixels = torch.from_numpy(phantom()[..., 0])  # the table is 4 pixels thick

        def left(spacing: float) -> Tensor:
            affine = torch.diag(torch.tensor([spacing, spacing, 1.0, 1.0]))
            return TableRemoval()(MetaTensor(pixels, affine=affine))[0, 20:30, 76:80] > -1000

        assert not left(1.0).any()
        assert left(8.0).all()  # 32 mm: no table is as thick

    def test_refuses_what_is_known_to_hold_no_hounsfield_units(self) -> None:
        windowed = replace(record(phantom()), unit=None)

        with pytest.raises(OptionError, match="TableRemoval must be given Hounsfield"):
            TableRemoval()(MetaTensor(torch.zeros(1, 4, 4), meta={IMAGE_KEY: windowed}))
        with pytest.raises(OptionError, match=r"MeasureBody must .* Leave MeasureBody out"):
            MeasureBody()(phantom(), windowed)


class TestBoxAsShown:
    @pytest.mark.parametrize("transpose", [False, True])
    @pytest.mark.parametrize("flip_rows", [False, True])
    @pytest.mark.parametrize("flip_columns", [False, True])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_cuts_shown_slices_as_the_volume(
        self, axis: int, transpose: bool, flip_rows: bool, flip_columns: bool
    ) -> None:
        volume = np.arange(5 * 6 * 7).reshape(1, 5, 6, 7)
        box = np.array([(1, 4), (0, 5), (3, 6)])
        display = Display(axis, transpose, flip_rows, flip_columns)
        cut = volume[:, 1:4, 0:5, 3:6]

        (top, bottom), (left, right) = box_as_shown(box, display, volume.shape[1:])

        shown = display.show(volume, 3)[:, top:bottom, left:right]
        np.testing.assert_array_equal(shown, display.show(cut, 3 - box[axis, 0]))
