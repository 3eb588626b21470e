from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from esp_medsam.errors import DeviceError, ModalityError, OptionError, TargetError
from esp_medsam.modality import ModalityTable
from esp_medsam.setting_checks import Given
from esp_medsam.settings import (
    EvaluationSettings,
    InferenceSettings,
    given_settings,
    inference_settings,
)
from esp_medsam.training_settings import TrainSettings


CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


class TestGivenSettings:
    @pytest.mark.parametrize(
        ("key", "text", "value"),
        [
            ("overwrite", "false", False),
            ("overwrite", "no", False),
            ("preview", "True", True),
            ("amp", 1, True),
            ("slice_batch", "4", 4),
            ("frame", "0", 0),
            ("frame", None, None),
            ("targets", "liver, kidney", ("liver", "kidney")),
            ("targets", ["liver"], ("liver",)),
            ("output_format", "dicom-seg,nifti", ("dicom-seg", "nifti")),
            ("include", "*.nii.gz", ("*.nii.gz",)),
            ("series", 123, "123"),
            ("dataset_dir", Path("in"), "in"),
            ("dataset_dir", 2026, "2026"),
            ("dataset_dir", "$x", "$x"),
            ("device", torch.device("cuda", 1), "cuda:1"),
            ("input_size", [224, "448"], (224, 448)),
            ("pixel_std", ["0.2", 0.3, 1], (0.2, 0.3, 1.0)),
            ("presence_threshold", "0", 0.0),
            ("modality", "CT", "ct"),
            ("modality", ["ct", "mri"], ["ct", "mri"]),
        ],
    )
    def test_text_becomes_what_it_says(
        self, table: ModalityTable, key: str, text: Any, value: Any
    ) -> None:
        given = {"modality": "ct", key: text}

        assert given_settings(given, table)[key] == value
        assert type(given_settings({key: Given(text), **given}, table)[key]) is type(value)

    @pytest.mark.parametrize(
        ("key", "value", "rule"),
        [
            ("overwrite", "maybe", "overwrite must be true or false; got 'maybe'"),
            ("overwrite", None, "overwrite must be true or false; got None"),
            ("overwrite", float("nan"), "overwrite must be true or false; got nan"),
            ("amp", "$True", "amp must be true or false"),
            ("slice_batch", 0, "slice_batch must be at least 1; got 0"),
            ("slice_batch", 4.5, "slice_batch must be a whole number; got 4.5"),
            ("slice_batch", True, "slice_batch must be a number; got True"),
            ("slice_batch", "9" * 5000, "slice_batch must be a whole number.*fewer digits"),
            ("slice_batch", 10**400, "slice_batch must be less than"),
            ("presence_threshold", 1.5, "presence_threshold must be at most 1; got 1.5"),
            ("presence_threshold", True, "presence_threshold must be a number; got True"),
            ("frame", -1, "frame must be at least 0; got -1"),
            ("frame", "null", "frame must be a whole number; got 'null'"),
            ("pixel_std", [float("inf"), 1, 1], "pixel_std must be a finite number at index 0"),
            ("pixel_std", [0, 1, 1], "pixel_std must be greater than 0 at index 0"),
            ("pixel_std", [1, 1], "pixel_std must be a list of 3 numbers; got 1"),
            ("pixel_mean", "abc", "pixel_mean must be a list of 3 numbers; got 'abc'"),
            ("input_size", [100, 64], "input_size must be a multiple of 32 at index 0"),
            ("input_size", 448, "input_size must be native, or a list of 2 numbers; got 448"),
            ("input_size", "own", "input_size must be native, or a list of 2 numbers; got 'own'"),
            ("output_format", "gif", "output_format must be 'auto',.*or 'png'"),
            ("output_format", [], "output_format must name at least one"),
            ("seg_type", "BINARY", "seg_type must be 'binary', 'labelmap' or 'fractional'"),
            ("slice_axis", "x", "slice_axis must be 'axial', 'coronal' or 'sagittal'"),
            ("resize", "crop", "resize must be 'fit' or 'stretch'"),
            ("join", "studies", "join must be 'series',.*or 'interleaved'"),
            ("ct_input", "HU", "ct_input must be 'hu' or 'windowed'"),
            ("dataset_dir", "", "dataset_dir must be a path; got ''"),
            ("output_dir", "a\0b", "output_dir must be a path"),
            ("include", [1], "include must be a pattern, or a list of patterns"),
            ("transforms", "x", "transforms must be.*by modality; got 'x'"),
            ("no_such", 1, "no_such must be left out.*is no.*setting"),
        ],
    )
    def test_refuses_the_rest_by_rule_and_value(
        self, table: ModalityTable, key: str, value: Any, rule: str
    ) -> None:
        with pytest.raises(OptionError, match=rule):
            given_settings({key: value}, table)

    @pytest.mark.parametrize("device", ["meta", "xla", "hpu", "cuda:x", "cpu;", "", 0])
    def test_takes_no_device_that_nothing_runs_on(self, table: ModalityTable, device: Any) -> None:
        with pytest.raises(DeviceError, match="device must be cpu, cuda, cuda:<index> or mps"):
            given_settings({"device": device}, table)

    def test_takes_no_device_object_that_nothing_runs_on(self, table: ModalityTable) -> None:
        with pytest.raises(DeviceError, match="device must be cpu"):
            given_settings({"device": torch.device("meta")}, table)

    def test_c1_knows_modalities_and_their_targets(self, table: ModalityTable) -> None:
        with pytest.raises(ModalityError, match=r"modality must be one of dermoscopy.*got 'eye'"):
            given_settings({"modality": "eye"}, table)
        with pytest.raises(TargetError, match="targets of xray must be chosen from lungs"):
            given_settings({"modality": "xray", "targets": ["liver"]}, table)

    def test_names_all_that_is_wrong(self, table: ModalityTable) -> None:
        with pytest.raises(OptionError, match=r"device must .*; slice_batch must .*; resize must"):
            given_settings({"resize": "no", "slice_batch": 0, "device": "x"}, table)

    def test_quotes_no_more_of_a_value_than_a_line_holds(self, table: ModalityTable) -> None:
        with pytest.raises(TargetError) as caught:
            given_settings({"modality": "ct", "targets": ["a" * 1000] * 1000}, table)

        assert len(str(caught.value)) < 3000


class TestInferenceSettings:
    def test_are_those_of_the_config_and_no_others(self) -> None:
        config = yaml.safe_load((CONFIGS / "inference.yaml").read_text(encoding="utf-8"))
        node = config["settings"]
        first, last = list(config).index("bundle_root"), list(config).index("settings")

        settings = set(InferenceSettings.model_fields)
        assert set(list(config)[first:last]) == {"bundle_root", "table", *settings}
        assert {key: value for key, value in node.items() if key != "_target_"} == {
            key: f"@{key}" for key in ("table", *settings)
        }

    def test_must_all_be_given(self, table: ModalityTable) -> None:
        with pytest.raises(OptionError, match="output_dir must be given"):
            inference_settings(table=table, dataset_dir="in")


class TestEvaluationSettings:
    def test_are_those_of_the_config_and_no_others(self) -> None:
        config = yaml.safe_load((CONFIGS / "evaluate.yaml").read_text(encoding="utf-8"))
        node = config["evaluation_settings"]
        last = list(config).index("evaluation_settings")

        fields = EvaluationSettings.model_fields
        assert {key: value for key, value in node.items() if key != "_target_"} == {
            key: f"@{key}" for key in fields
        }
        # `targets` and `overwrite` are settings of inference.yaml, which this one lies over.
        assert set(list(config)[:last]) == (set(fields) | {"targets"}) - {"overwrite"}

    def test_have_the_config_s_defaults(self) -> None:
        config = yaml.safe_load((CONFIGS / "evaluate.yaml").read_text(encoding="utf-8"))

        settings = EvaluationSettings.of(datalist="d.json", section="test")

        named = settings.model_dump(exclude={"datalist", "section", "overwrite"})
        assert named == {key: config[key] for key in named}

    def test_take_text_and_refuse_what_it_does_not_say(self) -> None:
        given = {"datalist": "d.json", "section": "test"}

        assert EvaluationSettings.of(**given, tolerance="1.5", cases="").tolerance == 1.5
        with pytest.raises(OptionError, match="tolerance must be greater than 0; got '0'"):
            EvaluationSettings.of(**given, tolerance="0")


class TestTrainSettings:
    def test_are_those_of_the_config_and_no_others(self) -> None:
        config = yaml.safe_load((CONFIGS / "train.yaml").read_text(encoding="utf-8"))
        node = {key: value for key, value in config["settings"].items() if key != "_target_"}
        first, last = list(config).index("bundle_root"), list(config).index("settings")

        assert node == {key: f"@{key}" for key in TrainSettings.model_fields}
        assert set(list(config)[first:last]) == {"bundle_root", "dataset_dir", *node}

    def test_refuse_text_that_is_no_number(self) -> None:
        with pytest.raises(OptionError, match="epochs must be a whole number; got 'ten'"):
            TrainSettings.of(epochs="ten")

    @pytest.mark.parametrize("name", ["amp", "resume"])
    def test_name_auto_among_what_a_switch_may_be(self, name: str) -> None:
        assert TrainSettings.given({name: "auto"}) == {name: "auto"}
        assert TrainSettings.given({name: "no"}) == {name: False}
        with pytest.raises(OptionError, match=f"^{name} must be auto, true or false; got 'maybe'"):
            TrainSettings.given({name: "maybe"})

    def test_take_no_weights_to_start_from_as_none(self) -> None:
        config = yaml.safe_load((CONFIGS / "train.yaml").read_text(encoding="utf-8"))
        values = {key: config[key] for key in TrainSettings.model_fields}

        settings = TrainSettings.of(**{**values, "device": "cpu", "amp": "false"})

        assert settings.pretrained is None
        assert settings.amp is False
        assert settings.learning_rate == pytest.approx(8e-4)
