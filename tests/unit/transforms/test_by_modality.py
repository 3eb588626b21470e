"""The one table of how each modality is prepared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, GaussianSmooth

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.transforms.bias_field import ApplyBiasField
from esp_medsam.transforms.box import CropToBox
from esp_medsam.transforms.by_modality import (
    DEFAULTS,
    MeasureImage,
    ModalityTransforms,
    check_overrides,
    describe_transforms,
    transforms_of,
)
from esp_medsam.transforms.ct import Windows
from esp_medsam.transforms.dermoscopy import CropDarkRim, RemoveHair
from esp_medsam.transforms.intensity import IntensityRule
from esp_medsam.transforms.mri import MeasurePercentiles


def record(**known: object) -> Image:
    fields: dict[str, object] = {"path": "a", "name": "a", "modality": "xray"}
    return Image(**{**fields, "grid": Grid(shape=(4, 4)), **known})  # type: ignore[arg-type]


class TestTransformsOf:
    def test_defaults_apply_nothing_but_the_window(self) -> None:
        # The shipped weights were trained so; a default changes only together with weights.
        for chosen in DEFAULTS.values():
            assert not (*chosen.measure, *chosen.native, *chosen.shown)

    def test_users_take_the_place_of_one_modality_alone(self) -> None:
        mine = ModalityTransforms(shown=[str])

        assert transforms_of("ct", {"ct": mine}).shown == [str]
        assert transforms_of("mri", {"ct": mine}) is DEFAULTS["mri"]

    def test_the_window_stays_where_users_name_none(self) -> None:
        mine = {"ct": ModalityTransforms(shown=[str]), "own": ModalityTransforms(shown=[str])}

        assert transforms_of("ct", mine).intensity == DEFAULTS["ct"].intensity
        assert transforms_of("own", mine).intensity == IntensityRule()


class TestCheckOverrides:
    def test_takes_rows_of_modalities_that_there_are(self) -> None:
        mine = {"ct": ModalityTransforms()}

        assert check_overrides(mine, ["ct"]) is mine
        assert check_overrides(None, ["ct"]) is None

    @pytest.mark.parametrize(
        ("overrides", "rule"),
        [
            ("ct", "transforms must be.*by modality; got 'ct'"),
            ({"ct": {"shown": []}}, "transforms must hold a ModalityTransforms for ct; got dict"),
            ({"ct": None}, "transforms must hold a ModalityTransforms for ct; got NoneType"),
            ({"tc": ModalityTransforms()}, "transforms must name modalities.*of ct; got tc"),
        ],
    )
    def test_refuses_the_rest(self, overrides: Any, rule: str) -> None:
        with pytest.raises(OptionError, match=rule):
            check_overrides(overrides, ["ct"])


class TestModalityTransforms:
    @pytest.mark.parametrize(
        ("stages", "rule"),
        [
            ({"shown": RemoveHair()}, "shown must be a list of transforms"),
            ({"shown": [3]}, "shown must be a list of transforms"),
            ({"intensity": (0, 1)}, "intensity must be an IntensityRule"),
        ],
    )
    def test_refuses_what_are_no_transforms(self, stages: dict[str, Any], rule: str) -> None:
        with pytest.raises(OptionError, match=rule):
            ModalityTransforms(**stages)

    @pytest.mark.parametrize(
        ("stage", "step", "own"),
        [
            ("shown", Windows(), "native"),
            ("native", RemoveHair(), "shown"),
            ("native", CropDarkRim(), "shown"),
            ("measure", CropDarkRim(), "shown"),
            ("measure", Windows(), "native"),
        ],
    )
    def test_refuses_a_transform_in_the_stage_of_others(
        self, stage: str, step: object, own: str
    ) -> None:
        name = type(step).__name__

        with pytest.raises(OptionError, match=f"{name} must .* under {own};"):
            ModalityTransforms(**{stage: [step]})

    def test_takes_crops_to_a_box_and_transforms_of_others_anywhere(self) -> None:
        box = CropToBox(rows=(0, 1), columns=(0, 1))

        chosen = ModalityTransforms(native=[box, GaussianSmooth()], shown=[box, GaussianSmooth()])

        assert len(chosen.native) == len(chosen.shown) == 2


class TestMeasureImage:
    def test_radiographs_take_the_window_of_their_file(self) -> None:
        pixels = np.arange(16, dtype=np.uint16).reshape(1, 4, 4)

        assert MeasureImage()(pixels, record(window=(3.0, 9.0))).intensity_range == (3.0, 9.0)

    def test_other_modalities_do_not(self) -> None:
        pixels = np.full((1, 4, 4), 7, np.uint8)
        image = record(modality="ultrasound", window=(3.0, 9.0))

        assert MeasureImage()(pixels, image).intensity_range == (0.0, 255.0)

    def test_hounsfield_units_mean_tissue_however_they_are_shown(self) -> None:
        image = record(modality="ct", unit="HU", inverted=True)

        result = MeasureImage()(np.zeros((1, 4, 4), np.int16), image)

        assert result.intensity_range == (-160.0, 240.0)

    def test_low_values_shown_white_swap_the_range(self) -> None:
        pixels = np.full((1, 4, 4), 7, np.uint8)

        assert MeasureImage()(pixels, record(inverted=True)).intensity_range == (255.0, 0.0)

    def test_further_measures_follow_in_order(self) -> None:
        def first(pixels: object, image: Image) -> Image:
            assert image.intensity_range == (0.0, 255.0)
            return record(intensity_range=(1.0, 2.0))

        chosen = {"xray": ModalityTransforms(measure=[first])}
        pixels = np.zeros((1, 4, 4), np.uint8)

        assert MeasureImage(chosen)(pixels, record()).intensity_range == (1.0, 2.0)

    def test_refuses_what_measures_nothing(self) -> None:
        chosen = {"xray": ModalityTransforms(measure=[lambda pixels, image: pixels])}

        with pytest.raises(OptionError, match=r"measure must.*measures"):
            MeasureImage(chosen)(np.zeros((1, 4, 4), np.uint8), record())


class TestDescribed:
    def test_tells_settings_apart(self) -> None:
        def said(sigma: float) -> dict[str, str]:
            return describe_transforms(
                {"xray": ModalityTransforms(shown=[GaussianSmooth(sigma=sigma)])}
            )

        assert said(1.0) == said(1.0)
        assert said(1.0) != said(2.0)
        assert "GaussianSmooth(sigma=1.0" in said(1.0)["xray"]

    def test_tells_a_crop_and_a_measure_apart(self) -> None:
        def said(high: float, start: int) -> dict[str, str]:
            measure = MeasurePercentiles(percentiles=(1.0, high))
            crop = CropToBox(rows=(start, 9), columns=(1, 9))
            return describe_transforms({"mri": ModalityTransforms(measure=[measure], shown=[crop])})

        assert said(90.0, 1) == said(90.0, 1)
        assert len({said(90.0, 1)["mri"], said(99.0, 1)["mri"], said(90.0, 2)["mri"]}) == 3

    def test_tells_arrays_functions_and_inner_transforms_apart(self) -> None:
        def said(step: object) -> str:
            return describe_transforms({"mri": ModalityTransforms(native=[step])})["mri"]

        fields = [ApplyBiasField(np.full((2, 2), value)) for value in (0.0, 0.1, 0.1)]
        inner = [Compose([GaussianSmooth(sigma=sigma)]) for sigma in (1.0, 2.0, 2.0)]

        assert said(fields[0]) != said(fields[1]) == said(fields[2])
        assert said(inner[0]) != said(inner[1]) == said(inner[2])
        assert said(np.abs) != said(abs)
        assert "record" in said(record)

    def test_includes_the_window(self) -> None:
        chosen = ModalityTransforms(intensity=IntensityRule(hounsfield=(-1000.0, 0.0)))

        assert "hounsfield=[-1000.0, 0.0]" in describe_transforms({"ct": chosen})["ct"]

    def test_defaults_need_no_word(self) -> None:
        assert describe_transforms({}) == describe_transforms(None) == {}
