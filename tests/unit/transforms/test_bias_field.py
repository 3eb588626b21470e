from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.orientation import Display
from esp_medsam.transforms.bias_field import (
    ApplyBiasField,
    BiasField,
    MeasureBiasField,
)


slices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12).map(lambda side: (1, *side)),
    elements=st.floats(-1000, 4000, width=32),
)
LOG = np.array([[-0.2, 0.0, 0.1], [0.3, 0.2, -0.1]], np.float32)


def record() -> Image:
    return Image(path="a", name="a", modality="mri", grid=Grid(shape=(4, 4)))


class TestMeasureBiasField:
    def test_finds_a_shading(self, head: Callable[..., np.ndarray]) -> None:
        shading = 0.4 * np.linspace(-1, 1, 30, dtype=np.float32)[:, None, None]
        measure = MeasureBiasField(grid=16)

        found = measure(head() * np.exp(shading), record()).log
        clean = measure(head(), record()).log

        inside = (slice(4, 12),) * 3  # of 16 points; shading is 0.053 a point
        slope = np.diff((found - clean)[inside], axis=0).mean()
        assert slope == pytest.approx(0.8 / 15, rel=0.3)

    def test_is_the_same_each_time(self, head: Callable[..., np.ndarray]) -> None:
        measure = MeasureBiasField(grid=10, iterations=(5,))

        first, second = (measure(head(), record()).log for _ in range(2))

        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(
        "shape", [(1, 1), (3, 40), (20, 3, 20), (12, 14), (12, 1, 14), (5, 6, 7), (4, 4, 4)]
    )
    @pytest.mark.parametrize("constant", [False, True])
    def test_takes_any_shape(self, shape: tuple[int, ...], constant: bool) -> None:
        pixels = np.random.default_rng(0).random((1, *shape), np.float32) * 100
        measure = MeasureBiasField(iterations=(2, 2))

        field = measure(np.full_like(pixels, 3.0) if constant else pixels, record())

        assert field.log.shape == tuple(min(side, 28) for side in shape)
        assert field.log.dtype == np.float32
        assert np.isfinite(field.log).all()
        assert not (constant and field.log.any())

    def test_takes_signed_real_slices_as_tensors(self, magnetic_resonance: np.ndarray) -> None:
        field = MeasureBiasField()(torch.from_numpy(magnetic_resonance.astype(np.int16)), record())

        assert field.log.shape == (28, 28)
        assert 0.01 < field.log.std() < 1

    def test_infinite_intensities_are_refused(self) -> None:
        with pytest.raises(NonFiniteError, match="must be finite"):
            MeasureBiasField()(np.full((1, 8, 8), np.inf, np.float32), record())

    def test_refuses_a_grid_too_small(self) -> None:
        with pytest.raises(OptionError, match="at least 8 voxels; got 4"):
            MeasureBiasField(grid=4)


class TestApplyBiasField:
    def test_divides_by_the_field(self) -> None:
        image = torch.full((1, 2, 3), 10.0)

        np.testing.assert_allclose(ApplyBiasField(LOG)(image)[0], 10 / np.exp(LOG), rtol=1e-6)

    def test_nothing_changes_nothing(self) -> None:
        image = torch.rand(1, 5, 4)

        assert torch.equal(ApplyBiasField(np.zeros((2, 2)))(image), image)

    def test_refuses_a_field_of_a_volume(self) -> None:
        with pytest.raises(ValueError, match=r"log must be \(rows, columns\)"):
            ApplyBiasField(np.zeros((2, 2, 2)))

    @pytest.mark.parametrize("transpose", [False, True])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    @given(flips=st.tuples(st.booleans(), st.booleans()))
    @settings(max_examples=4)
    def test_is_trilinear_in_the_volume(
        self, axis: int, transpose: bool, flips: tuple[bool, bool]
    ) -> None:
        shape = (6, 7, 9)
        # A trilinear function is reproduced from its corners.
        x, y, z = (np.linspace(0, 1, side, dtype=np.float32) for side in shape)
        log = 0.3 * x[:, None, None] - 0.2 * y[:, None] * z + 0.1 * z
        corners = BiasField(log[:: shape[0] - 1, :: shape[1] - 1, :: shape[2] - 1])
        display = Display(axis, transpose, *flips)

        for index in range(shape[axis]):
            field = corners.shown(display, index, shape[axis])
            expected = display.show(log[None], index)
            result = ApplyBiasField(field)(np.ones_like(expected))
            np.testing.assert_allclose(result, np.exp(-expected), rtol=1e-5)

    def test_field_of_a_lone_image_is_itself(self) -> None:
        np.testing.assert_array_equal(BiasField(LOG).shown(Display(), 0, 1), LOG)
