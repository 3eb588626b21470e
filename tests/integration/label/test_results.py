"""Models, studies and results of MONAI Label's released server, over HTTP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

import esp_medsam
from tests.support.label_server import LabelServer, agreement, labelmap, until
from tests.support.label_studies import ALL, CANARY, options


_nib: Any = nibabel


class TestInfo:
    def test_each_modality_is_a_model_with_labels_and_colors_of_the_table(
        self, server: LabelServer
    ) -> None:
        table = esp_medsam.modalities()

        models = server.get("/info/").json()["models"]

        assert list(models) == list(table.names)
        for name in table.names:
            labels = {target.name: target.label for target in table[name].targets}
            assert models[name]["labels"] == labels
            assert models[name]["config"]["targets"][0] == "ready"
            assert list(models[name]["colors"]) == list(labels)

    def test_the_studies_are_listed(self, server: LabelServer) -> None:
        images = server.get("/datastore/?output=all").json()["objects"]

        assert set(images) == {"RAS", "LPS", "PIR", "damaged", f"{CANARY}_eye"}


class TestNotReady:
    def test_a_modality_without_a_ready_target_is_served_by_name(
        self, home: Path, tmp_path: Path
    ) -> None:
        """As a bundle is to which a target was added that nobody has measured yet."""
        shutil.copytree(home / "bundle", tmp_path / "bundle")
        table = tmp_path / "bundle" / "configs" / "targets.yaml"
        content = yaml.safe_load(table.read_text(encoding="utf-8"))
        content["modalities"]["fundus"]["targets"]["vessels"]["tier"] = "experimental"
        table.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        own = ["--modality", "fundus", *options(tmp_path)]
        server = LabelServer(tmp_path / "app", str(home / "studies"), *own)
        server.start()
        try:
            refused = server.infer("fundus", f"{CANARY}_eye", "json")
            assert refused.status_code == 422
            assert refused.json()["detail"].startswith("E_TARGET: targets of fundus must be chosen")
            named = {"params": json.dumps({"targets": "vessels"})}
            answer = server.infer("fundus", f"{CANARY}_eye", "json", data=named)
            assert answer.json()["label_names"] == {"vessels": 1}
        finally:
            server.kill()


class TestInfer:
    @pytest.mark.parametrize("name", ["RAS", "LPS", "PIR"])
    def test_a_volume_comes_back_on_its_own_grid_as_the_command_makes_it(
        self, server: LabelServer, home: Path, tmp_path: Path, expected: Any, name: str
    ) -> None:
        answer = server.infer("mri", name, data=ALL)

        assert agreement(labelmap(answer, tmp_path), expected[name]) > 0.999
        made = _nib.load(tmp_path / "answer.nii.gz")
        image = _nib.load(home / "studies" / f"{name}.nii.gz")
        np.testing.assert_array_equal(made.affine, image.affine)

    @pytest.mark.parametrize("ending", [".nrrd", ".seg.nrrd", ".nii", ".mha"])
    def test_other_file_types_hold_the_same(
        self, server: LabelServer, tmp_path: Path, expected: Any, ending: str
    ) -> None:
        params = {"params": json.dumps({"targets": "all", "result_extension": ending})}

        answer = server.infer("mri", "LPS", data=params)

        assert agreement(labelmap(answer, tmp_path, ending), expected["LPS"]) > 0.999

    def test_a_picture_comes_back_on_its_own_grid(
        self, server: LabelServer, tmp_path: Path, expected: Any
    ) -> None:
        answer = server.infer("fundus", f"{CANARY}_eye")

        assert agreement(labelmap(answer, tmp_path, ".png"), expected["eye"]) > 0.999

    def test_json_tells_labels_confidence_and_what_was_found(self, server: LabelServer) -> None:
        told = server.infer("fundus", f"{CANARY}_eye", "json").json()

        assert told["label_names"] == {"vessels": 1}
        assert told["warnings"] == []
        assert 0.5 <= told["confidence"]["vessels"] <= 1.0
        assert told["found"]["vessels"]["voxels"] > 1000

    def test_both_come_in_parts(self, server: LabelServer) -> None:
        answer = server.infer("fundus", f"{CANARY}_eye", "all")

        assert answer.headers["content-type"].startswith("multipart/form-data")
        assert b'name="params"' in answer.content
        assert b"PNG" in answer.content

    def test_an_image_may_come_with_the_request(
        self, server: LabelServer, home: Path, tmp_path: Path, expected: Any
    ) -> None:
        with (home / "studies" / "PIR.nii.gz").open("rb") as image:
            answer = server.infer("mri", data=ALL, files={"file": ("x.nii.gz", image)})

        assert agreement(labelmap(answer, tmp_path), expected["PIR"]) > 0.999
        temporary = home / "app" / "tmp"
        until(lambda: not any(path.name.startswith("tmp") for path in temporary.iterdir()))
