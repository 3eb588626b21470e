from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.transforms.slices import (
    Box,
    CropToBox,
    CropToBoxd,
    CropToFound,
    CropToFoundd,
    SliceTransform,
    SliceTransformd,
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


class TestSliceTransformd:
    def test_equals_the_array_form_and_leaves_the_rest(self) -> None:
        result = SliceTransformd("image", Doubled())({"image": torch.ones(1, 2, 2), "other": 1})

        assert (result["image"] == 2).all()
        assert result["other"] == 1

    def test_passes_a_missing_key_over_where_allowed(self) -> None:
        assert SliceTransformd("image", Doubled(), allow_missing_keys=True)({}) == {}
        with pytest.raises(KeyError):
            SliceTransformd("image", Doubled())({})


class TestCropToBox:
    def test_inverse_puts_the_part_back_among_zeros(self) -> None:
        image = torch.rand(3, 6, 7)
        crop = CropToBox(rows=(1, 4), columns=(2, 7))

        part = crop(image)
        back = crop.inverse(part)

        assert part.shape == (3, 3, 5)
        inside = torch.zeros_like(image)
        inside[:, 1:4, 2:7] = 1
        assert torch.equal(back.as_tensor(), image * inside)

    def test_dictionary_form_equals_it(self) -> None:
        image = torch.rand(1, 6, 7)
        crop = CropToBoxd("image", rows=(1, 4), columns=(2, 7))

        result = crop({"image": image})

        assert torch.equal(result["image"].as_tensor(), image[:, 1:4, 2:7])
        assert crop.inverse(result)["image"].shape == image.shape


class TestCropToFound:
    def test_inverse_is_exact(self) -> None:
        crop = CropToBright()

        part = crop(bright_center())

        assert part.shape == (1, 2, 4)
        assert torch.equal(crop.inverse(part).as_tensor(), bright_center())

    def test_dictionary_form_takes_one_box_for_all_keys(self) -> None:
        data = {"image": bright_center(), "label": torch.ones(2, 6, 7)}
        crop = CropToFoundd(("image", "label"), CropToBright())

        result = crop(data)

        assert result["label"].shape == (2, 2, 4)
        assert crop.inverse(result)["label"].shape == (2, 6, 7)

    def test_dictionary_form_finds_the_box_in_the_source(self) -> None:
        data = {"image": bright_center(), "label": torch.ones(2, 6, 7)}

        result = CropToFoundd("label", CropToBright(), source_key="image")(data)

        assert result["label"].shape == (2, 2, 4)
        assert result["image"].shape == (1, 6, 7)
