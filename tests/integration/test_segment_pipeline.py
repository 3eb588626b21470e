"""The bundle's own configuration, network included, driven in each of the ways a host does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import SaveImaged

from esp_medsam.cli.main import main
from esp_medsam.errors import EspMedSamError, explain
from esp_medsam.inferers import calibration
from esp_medsam.inferers.plausibility import Plausibility
from esp_medsam.io.page import GAP
from esp_medsam.io.preview import SHORTEST
from tests.support.nifti import save_nifti


CHECKOUT = Path(__file__).parents[2]
BUNDLE = CHECKOUT / "bundle"
CONFIG = BUNDLE / "configs/inference.yaml"
RETINA = Path(skimage.__path__[0]) / "data/retina.jpg"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder with a CT volume of odd axes."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    voxels = np.random.default_rng(0).integers(-1000, 1000, (5, 40, 33)).astype(np.int16)
    affine = np.array([[0, 0, 0.8, 3], [0, -0.9, 0, 5], [4, 0, 0, -7], [0, 0, 0, 1.0]])
    save_nifti(folder / "ct.nii.gz", voxels, affine)
    return folder


def workflow(**overrides: Any) -> ConfigWorkflow:
    settings = {"bundle_root": str(BUNDLE), "input_size": [64, 64], "device": "cpu", **overrides}
    return ConfigWorkflow(
        config_file=str(CONFIG),
        meta_file=str(BUNDLE / "configs/metadata.json"),
        logging_file=False,
        workflow_type="inference",
        **settings,
    )


def drive(driven: ConfigWorkflow) -> None:
    driven.initialize()
    driven.run()


def labels(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        return np.array(PIL.Image.open(path))
    return np.asarray(nib.load(path).dataobj)


class TestHosts:
    @pytest.mark.parametrize(
        ("kind", "modality", "name"),
        [("photographs", "fundus", "more/b_seg.png"), ("volume", "ct", "ct_seg.nii.gz")],
    )
    def test_run_evaluator_and_command_give_identical_masks(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        weights: Path,
        kind: str,
        modality: str,
        name: str,
    ) -> None:
        folder = request.getfixturevalue(kind)
        settings = {"dataset_dir": str(folder), "modality": modality, "ckpt_path": str(weights)}

        drive(workflow(output_dir=str(tmp_path / "run"), **settings))
        engine = workflow(output_dir=str(tmp_path / "engine"), **settings)
        engine.initialize()
        engine.evaluator.run()
        (tmp_path / "small.yaml").write_text("input_size: [64, 64]\n")
        command = ["segment", str(folder), str(tmp_path / "command"), "--modality", modality]
        options = ["--ckpt_path", str(weights), "--device", "cpu", "--bundle", str(BUNDLE)]
        status = main([*command, *options, "--config", str(tmp_path / "small.yaml")])

        assert status == 0
        expected = labels(tmp_path / "run" / name)
        assert expected.any()
        for host in ("engine", "command"):
            np.testing.assert_array_equal(labels(tmp_path / host / name), expected)
            assert (tmp_path / host / name).read_bytes() == (tmp_path / "run" / name).read_bytes()

    def test_volume_keeps_shape_and_affine(
        self, tmp_path: Path, weights: Path, volume: Path
    ) -> None:
        driven = workflow(
            dataset_dir=str(volume),
            output_dir=str(tmp_path / "out"),
            modality="ct",
            ckpt_path=str(weights),
        )
        drive(driven)

        source, mask = nib.load(volume / "ct.nii.gz"), nib.load(tmp_path / "out/ct_seg.nii.gz")
        assert mask.shape == source.shape
        np.testing.assert_array_equal(mask.affine, source.affine)
        assert mask.get_data_dtype() == np.uint8

    @pytest.mark.parametrize(("text", "value"), [("false", False), ("no", False), ("true", True)])
    def test_text_of_the_command_line_becomes_what_it_says(
        self, tmp_path: Path, weights: Path, text: str, value: bool
    ) -> None:
        driven = workflow(
            dataset_dir=str(RETINA),
            output_dir=str(tmp_path),
            modality="OP",
            ckpt_path=str(weights),
            preview=text,
            overwrite=text,
            device="$torch.device('cpu')",
        )

        outputs = driven.parser.get_parsed_content("outputs")

        assert outputs.preview is value
        assert outputs.overwrite is value

    def test_bundle_has_all_properties_that_monai_asks_for(
        self, tmp_path: Path, weights: Path, photographs: Path
    ) -> None:
        checked = workflow(
            dataset_dir=str(photographs),
            output_dir=str(tmp_path / "out"),
            modality="fundus",
            ckpt_path=str(weights),
        )
        checked.initialize()

        assert checked.check_properties() == []

    def test_monai_label_needs_no_more_than_the_parts(
        self, tmp_path: Path, weights: Path, photographs: Path
    ) -> None:
        """As its BundleInferTask does: no metadata, no run, a string for the device."""
        parser = ConfigParser()
        parser.read_config(str(CONFIG))
        parser.update({"bundle_root": str(BUNDLE), "input_size": [64, 64]})
        parser["device"] = "cpu"
        assert parser.get_parsed_content("displayable_configs")["modality"][3] == "fundus"
        parser["displayable_configs"] = {"modality": "fundus"}
        parser.parse(reset=True)

        network = parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        data: dict[Any, Any] = {"image": str(photographs / "a.png"), "device": "cpu"}
        for transform in parser.get_parsed_content("preprocessing").transforms:
            data = transform(data)
        inferer = parser.get_parsed_content("inferer")
        data["pred"] = inferer(data["image"][None], network.eval())[0]
        for transform in parser.get_parsed_content("postprocessing").transforms:
            if not isinstance(transform, SaveImaged):
                data = transform(data)

        assert data["pred"].shape == (1, 225, 301)
        assert set(data["pred"].unique().tolist()) <= {0, 1}

    def test_preview_shows_the_photograph(
        self, tmp_path: Path, weights: Path, photographs: Path
    ) -> None:
        driven = workflow(
            dataset_dir=str(photographs / "a.png"),
            output_dir=str(tmp_path),
            modality="fundus",
            ckpt_path=str(weights),
            preview=True,
        )
        drive(driven)

        with PIL.Image.open(tmp_path / "a_seg_preview.png") as picture:
            assert picture.width == SHORTEST + 2 * GAP
            assert picture.height > SHORTEST * 225 / 301  # with its caption and its legend


class TestFasterAndSteadier:
    def test_fast_flips_and_smoothing_are_told_in_the_record(
        self, tmp_path: Path, weights: Path, photographs: Path, volume: Path
    ) -> None:
        options = [
            "--ckpt_path",
            str(weights),
            "--device",
            "cpu",
            "--bundle",
            str(BUNDLE),
            "--fast",
        ]
        fundus, ct = tmp_path / "fundus", tmp_path / "ct"

        flipped = ["--modality", "fundus", "--flips"]
        assert main(["segment", str(photographs / "a.png"), str(fundus), *flipped, *options]) == 0
        smooth = ["--modality", "ct", "--slice_smoothing", "6"]
        assert main(["segment", str(volume), str(ct), *smooth, *options]) == 0

        record = json.loads((fundus / "a_seg.json").read_text())
        assert record["settings"]["input_size"] == [224, 224]
        assert record["settings"]["flips"] is True
        assert record["warnings"] == []
        assert json.loads((ct / "ct_seg.json").read_text())["settings"]["slice_smoothing"] == 6.0

    def test_rules_for_masks_may_be_given_with_a_run(
        self, tmp_path: Path, weights: Path, volume: Path
    ) -> None:
        asked = ["segment", str(volume), str(tmp_path), "--modality", "ct", "--fast"]
        asked += ["--targets", "liver,kidney", "--split_targets", "--bundle", str(BUNDLE)]
        asked += ["--ckpt_path", str(weights), "--device", "cpu", "--overwrite"]
        sizes = []
        for threshold in ("0.49", "0.51", "0.52"):
            assert main([*asked, "--threshold", threshold]) == 0
            mask: Any = nib.load(tmp_path / "ct_seg_liver.nii.gz")
            sizes.append(int(np.asarray(mask.dataobj).sum()))

        assert main([*asked, "--threshold", "0.51", "--largest_component"]) == 0

        assert sizes[0] > sizes[1] > sizes[2]
        mask = nib.load(tmp_path / "ct_seg_liver.nii.gz")
        _, components = scipy.ndimage.label(np.asarray(mask.dataobj), np.ones((3, 3, 3)))
        assert components <= 1
        record = json.loads((tmp_path / "ct_seg.json").read_text())
        assert record["settings"]["threshold"] == {"liver": 0.51, "kidney": 0.51}
        assert record["settings"]["clean_up"]["liver"]["largest_component"] is True

    @pytest.mark.parametrize(
        ("rules", "expected"), [((), 0.8), (("--threshold", "0.4"), None), (("--min_ml", "0"), 0.8)]
    )
    def test_the_dice_to_expect_is_that_of_masks_by_the_bundle_s_own_rules(
        self,
        tmp_path: Path,
        photographs: Path,
        monkeypatch: pytest.MonkeyPatch,
        rules: tuple[str, ...],
        expected: float | None,
    ) -> None:
        curves = {"fundus": {"vessels": [(0.0, 0.8), (1.0, 0.8)]}}
        known = calibration.Calibration(Plausibility(torch.zeros(1, 1), {}, 1.0), curves)
        monkeypatch.setattr(calibration, "read_calibration", lambda *_: known)
        asked = ["segment", str(photographs / "a.png"), str(tmp_path), "--modality", "fundus"]
        asked += ["--bundle", str(BUNDLE), "--device", "cpu", "--fast", *rules]

        assert main(asked) == 0

        (vessels,) = json.loads((tmp_path / "a_seg.json").read_text())["targets"]
        assert vessels["voxels"] > 0
        assert vessels["expected_dice"] == expected

    def test_another_clean_up_is_another_result(
        self, tmp_path: Path, weights: Path, volume: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "own"
        shutil.copytree(BUNDLE / "configs", own / "configs")
        asked = ["segment", str(volume), str(tmp_path / "out"), "--modality", "ct", "--fast"]
        asked += ["--targets", "liver", "--ckpt_path", str(weights), "--device", "cpu"]
        assert main([*asked, "--bundle", str(BUNDLE)]) == 0
        table = own / "configs/targets.yaml"
        text = table.read_text(encoding="utf-8")
        table.write_text(
            text.replace("      liver:\n", "      liver:\n        clean_up: {min_ml: 100}\n", 1)
        )

        assert main([*asked, "--bundle", str(own)]) == 1

        assert "was made with clean_up {}" in capsys.readouterr().err

    def test_fast_is_a_size_of_its_own(
        self, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["--modality", "fundus", "--fast", "--input_size", "448"]

        assert main(["segment", str(photographs), str(tmp_path / "out"), *asked]) == 2

        assert "--input_size: must be left out with --fast" in capsys.readouterr().err


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "code"),
        [
            ({}, "E_MODALITY"),
            ({"modality": "eye"}, "E_MODALITY"),
            ({"modality": "fundus", "targets": "liver"}, "E_TARGET"),
            ({"modality": "fundus", "dataset_dir": "/none"}, "E_NOT_FOUND"),
            ({"modality": "fundus", "dataset_dir": str(Path(__file__).parent)}, "E_NO_INPUT"),
            ({"modality": "fundus", "ckpt_path": "/none.pt"}, "E_NO_WEIGHTS"),
            ({"modality": "fundus", "ckpt_path": str(RETINA)}, "E_CHECKPOINT"),
            ({"modality": "fundus", "output_format": "gif"}, "E_OPTION"),
            ({"modality": "fundus", "input_size": [100, 64]}, "E_OPTION"),
            ({"modality": "fundus", "device": "cuda:99"}, "E_DEVICE"),
            ({"modality": "fundus", "device": "meta"}, "E_DEVICE"),
            ({"modality": "fundus", "overwrite": "maybe"}, "E_OPTION"),
            ({"modality": "fundus", "pixel_std": [float("inf"), 1, 1]}, "E_OPTION"),
            ({"modality": "fundus", "pixel_mean": [0.5]}, "E_OPTION"),
            ({"modality": "fundus", "dataset_dir": ""}, "E_OPTION"),
        ],
    )
    def test_what_the_user_can_cause_has_its_code_behind_what_monai_raises(
        self,
        tmp_path: Path,
        weights: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
        code: str,
    ) -> None:
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        settings = {"dataset_dir": str(RETINA), "ckpt_path": str(weights), **options}

        with pytest.raises((EspMedSamError, RuntimeError)) as caught:  # MONAI's is the latter
            drive(workflow(output_dir=str(tmp_path / "out"), **settings))

        assert str(explain(caught.value)).startswith(f"{code}: ")
        assert not (tmp_path / "out").exists()

    def test_is_one_line_and_status_1_from_any_folder(self, tmp_path: Path, weights: Path) -> None:
        settings = {
            "config_file": str(CONFIG),
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(tmp_path),
            "output_dir": str(tmp_path / "out"),
            "ckpt_path": str(weights),
            "modality": "fundus",
        }
        arguments = [text for key, value in settings.items() for text in (f"--{key}", value)]

        ended = subprocess.run(
            [sys.executable, "-m", "monai.bundle", "run", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            check=False,
        )

        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert ended.stderr.splitlines()[-1].startswith(f"E_NO_INPUT: {tmp_path} must hold")
