from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from esp_medsam.grid import Grid
from esp_medsam.image import (
    IMAGE_KEY,
    SEGMENTATION_KEY,
    Image,
    Segmentation,
    image_of,
    segmentation_of,
)


def make_image(**fields: Any) -> Image:
    return Image(
        **{"path": "a.png", "name": "a", "modality": "ct", "grid": Grid(shape=(4, 5)), **fields}
    )


SEGMENTATION = Segmentation(targets=("liver",), confidence=(0.9,))


class TestImage:
    def test_pickles(self) -> None:
        image = make_image(grid=Grid(shape=(4, 5), affine=np.eye(4)), warnings=("one",))
        copy = pickle.loads(pickle.dumps(image))

        assert copy.warnings == ("one",)
        assert np.array_equal(copy.grid.affine, np.eye(4))


class TestRecordsInMeta:
    @pytest.mark.parametrize("wrap", [lambda record: record, lambda record: [record]])
    def test_are_found_plain_and_in_a_batch_of_one(self, wrap: Any) -> None:
        image = make_image()
        meta = {IMAGE_KEY: wrap(image), SEGMENTATION_KEY: wrap(SEGMENTATION)}

        assert image_of(meta) is image
        assert segmentation_of(meta) is SEGMENTATION

    @pytest.mark.parametrize("get", [image_of, segmentation_of])
    def test_refuse_meta_without_them(self, get: Any) -> None:
        with pytest.raises(KeyError, match="LoadMedicalImaged"):
            get({})

    def test_refuse_a_batch_of_several(self) -> None:
        with pytest.raises(ValueError, match="a batch of 2"):
            image_of({IMAGE_KEY: [make_image(), make_image()]})

    @pytest.mark.parametrize(
        ("get", "key"), [(image_of, IMAGE_KEY), (segmentation_of, SEGMENTATION_KEY)]
    )
    def test_refuse_another_kind_of_object(self, get: Any, key: str) -> None:
        with pytest.raises(TypeError, match="got str"):
            get({key: "x"})
