from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.transforms.mri import (
    MeasurePercentiles,
    MeasureZScore,
    foreground,
)


MEASURES = [MeasurePercentiles(), MeasureZScore()]


def record(*, inverted: bool = False) -> Image:
    return Image(path="a", name="a", modality="mri", grid=Grid(shape=(4, 4)), inverted=inverted)


class TestForeground:
    def test_leaves_noisy_air_out(self, head: Callable[..., np.ndarray]) -> None:
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
    def test_scales_with_the_intensities(
        self, head: Callable[..., np.ndarray], measure: MeasurePercentiles
    ) -> None:
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
        self, head: Callable[..., np.ndarray], measure: MeasurePercentiles
    ) -> None:
        upright = measure(head(), record()).intensity_range

        assert measure(head(), record(inverted=True)).intensity_range == upright[::-1]

    @pytest.mark.parametrize("measure", MEASURES)
    def test_infinite_intensities_are_refused(self, measure: MeasurePercentiles) -> None:
        with pytest.raises(NonFiniteError, match="must be finite; got NaN or infinity in a"):
            measure(np.full((1, 4, 4), np.nan, np.float32), record())

    def test_percentiles_are_of_the_tissue(self, head: Callable[..., np.ndarray]) -> None:
        low, high = MeasurePercentiles()(head(), record()).intensity_range

        assert low == pytest.approx(403, abs=5)
        assert high == pytest.approx(720, abs=10)

    def test_z_score_is_centered_on_the_tissue(self, head: Callable[..., np.ndarray]) -> None:
        low, high = MeasureZScore(k=2)(head(), record()).intensity_range

        values = foreground(head())
        assert (low + high) / 2 == pytest.approx(values.mean(), rel=1e-5)
        assert (high - low) / 4 == pytest.approx(values.std(), rel=1e-5)

    def test_real_slice_is_shown_in_its_range(self, magnetic_resonance: np.ndarray) -> None:
        low, high = MeasurePercentiles()(magnetic_resonance, record()).intensity_range

        assert (
            magnetic_resonance.min()
            < low
            < np.median(magnetic_resonance)
            < high
            < magnetic_resonance.max()
        )

    @pytest.mark.parametrize("percentiles", [(5, 5), (-1, 50), (0, 101)])
    def test_refuses_percentiles_that_do_not_ascend(self, percentiles: tuple) -> None:
        with pytest.raises(OptionError, match="percentiles must ascend within 0 to 100"):
            MeasurePercentiles(percentiles=percentiles)

    def test_refuses_no_standard_deviation(self) -> None:
        with pytest.raises(OptionError, match="k must be above 0; got 0"):
            MeasureZScore(k=0)
