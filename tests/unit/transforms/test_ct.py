from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.transforms.body import TableRemoval
from esp_medsam.transforms.ct import (
    BONE,
    LUNG,
    SOFT_TISSUE,
    ClipMetal,
    PaddingToAir,
    Windows,
)
from esp_medsam.transforms.slices import SliceTransform


hounsfield = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40).map(lambda side: (1, *side)),
    elements=st.floats(-4000, 30000, width=32),
)
WINDOWS = (LUNG, SOFT_TISSUE, BONE)


class TestEverySliceTransform:
    @pytest.mark.parametrize("transform", [PaddingToAir(), ClipMetal(), TableRemoval()])
    @given(pixels=hounsfield)
    def test_is_idempotent(self, transform: SliceTransform, pixels: np.ndarray) -> None:
        once = transform(pixels)

        np.testing.assert_array_equal(transform(once), once)


class TestPaddingToAir:
    def test_raises_what_no_tissue_has_alone(self) -> None:
        pixels = np.array([[[-3024, -2000, -1024, -1000, 3071]]], np.int16)

        assert PaddingToAir()(pixels).tolist() == [[[-1024, -1024, -1024, -1000, 3071]]]


class TestClipMetal:
    def test_lowers_what_is_beyond_twelve_bits_alone(self) -> None:
        pixels = np.array([[[-2000, 3071, 3072, 30000]]], np.int16)

        assert ClipMetal()(pixels).tolist() == [[[-2000, 3071, 3071, 3071]]]


class TestWindows:
    def test_default_is_the_window_of_the_weights(self) -> None:
        pixels = np.array([[[-3000, -160, 40, 240, 900]]], np.float32)

        np.testing.assert_allclose(Windows()(pixels), [[[0, 0, 0.5, 1, 1]]])

    def test_presets_are_center_and_width(self) -> None:
        pixels = np.array([[[-600, 40, 300]]], np.float32)

        result = Windows(WINDOWS)(pixels)

        assert [result[i, 0, i] for i in range(3)] == [0.5, 0.5, 0.5]

    @given(pixels=hounsfield)
    def test_is_monotone_in_each_channel(self, pixels: np.ndarray) -> None:
        order = np.argsort(pixels, axis=None)

        for channel in Windows(WINDOWS)(pixels):
            assert (np.diff(channel.ravel()[order]) >= 0).all()

    @pytest.mark.parametrize(
        "windows",
        [(), ((1.0, 1.0),), ((5.0, -5.0),), ((1.0, 2.0, 3.0),), ((0.0, 80.0), (-160.0, 240.0))],
    )
    def test_refuses_windows_that_do_not_ascend(self, windows: tuple) -> None:
        with pytest.raises(OptionError, match="windows must be one or three ascending pairs of HU"):
            Windows(windows)

    def test_refuses_several_channels(self) -> None:
        with pytest.raises(ValueError, match="one channel of HU; got 3"):
            Windows()(np.zeros((3, 2, 2), np.float32))

    @pytest.mark.parametrize("unit", ["HU", None])
    def test_acts_on_hounsfield_units_alone(self, unit: str | None) -> None:
        known = Image(path="a.nii", name="a", modality="ct", grid=Grid(shape=(4, 4)), unit=unit)
        image = MetaTensor(torch.full((1, 4, 4), 40.0), meta={IMAGE_KEY: known})

        if unit == "HU":
            assert (Windows()(image) == 0.5).all()
        else:  # 8-bit CT would be windowed a second time
            with pytest.raises(OptionError, match=r"a\.nii.*\(`ct_input` windowed\)"):
                Windows()(image)
