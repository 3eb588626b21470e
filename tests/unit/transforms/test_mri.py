from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.data import get_testdata_file

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.image import Image
from esp_medsam.transforms.mri import (
    MeasurePercentiles,
    MeasureZScore,
    foreground,
)


slices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12).map(lambda side: (1, *side)),
    elements=st.floats(-1000, 4000, width=32),
)
POINTS = ((10.0, 0.0), (200.0, 0.25), (900.0, 1.0))
MEASURES = [MeasurePercentiles(), MeasureZScore()]


def record(*, inverted: bool = False) -> Image:
    return Image(path="a", name="a", modality="mri", spatial_shape=(4, 4), inverted=inverted)


def head(seed: int = 0, gain: float = 1.0) -> np.ndarray:
    """A ball of two tissues in noisy air, float32 ``(1, 30, 28, 26)``."""
    generator = np.random.default_rng(seed)
    x, y, z = np.indices((30, 28, 26)) - 14.0
    radius = np.sqrt(x**2 + y**2 + z**2)
    clean = np.where(radius < 7, 700.0, np.where(radius < 11, 400.0, 0.0))
    noisy = clean + generator.rayleigh(6.0, clean.shape)
    return (gain * noisy)[None].astype(np.float32)


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array[None]


class TestForeground:
    def test_leaves_noisy_air_out(self) -> None:
        tissue = (head() > 200).sum()

        assert foreground(head()).size == pytest.approx(tissue, rel=0.02)

    def test_keeps_nearly_all_where_there_is_no_air(self) -> None:
        pixels = np.linspace(100, 1000, 1000, dtype=np.float32)[None]

        assert foreground(pixels).size > 940

    @pytest.mark.parametrize("value", [0, -5, 700])
    def test_is_never_empty(self, value: int) -> None:
        assert set(foreground(np.full((1, 3, 3), value, np.int16))) == {value}


class TestMeasureRange:
    @pytest.mark.parametrize("measure", MEASURES)
    def test_scales_with_the_intensities(self, measure: MeasurePercentiles) -> None:
        once = measure(head(), record()).intensity_range
        thrice = measure(head(gain=3.0), record()).intensity_range

        np.testing.assert_allclose(thrice, 3 * np.array(once), rtol=1e-4)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("value", [0, 9])
    def test_constant_image_gives_a_range(self, measure: MeasurePercentiles, value: int) -> None:
        result = measure(np.full((1, 4, 4), value, np.int16), record())

        assert result.intensity_range == (value, value + 1)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_low_values_that_are_shown_white_change_the_ends(
        self, measure: MeasurePercentiles
    ) -> None:
        upright = measure(head(), record()).intensity_range

        assert measure(head(), record(inverted=True)).intensity_range == upright[::-1]

    @pytest.mark.parametrize("measure", MEASURES)
    def test_infinite_intensities_are_refused(self, measure: MeasurePercentiles) -> None:
        with pytest.raises(NonFiniteError, match="must be finite; got NaN or infinity in a"):
            measure(np.full((1, 4, 4), np.nan, np.float32), record())

    def test_percentiles_are_of_the_tissue(self) -> None:
        low, high = MeasurePercentiles()(head(), record()).intensity_range

        assert low == pytest.approx(403, abs=5)
        assert high == pytest.approx(720, abs=10)

    def test_z_score_is_centered_on_the_tissue(self) -> None:
        low, high = MeasureZScore(k=2)(head(), record()).intensity_range

        values = foreground(head())
        assert (low + high) / 2 == pytest.approx(values.mean(), rel=1e-5)
        assert (high - low) / 4 == pytest.approx(values.std(), rel=1e-5)

    def test_real_slice_is_shown_in_its_range(self, real: np.ndarray) -> None:
        low, high = MeasurePercentiles()(real, record()).intensity_range

        assert real.min() < low < np.median(real) < high < real.max()

    @pytest.mark.parametrize("percentiles", [(5, 5), (-1, 50), (0, 101)])
    def test_refuses_percentiles_that_do_not_ascend(self, percentiles: tuple) -> None:
        with pytest.raises(OptionError, match="percentiles must ascend within 0 to 100"):
            MeasurePercentiles(percentiles=percentiles)

    def test_refuses_no_standard_deviation(self) -> None:
        with pytest.raises(OptionError, match="k must be above 0; got 0"):
            MeasureZScore(k=0)
