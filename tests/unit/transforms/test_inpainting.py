from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from esp_medsam.transforms.inpainting import _sampled, dilated, inpaint


class TestInpaint:
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
    @settings(deadline=None)
    def test_fills_within_the_range_of_what_is_known(
        self, rows: int, columns: int, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        image = torch.rand(2, rows, columns, generator=generator)
        mask = torch.rand(rows, columns, generator=generator) < 0.5

        result = inpaint(image, mask)

        assert torch.equal(result[:, ~mask], image[:, ~mask])
        if mask.any() and not mask.all():
            for filled, known in zip(result[:, mask], image[:, ~mask], strict=True):
                assert filled.min() >= known.min() - 1e-5
                assert filled.max() <= known.max() + 1e-5

    @pytest.mark.parametrize("shape", [(9, 12), (8, 7), (1, 6)])
    def test_takes_the_coarse_values_bilinearly(self, shape: tuple[int, int]) -> None:
        coarse = torch.rand(2, (shape[0] + 1) // 2, (shape[1] + 1) // 2)
        rows, columns = torch.ones(shape, dtype=torch.bool).nonzero(as_tuple=True)

        result = _sampled(coarse, rows, columns).view(2, *shape)

        expected = interpolate(coarse[None], scale_factor=2, mode="bilinear")[0]
        torch.testing.assert_close(result, expected[:, : shape[0], : shape[1]])

    def test_takes_from_usable_pixels_alone(self) -> None:
        image = torch.zeros(1, 16, 16)
        image[:, :, 8:] = 1.0
        mask = torch.zeros(16, 16, dtype=torch.bool)
        mask[4:8, 6:10] = True

        result = inpaint(image, mask, image[0] > 0.5)

        torch.testing.assert_close(result[0, mask], torch.ones(16))

    def test_leaves_the_image_where_nothing_is_known(self) -> None:
        image = torch.rand(1, 4, 4)

        assert inpaint(image, torch.ones(4, 4, dtype=torch.bool)) is image


class TestDilated:
    @pytest.mark.parametrize("radius", [0, 1, 2, 3, 6, 11])
    def test_widens_by_a_square(self, radius: int) -> None:
        mask = torch.zeros(30, 30, dtype=torch.bool)
        mask[14, 15] = True

        expected = torch.zeros_like(mask)
        expected[14 - radius : 15 + radius, 15 - radius : 16 + radius] = True
        assert torch.equal(dilated(mask, radius), expected)

    def test_takes_masks_smaller_than_the_radius(self) -> None:
        assert dilated(torch.eye(3, dtype=torch.bool), 9).all()
