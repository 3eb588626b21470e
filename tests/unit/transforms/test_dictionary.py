from __future__ import annotations

import torch
from torch import Tensor

from esp_medsam.transforms.dictionary import CropToFoundd, SliceTransformd, dictionary_form
from esp_medsam.transforms.slices import Box, CropToFound, SliceTransform


class Times(SliceTransform):
    """Multiply."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def apply(self, image: Tensor) -> Tensor:
        return image * self.factor


class CropTop(CropToFound):
    def find(self, img: Tensor) -> Box:
        return slice(0, 1), slice(0, int(img.shape[2]))


Timesd = dictionary_form(Times)
CropTopd = dictionary_form(CropTop)


class TestDictionaryForm:
    def test_serves_transforms_of_ones_own(self) -> None:
        data = {"image": torch.ones(1, 2, 2)}

        assert issubclass(Timesd, SliceTransformd)
        assert issubclass(CropTopd, CropToFoundd)
        assert (Timesd("image", factor=3.0)(data)["image"] == 3).all()
        assert CropTopd("image")(data)["image"].shape == (1, 1, 2)

    def test_is_named_and_documented_as_a_class_of_its_module(self) -> None:
        assert Timesd.__name__ == "Timesd"
        assert Timesd.__module__ == Times.__module__
        assert Timesd.__doc__.startswith("Dictionary form of :class:`Times`")
        assert "keys: Keys of slices" in Timesd.__doc__
