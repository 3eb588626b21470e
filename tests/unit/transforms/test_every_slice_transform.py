"""What holds for each transform of slices, and for its dictionary form."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Crop
from torch import Tensor

from esp_medsam import transforms
from esp_medsam.transforms import BONE, LUNG, SOFT_TISSUE
from esp_medsam.transforms.slices import SliceTransform


OPTIONS: dict[str, dict[str, Any]] = {
    "ApplyBiasField": {"log": [[-0.3, 0.0, 0.4], [0.1, 0.2, 0.3]]},
    "Clahe": {"tiles": (3, 5), "clip_limit": 3.0},
    "ClipMetal": {"highest": 2000.0},
    "CropBlackBorder": {"darkest": 0.2, "step": 0.05},
    "CropCollimation": {"tolerance": 0.05, "uniform": 0.9},
    "CropDarkRim": {},
    "CropToBox": {"rows": (3, 40), "columns": (1, 50)},
    "CropToFieldOfView": {},
    "CropToScan": {"step": 0.01},
    "FillDarkCorners": {},
    "KeepFieldOfView": {},
    "MaskBurnedIn": {"contrast": 0.3},
    "NormalizeGain": {"target": 0.4, "depth": True},
    "NormalizeStain": {"tolerance": 180.0, "least": 0.0},
    "PaddingToAir": {"air": -900.0},
    "ReduceSpeckle": {"edge": 0.1, "iterations": 2},
    "RemoveHair": {"threshold": 0.2, "length": 0.1},
    "ScaleFluorescence": {"least": 0.01},
    "ShadesOfGray": {"power": 2.0},
    "SubtractLocalAverage": {"gain": 2.0},
    "SuppressDoppler": {"fill": "gray"},
    "SuppressSpecular": {"brightness": 0.6},
    "TableRemoval": {"threshold": -300.0},
    "Windows": {"windows": [LUNG, SOFT_TISSUE, BONE]},
}
"""Of each transform that has a dictionary form, options that are not the default."""

HOUNSFIELD = ("ClipMetal", "PaddingToAir", "TableRemoval", "Windows")
OWN_UNIT = (*HOUNSFIELD, "ApplyBiasField")
"""Act before the window."""

NEED_OPTIONS = ("ApplyBiasField", "CropToBox")
CROPS = [name for name in OPTIONS if issubclass(getattr(transforms, name), Crop)]
CROPS_FOUND = [name for name in CROPS if name != "CropToBox"]
VALUES = [name for name in OPTIONS if name not in CROPS]

TRANSFORMS: list[SliceTransform] = [
    getattr(transforms, name)(**chosen)
    for name in VALUES
    for chosen in ([OPTIONS[name]] if name in NEED_OPTIONS else [{}, OPTIONS[name]])
]
"""Each with its defaults, and with other options."""


def noise(name: str, channels: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Return random values in the unit that a transform acts on."""
    image = torch.rand(channels, rows, columns, generator=torch.Generator().manual_seed(seed))
    if name == "Windows":
        image = image[:1]
    return image * 6000.0 - 3000.0 if name in OWN_UNIT else image


def framed(name: str) -> Tensor:
    """Return an image that gives most transforms something to do: noise in a dark frame."""
    image = noise(name, 3, 50, 60)
    frame = torch.ones(50, 60, dtype=torch.bool)
    frame[8:44, 10:52] = False
    image[:, frame] = -2000.0 if name in OWN_UNIT else 0.02
    return image


class TestEverySliceTransform:
    @pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
    @settings(deadline=None, max_examples=15)
    @given(
        channels=st.sampled_from([1, 3]),
        rows=st.integers(1, 40),
        columns=st.integers(1, 40),
        seed=st.integers(0, 99),
    )
    def test_keeps_its_input_shape_and_range_and_says_the_same_again(
        self, transform: SliceTransform, channels: int, rows: int, columns: int, seed: int
    ) -> None:
        name = type(transform).__name__
        image = noise(name, channels, rows, columns, seed)
        before = image.clone()

        result = transform(image)

        assert torch.equal(image, before)
        assert result.shape[1:] == image.shape[1:]
        assert name == "Windows" or result.shape == image.shape
        assert result.dtype == torch.float32
        assert torch.isfinite(result).all()
        if name not in ("ApplyBiasField", *HOUNSFIELD) or name == "Windows":
            assert result.min() >= 0
            assert result.max() <= 1
        assert torch.equal(transform(image), result)

    @pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
    @pytest.mark.parametrize("value", [0.0, 0.01, 0.05, 0.4, 1.0])
    def test_makes_neither_structure_nor_nan_of_nothing(
        self, transform: SliceTransform, value: float
    ) -> None:
        name = type(transform).__name__
        channels = 1 if name == "Windows" else 3

        result = transform(torch.full((channels, 40, 50), value))

        assert torch.isfinite(result).all()
        if name != "ApplyBiasField":  # shading is what it is there to change
            assert (result.amax((1, 2)) - result.amin((1, 2))).max() < 1e-5

    @pytest.mark.parametrize(
        "name",
        ["ClipMetal", "FillDarkCorners", "KeepFieldOfView", "NormalizeGain", "PaddingToAir",
         "ScaleFluorescence", "ShadesOfGray", "SuppressDoppler", "TableRemoval", *CROPS_FOUND],
    )  # fmt: skip
    def test_that_cleans_has_nothing_to_do_a_second_time(self, name: str) -> None:
        transform = getattr(transforms, name)(**({} if name == "NormalizeGain" else OPTIONS[name]))
        image = framed(name) * (1.0 if name in OWN_UNIT else 0.4)

        once = torch.as_tensor(transform(image))
        twice = torch.as_tensor(transform(once))

        torch.testing.assert_close(twice, once, atol=5e-3, rtol=0)

    @pytest.mark.parametrize("name", VALUES)
    def test_takes_arrays_of_any_type(self, name: str) -> None:
        transform = getattr(transforms, name)(**OPTIONS[name])
        image = framed(name)

        result = transform(image.double().numpy())

        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, transform(image))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    @pytest.mark.parametrize("name", VALUES)
    def test_gives_on_a_gpu_what_it_gives_on_the_cpu(self, name: str) -> None:
        transform = getattr(transforms, name)(**OPTIONS[name])
        image = framed(name)

        result = transform(image.cuda())

        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), transform(image), atol=2e-3, rtol=1e-5)


class TestEveryDictionaryForm:
    def test_is_of_every_slice_transform(self) -> None:
        forms = {name for name in transforms.__all__ if f"{name}d" in transforms.__all__}

        assert forms - {"LabelMap", "MeasureImage"} == set(OPTIONS)

    def test_has_one_name(self) -> None:
        public = {name for name in vars(transforms) if name[0].isupper()}

        assert public == set(transforms.__all__)

    @pytest.mark.parametrize("name", VALUES)
    def test_of_values_equals_the_array_form_and_leaves_the_rest(self, name: str) -> None:
        dictionary = getattr(transforms, f"{name}d")("image", **OPTIONS[name])
        image = framed(name)
        data = {"image": MetaTensor(image, meta={"space": "RAS"}), "label": 1}

        result = dictionary(data)

        expected = getattr(transforms, name)(**OPTIONS[name])(image)
        assert isinstance(result["image"], MetaTensor)
        assert torch.equal(result["image"].as_tensor(), expected)
        assert result["image"].meta["space"] == "RAS"
        assert result["label"] == 1
        assert torch.equal(data["image"].as_tensor(), image)

    @pytest.mark.parametrize("name", CROPS)
    def test_of_crops_takes_labels_along_and_back(self, name: str) -> None:
        keys = ("label", "image")
        found = {} if name == "CropToBox" else {"source_key": "image"}
        dictionary = getattr(transforms, f"{name}d")(keys, **found, **OPTIONS[name])
        # A label is a lit field in a dark border itself.
        label = torch.zeros(2, 50, 60, dtype=torch.uint8)
        label[:, 20:30, 25:40] = 1

        result = dictionary({"image": framed(name), "label": label})
        back = dictionary.inverse(result)

        alone = getattr(transforms, name)(**OPTIONS[name])(framed(name))
        assert torch.equal(result["image"].as_tensor(), alone.as_tensor())
        assert alone.shape[1:] < (50, 60)
        assert result["label"].shape[1:] == alone.shape[1:]
        assert result["label"].dtype == torch.uint8
        assert torch.equal(back["label"].as_tensor(), label)

    @pytest.mark.parametrize("name", CROPS_FOUND)
    def test_of_crops_finds_the_box_in_the_first_key(self, name: str) -> None:
        dictionary = getattr(transforms, f"{name}d")(("image", "label"), **OPTIONS[name])

        result = dictionary({"image": framed(name).numpy(), "label": torch.zeros(1, 50, 60)})

        assert dictionary.requires_current_data
        assert result["label"].shape[1:] == result["image"].shape[1:]

    @pytest.mark.parametrize("name", OPTIONS)
    def test_passes_a_missing_key_over_where_allowed(self, name: str) -> None:
        form = getattr(transforms, f"{name}d")
        data = {"image": framed(name)}

        lenient = form(("image", "label"), allow_missing_keys=True, **OPTIONS[name])

        assert lenient(data).keys() == data.keys()
        with pytest.raises(KeyError, match="label"):
            form(("image", "label"), **OPTIONS[name])(data)

    @pytest.mark.parametrize("name", OPTIONS)
    def test_works_in_configs_and_workers(self, name: str) -> None:
        image = framed(name)
        config = {"_target_": f"esp_medsam.transforms.{name}d", "keys": "image", **OPTIONS[name]}

        form = ConfigParser({"form": config}).get_parsed_content("form")
        sent = pickle.loads(pickle.dumps(form))

        assert type(sent) is getattr(transforms, f"{name}d")
        expected = getattr(transforms, name)(**OPTIONS[name])(image)
        assert torch.equal(torch.as_tensor(sent({"image": image})["image"]), expected)

    @pytest.mark.parametrize("name", OPTIONS)
    def test_tells_help_its_options(self, name: str) -> None:
        array, form = getattr(transforms, name), getattr(transforms, f"{name}d")

        parameters = inspect.signature(form).parameters

        assert next(iter(parameters)) == "keys"
        assert OPTIONS[name].keys() <= parameters.keys()
        for option in inspect.signature(array).parameters.values():
            assert parameters[option.name].default == option.default
        assert parameters["allow_missing_keys"].default is False
        assert f":class:`{name}`" in inspect.getdoc(form)
        with pytest.raises(TypeError, match="argument"):
            form("image", surprise=1, **OPTIONS[name])
