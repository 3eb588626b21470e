from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.transforms.slices import (
    Box,
    CropToFound,
    SliceTransform,
    luminance,
    shrink,
)


class Doubled(SliceTransform):
    def apply(self, image: Tensor) -> Tensor:
        return image * 2


class CropToBright(CropToFound):
    def find(self, img: Tensor) -> Box:
        rows, columns = torch.where(torch.as_tensor(img)[0] > 0.5)
        return (
            slice(int(rows.min()), int(rows.max()) + 1),
            slice(int(columns.min()), int(columns.max()) + 1),
        )


def bright_center() -> Tensor:
    image = torch.zeros(1, 6, 7)
    image[0, 2:4, 1:5] = 1.0
    return image


class TestSliceTransform:
    @pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
    def test_gives_the_kind_it_is_given_as_float32(self, kind: type, dtype: type) -> None:
        img = kind(np.ones((1, 2, 2), dtype))

        result = Doubled()(img)

        assert type(result) is type(img)
        assert str(result.dtype).removeprefix("torch.") == "float32"

    def test_keeps_the_meta(self) -> None:
        img = MetaTensor(torch.ones(1, 2, 2), meta={"space": "RAS"})

        result = Doubled()(img)

        assert isinstance(result, MetaTensor)
        assert result.meta["space"] == "RAS"
        assert (result == 2).all()
        assert (img == 1).all()

    @pytest.mark.parametrize("shape", [(4, 5, 5), (5, 5), (3, 0, 5), (1, 2, 3, 4)])
    def test_refuses_what_is_no_slice(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"img must be \(1 or 3, rows, columns\); got"):
            Doubled()(torch.zeros(shape))


class TestCropToFound:
    def test_inverse_is_exact(self) -> None:
        crop = CropToBright()

        part = crop(bright_center())

        assert part.shape == (1, 2, 4)
        assert torch.equal(crop.inverse(part).as_tensor(), bright_center())

    def test_asks_a_lazy_pipeline_for_the_pixels_as_they_are(self) -> None:
        assert CropToBright().requires_current_data


class TestLuminance:
    def test_weighs_the_channels_to_one(self) -> None:
        torch.testing.assert_close(luminance(torch.full((3, 2, 2), 0.7)), torch.full((2, 2), 0.7))
        assert luminance(torch.eye(3)[:, :, None]).flatten().tolist() == pytest.approx(
            [0.299, 0.587, 0.114]
        )

    def test_of_one_channel_is_that_channel(self) -> None:
        image = torch.rand(1, 3, 4)

        assert torch.equal(luminance(image), image[0])


class TestShrunken:
    def test_keeps_the_aspect_and_the_mean(self) -> None:
        image = torch.rand(3, 40, 80)

        small = shrink(image, 20)

        assert small.shape == (3, 10, 20)
        torch.testing.assert_close(small.mean((1, 2)), image.mean((1, 2)))

    def test_never_enlarges(self) -> None:
        image = torch.rand(3, 4, 5)

        assert shrink(image, 20) is image
