from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import data
from skimage.exposure import equalize_adapthist

from esp_medsam.errors import OptionError
from esp_medsam.transforms.clahe import Clahe


slices = st.sampled_from([1, 3]).flatmap(
    lambda channels: hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20).map(lambda side: (channels, *side)),
        elements=st.floats(0, 1, width=32),
    )
)


class TestClahe:
    @given(pixels=slices)
    def test_is_monotone_within_a_single_tile(self, pixels: np.ndarray) -> None:
        result = Clahe(tiles=(1, 1))(pixels[:1])

        steps = np.diff(result.ravel()[np.argsort(pixels[0], axis=None)])
        assert steps.min(initial=0) >= -1e-6

    @pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_constant_image_stays_constant(self, channels: int, value: float) -> None:
        result = Clahe()(np.full((channels, 16, 16), value, np.float32))

        np.testing.assert_allclose(result, result[0, 0, 0], atol=1e-5)
        assert result[0, 0, 0] == pytest.approx(value, abs=0.01)

    def test_least_limit_changes_nothing_to_speak_of(self) -> None:
        image = torch.rand(1, 32, 32)

        assert (Clahe(clip_limit=1.0)(image) - image).abs().max() < 0.05

    def test_contrast_grows_by_less_than_the_limit_and_one(self) -> None:
        image = torch.linspace(0.4, 0.6, 4096).view(1, 64, 64)

        result = Clahe(tiles=(1, 1), clip_limit=3.0)(image)

        slope = result.ravel().diff() / image.ravel().diff()
        assert 3 < slope.max() < 4

    def test_color_keeps_the_differences_of_its_channels(self) -> None:
        image = torch.rand(1, 32, 32) * 0.2 + torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)

        result = Clahe()(image)

        torch.testing.assert_close(result[0] - result[2], image[0] - image[2])

    def test_bands_of_a_large_image_meet(self) -> None:
        image = torch.linspace(0, 1, 1100).expand(1, 1100, 1100)

        assert (Clahe(tiles=(1, 1))(image).diff(dim=1).abs() < 1e-6).all()

    def test_real_picture_is_near_what_scikit_image_gives(self) -> None:
        moon = data.moon()[None].astype(np.float32) / 255

        # scikit-image limits a bin to a part of the tile: 1 % is 2.56 times the mean of 256.
        expected = equalize_adapthist(moon[0], clip_limit=0.01)
        result = Clahe(clip_limit=2.56)(moon)[0]

        assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.95
        assert result.std() > 1.5 * moon.std()

    @pytest.mark.parametrize("tiles", [(0, 8), (8,), (8, 8, 8)])
    def test_refuses_no_tiles(self, tiles: tuple[int, ...]) -> None:
        with pytest.raises(OptionError, match="tiles must be two numbers of at least 1"):
            Clahe(tiles=tiles)

    @pytest.mark.parametrize("clip_limit", [0.9, float("nan")])
    def test_refuses_a_limit_below_one(self, clip_limit: float) -> None:
        with pytest.raises(OptionError, match="clip_limit must be at least 1"):
            Clahe(clip_limit=clip_limit)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    def test_runs_on_the_device_of_the_slice(self) -> None:
        image = torch.rand(3, 64, 64)

        result = Clahe()(image.cuda())

        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), Clahe()(image), atol=1e-4, rtol=0)
