from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from esp_medsam.errors import ModalityError, NonFiniteError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image, image_of
from esp_medsam.transforms.by_modality import MeasureImage, MeasureImaged
from esp_medsam.transforms.intensity import IntensityRule, percentiles_of


def record(modality: str, unit: str | None = None) -> Image:
    return Image(path="a", name="a", modality=modality, grid=Grid(shape=(4, 4)), unit=unit)


def measured(pixels: np.ndarray, modality: str, unit: str | None = None) -> tuple[float, float]:
    result = MeasureImage()(pixels, record(modality, unit)).intensity_range
    assert result is not None
    return result


class TestIntensityRule:
    @pytest.mark.parametrize("pair", [(200, -200), (0, 0), (0, float("nan")), (0,), "ab", 3])
    @pytest.mark.parametrize("name", ["hounsfield", "fixed", "percentiles"])
    def test_refuses_what_would_show_nothing(self, name: str, pair: Any) -> None:
        with pytest.raises(OptionError, match=f"{name} must "):
            IntensityRule(**{name: pair})


class TestMeasureImage:
    def test_hounsfield_units_get_the_window_of_the_weights(self) -> None:
        pixels = np.array([[[-1024, 3000]]], np.int16)

        assert measured(pixels, "ct", "HU") == (-160.0, 240.0)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_windowed_computed_tomography_is_taken_as_it_is(self, dtype: type) -> None:
        assert measured(np.full((1, 2, 2), 90, dtype), "ct") == (0.0, 255.0)

    @pytest.mark.parametrize("modality", ["xray", "fundus", "own_modality"])
    def test_eight_bits_are_taken_as_they_are(self, modality: str) -> None:
        assert measured(np.full((3, 2, 2), 7, np.uint8), modality) == (0.0, 255.0)

    def test_sixteen_bits_are_taken_by_percentiles(self) -> None:
        pixels = np.arange(1001, dtype=np.uint16)[None]

        assert measured(pixels, "xray") == (5.0, 995.0)

    def test_magnetic_resonance_leaves_the_empty_background_out(self) -> None:
        pixels = np.concatenate([np.zeros(5000), np.arange(1000, 2001)]).astype(np.int16)[None]

        assert measured(pixels, "mri") == (1005.0, 1995.0)

    @pytest.mark.parametrize("value", [0, 9])
    @pytest.mark.parametrize("modality", ["mri", "xray"])
    def test_constant_image_is_shown_as_zero(self, modality: str, value: int) -> None:
        pixels = np.full((1, 4, 4), value, np.int16)

        low, high = measured(pixels, modality)

        assert low == value
        assert high > low

    def test_units_without_a_window_are_refused(self) -> None:
        with pytest.raises(ModalityError, match=r"HU must.*a modality with a window; got mri"):
            measured(np.zeros((1, 2, 2), np.int16), "mri", "HU")

    def test_infinite_range_is_refused(self) -> None:
        with pytest.raises(NonFiniteError, match="finite"):
            measured(np.full((1, 2, 2), np.inf, np.float32), "mri")


class TestMeasureImaged:
    def test_completes_the_record_and_leaves_the_pixels(self) -> None:
        pixels = torch.randint(0, 99, (1, 4, 4), dtype=torch.uint8)
        image = MetaTensor(pixels, meta={IMAGE_KEY: record("xray"), "space": "RAS"})

        result = MeasureImaged("image")({"image": image, "other": 1})

        assert image_of(result["image"].meta).intensity_range == (0.0, 255.0)
        assert image_of(image.meta).intensity_range is None
        assert result["image"].data_ptr() == pixels.data_ptr()
        assert result["image"].meta["space"] == "RAS"
        assert result["other"] == 1


class TestPercentilesOf:
    @given(
        st.lists(st.integers(-300, 300), min_size=1, max_size=50),
        st.booleans(),
        st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "float32"]),
    )
    def test_equal_numpy(self, values: list[int], nonzero: bool, dtype: str) -> None:
        array = np.array(values).astype(dtype)
        kept = np.asarray(array[array != 0] if nonzero else array, np.float64)

        result = percentiles_of(array, (0.5, 99.5), nonzero=nonzero)

        expected = np.percentile(kept, (0.5, 99.5)) if kept.size else (0.0, 0.0)
        np.testing.assert_allclose(result, expected, atol=1e-9)

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
    def test_copy_no_volume(self, dtype: str) -> None:
        array = np.arange(2**24).astype(dtype).reshape(256, 256, 256).transpose(2, 1, 0)

        tracemalloc.start()
        percentiles_of(array, (0.5, 99.5), nonzero=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 2**24 + 2**22  # 8 bytes of each of a million values, twice

    def test_leaves_the_array_in_order(self) -> None:
        array = np.array([[3, 1], [2, 0]], np.int16)

        percentiles_of(array, (0.0, 100.0), nonzero=False)

        assert array.tolist() == [[3, 1], [2, 0]]
