"""The bundle as a zip, which carries this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import skimage

from esp_medsam.cli.main import main


def export(tmp_path: Path) -> Path:
    assert main(["export", str(tmp_path), "--to", "bundle"]) == 0
    (path,) = tmp_path.glob("*.zip")
    return path


def test_it_is_named_for_the_model_and_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export(tmp_path)
    first = path.read_bytes()

    assert path.name == "esp_medsam_v0.1.0.zip"
    assert main(["export", str(tmp_path), "--to", "bundle"]) == 1
    assert main(["export", str(tmp_path), "--to", "bundle", "--overwrite"]) == 0
    assert path.read_bytes() == first
    assert f"{path}: the bundle, with this package inside." in capsys.readouterr().out
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"esp_medsam"}
    needed = ("configs/metadata.json", "models/model.pt", "docs/README.md", "LICENSE")
    for name in (*needed, "esp_medsam/api.py", "esp_medsam/workflows/report/page.html"):
        assert f"esp_medsam/{name}" in names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_it_runs_with_the_package_inside_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(export(tmp_path)) as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "esp_medsam"
    picture = Path(skimage.__path__[0], "data", "retina.jpg")
    # A finder that an editable install leaves would find the checkout, too.
    script = "import runpy, sys, esp_medsam; print(esp_medsam.__file__, file=sys.stderr); "
    script += "sys.argv = ['monai.bundle', *sys.argv[1:]]; "
    script += "runpy.run_module('monai.bundle', run_name='__main__')"
    options = ["run", "--config_file", "configs/inference.yaml", "--bundle_root", "."]
    options += ["--dataset_dir", str(picture), "--modality", "fundus"]

    ended = subprocess.run(
        [sys.executable, "-c", script, *options, "--output_dir", str(tmp_path / "out")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    assert str(root / "esp_medsam" / "__init__.py") in ended.stderr
    record = json.loads((tmp_path / "out" / "retina_seg.json").read_text())
    assert record["modality"] == "fundus"


@pytest.mark.parametrize("given", ["--modality=ct", "--ckpt_path=w.pt", "--input_size=32"])
def test_what_belongs_to_a_file_is_refused(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--to", "bundle", given]) == 2

    assert f"{given.partition('=')[0]} must be left out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = Path(__file__).parents[2] / "bundle" / "configs" / "targets.yaml"
    assert main(["new-bundle", str(tmp_path / "own"), "--targets", str(targets)]) == 0

    options = ["--to", "bundle", "--bundle", str(tmp_path / "own")]
    assert main(["export", str(tmp_path), *options]) == 1
    assert "bundle must have weights to be exported" in capsys.readouterr().err
