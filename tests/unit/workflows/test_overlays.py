from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from esp_medsam import transforms
from esp_medsam.errors import OptionError
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms import Clahe, IntensityRule, ModalityTransforms
from esp_medsam.workflows.overlay_transforms import build_transforms
from esp_medsam.workflows.overlays import TRANSFORMS, read_overlay, settings_of, train_settings_of


Read = Callable[[str], dict[str, Any]]
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "transforms.md"
ROW = "transforms: {fundus: {_target_: esp_medsam.transforms.ModalityTransforms, "
CLAHE = "_target_: esp_medsam.transforms.Clahe"


@pytest.fixture
def read(tmp_path: Path, table: ModalityTable) -> Read:
    """Reads a config of this text as settings."""

    def read_(text: str) -> dict[str, Any]:
        path = tmp_path / "overlay.yaml"
        path.write_text(text)
        return settings_of(read_overlay(path), path, table)

    return read_


class TestReadOverlay:
    @pytest.mark.parametrize("text", ["", "- a\n", "a: [1,\n", "5", "1: 2", "a: 1\na: 2"])
    def test_refuses_what_holds_no_keys(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "overlay.yaml").write_text(text)

        with pytest.raises(OptionError, match=r"config must .*overlay\.yaml"):
            read_overlay(tmp_path / "overlay.yaml")


class TestSettingsOf:
    def test_takes_what_a_user_changes_and_what_the_weights_fix(self, read: Read) -> None:
        text = "slice_batch: 2\ninput_size: [224, 224]\npixel_std: [1, 1, 1]\ntargets: [liver]"

        assert read(text) == {
            "slice_batch": 2,
            "input_size": (224, 224),
            "pixel_std": (1.0, 1.0, 1.0),
            "targets": ("liver",),
        }

    @pytest.mark.parametrize(
        ("key", "meant"),
        [("transform", "transforms"), ("input-size", "input_size"), ("slice-axis", "slice_axis")],
    )
    def test_refuses_a_key_that_is_nearly_one(self, read: Read, key: str, meant: str) -> None:
        with pytest.raises(OptionError, match=rf"'{key}'\. Is it {meant}\?"):
            read(f"{key}: ~\n")

    @pytest.mark.parametrize(
        "text",
        [
            "initialize: ['$import os']",
            "run: [\"$__import__('os').system('id')\"]",
            "imports: ['$import os']",
            "'+imports': ['$import os']",
            "table: {_target_: os.system, command: id}",
            "network_def: {_target_: subprocess.run, args: [id]}",
            "'inferer#_target_': builtins.print",
            "'inferer::_target_': builtins.print",
            "'slice_batch#x': 1",
            "bundle_root: /etc",
            "my_own: 1",
            "_requires_: [x]",
            "_meta_: {}",
        ],
    )
    def test_s3_takes_no_other_key(self, read: Read, text: str) -> None:
        with pytest.raises(OptionError, match=r"config must.*hold settings of inference\.yaml"):
            read(text)

    @pytest.mark.parametrize(
        "text",
        [
            "slice_batch: \"$__import__('os').system('id')\"",
            "output_format: '@initialize'",
            "include: ['%/etc/passwd']",
            "targets: ['$1']",
            "dataset_dir: '$print(1)'",
        ],
    )
    def test_s3_takes_no_expression_for_a_value(self, read: Read, text: str) -> None:
        with pytest.raises(OptionError, match=r"must be a plain value;.*expression"):
            read(text)

    def test_s3_takes_no_class_for_a_value(self, read: Read) -> None:
        with pytest.raises(OptionError, match="slice_batch must be a whole number"):
            read("slice_batch: {_target_: os.system, command: id}")


class TestTransforms:
    def test_are_those_of_the_package_that_a_stage_takes(self) -> None:
        offered = {
            name
            for name in transforms.__all__
            if f"{name}d" in transforms.__all__ or name.startswith("Measure")
        } - {"LabelMap", "MeasureImage", "MeasureImaged"}

        assert offered == TRANSFORMS

    def test_of_the_reference_page_are_built(self, read: Read) -> None:
        page = PAGE.read_text(encoding="utf-8")
        example = page.split("```yaml\n")[1].split("```")[0]

        built = build_transforms(read(example)["transforms"])

        assert [type(step).__name__ for step in built["fundus"].shown] == [
            "CropToFieldOfView",
            "Clahe",
        ]
        assert built["ct"].intensity == IntensityRule(hounsfield=[-200.0, 300.0])
        assert all(isinstance(row, ModalityTransforms) for row in built.values())

    def test_built_already_stay_as_they_are(self) -> None:
        row = ModalityTransforms(shown=[Clahe()])

        assert build_transforms({"fundus": row})["fundus"] is row

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("transforms: [1]", "transforms must hold keys and values"),
            ("transforms: {fundus: 1}", "transforms.fundus must hold keys and values"),
            ("transforms: {fundus: {}}", "transforms.fundus must have a _target_ .* got None"),
            ("transforms: {fundus: {_target_: os.system}}", "_target_ .* got 'os.system'"),
            (f"{ROW}_requires_: [x]}}}}", "key.*_target_;.*got _requires_"),
            (f"{ROW}_mode_: debug}}}}", "key.*_target_;.*got _mode_"),
            (f"{ROW}shown: {{}}}}}}", r"transforms.fundus.shown must be a list"),
            (f"{ROW}other: []}}}}", "have intensity, measure, native, shown"),
            (f"{ROW}shown: [1]}}}}", r"fundus.shown\[0\] must hold keys and values"),
            (f"{ROW}shown: ['$print']}}}}", r"fundus.shown\[0\] must hold keys and values"),
            (f"{ROW}shown: [{{_target_: builtins.exec}}]}}}}", "got 'builtins.exec'"),
            (f"{ROW}shown: [{{_target_: pickle.load}}]}}}}", "got 'pickle.load'"),
            (
                f"{ROW}shown: [{{_target_: esp_medsam.transforms.by_modality.sha256}}]}}}}",
                "got 'esp_medsam.transforms.by_modality.sha256'",
            ),
            (f"{ROW}shown: [{{_target_: [a]}}]}}}}", r"got \['a'\]"),
            (f"{ROW}shown: [{{{CLAHE}, tiles: $print}}]}}}}", "plain options; .* tiles: '.print'"),
            (f"{ROW}shown: [{{{CLAHE}, tiles: ['@a']}}]}}}}", "plain options"),
            (f"{ROW}shown: [{{{CLAHE}, tiles: {{_target_: os.system}}}}]}}}}", "plain options"),
            (f"{ROW}intensity: {{_target_: os.getcwd}}}}}}", "intensity must have a _target_"),
            (f"{ROW}intensity: {{{CLAHE}}}}}}}", "intensity must have a _target_"),
        ],
    )
    def test_s3_name_no_class_but_those_and_have_plain_options(
        self, read: Read, text: str, problem: str
    ) -> None:
        with pytest.raises(OptionError, match=problem):
            read(text)

    def test_that_are_wrong_do_not_hide_other_wrong_settings(self, read: Read) -> None:
        rules = (
            "slice_batch must be at least 1; got 0; flips must be .*; got 'maybe'. "
            "transforms.fundus.shown must be a list of transforms"
        )

        with pytest.raises(OptionError, match=rules):
            read(f"{ROW}shown: 1}}}}\nslice_batch: 0\nflips: maybe\n")

    def test_that_are_wrong_do_not_hide_other_wrong_settings_of_training(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "overlay.yaml"
        path.write_text(f"{ROW}shown: 1}}}}\nepochs: ten\n")

        with pytest.raises(OptionError, match=r"epochs must be .* transforms.fundus.shown must"):
            train_settings_of(read_overlay(path), path)

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ("unknown: 1", r"transforms.fundus.shown\[0\] must give Clahe what it takes"),
            ("clip_limit: text", "clip_limit must be"),
            ("clip_limit: .nan", "clip_limit must be"),
        ],
    )
    def test_do_not_take_options_that_they_have_not(
        self, read: Read, options: str, problem: str
    ) -> None:
        rows = read(f"{ROW}shown: [{{{CLAHE}, {options}}}]}}}}")["transforms"]

        with pytest.raises(OptionError, match=problem):
            build_transforms(rows)

    def test_read_what_a_dump_with_aliases_holds(self, read: Read) -> None:
        step = {"_target_": "esp_medsam.transforms.Clahe"}
        row = {"_target_": "esp_medsam.transforms.ModalityTransforms", "shown": [step, step]}

        rows = read(yaml.safe_dump({"transforms": {"fundus": row}}))["transforms"]

        assert len(build_transforms(rows)["fundus"].shown) == 2
