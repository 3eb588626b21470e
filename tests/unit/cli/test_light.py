"""What needs no network must not wait for what networks need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.builders import RELEASED_MODALITIES
from esp_medsam.workflows.conversion import RELEASED
from tests.support.nifti import save_nifti
from tests.support.processes import ROOT, run_python
from tests.support.reports import write_result
from tests.support.shipped_dicom import copy_stack


HEAVY = ("torch", "monai", "ignite", "itk", "SimpleITK", "scipy.ndimage", "skimage")

CODE = f"""
import sys
from esp_medsam.cli.main import main
status = main(sys.argv[1:])
print("loaded", *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def home(tmp_path: Path, shipped: Callable[[str], Path]) -> Path:
    """A folder with an image of each kind, and a datalist."""
    (tmp_path / "in").mkdir()
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "in/a.png")
    voxels = np.zeros((4, 5, 6), np.int16)
    save_nifti(tmp_path / "in/b.nii.gz", voxels)
    (tmp_path / "in/c.dcm").write_bytes(shipped("CT_small.dcm").read_bytes())
    item = {"image": "in/a.png", "modality": "xray", "labels": {}}
    table = ROOT / "bundle/configs/targets.yaml"
    (tmp_path / "t.yaml").write_bytes(table.read_bytes())
    (tmp_path / "d.json").write_text(json.dumps({"test": [item]}))
    (tmp_path / "bad.json").write_text(json.dumps({"test": [{**item, "modality": "ray"}]}))
    return tmp_path


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Return status, what of the heavy was loaded, and what was told before."""
    ended = run_python(CODE, *arguments, cwd=home)
    *told, loaded = ended.stderr.splitlines()
    return ended.returncode, loaded.removeprefix("loaded").strip(), "\n".join(told)


class TestWithoutTorch:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--help",),
            ("modalities",),
            ("codes", "liver"),
            ("inspect", "in"),
            ("inspect", "in", "--json"),
            ("new-bundle", "mine", "--targets", "t.yaml"),
            (
                "datalist",
                "l.json",
                "--images",
                "in/*.png",
                "--modality",
                "xray",
                "--absent",
                "lungs",
            ),
        ],
    )
    def test_what_only_reads_is_done(self, home: Path, arguments: tuple[str, ...]) -> None:
        assert run(home, *arguments)[:2] == (0, "")

    def test_inspecting_with_a_modality_is_done(self, home: Path) -> None:
        assert run(home, "inspect", "in/c.dcm", "--modality", "ct")[:2] == (0, "")

    def test_segmentations_become_nifti(self, tmp_path: Path, table: ModalityTable) -> None:
        image = read(copy_stack(tmp_path / "ct", [0, 2]))
        masks = np.ones((1, *image.grid.shape), np.uint8)
        targets = table.select("ct", ["liver"])
        write_dicom_seg(tmp_path / "seg.dcm", image, masks, targets, SegOptions(kind="binary"))

        assert run(tmp_path, "seg2nifti", "seg.dcm", "out")[:2] == (0, "")
        assert (tmp_path / "out/seg.nii.gz").exists()

    def test_a_report_is_made(self, tmp_path: Path) -> None:
        write_result(tmp_path / "out", "a", preview=True)

        assert run(tmp_path, "report", "out")[:2] == (0, "")
        assert (tmp_path / "out/report.html").exists()

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("segment", "none", "out", "--modality", "xray"), "E_NOT_FOUND"),
            (("segment", "in", "out", "--modality", "ray"), "E_MODALITY"),
            (("segment", "in/a.png", "out"), "E_MODALITY"),
            (("segment", "in", "out", "--modality", "xray", "--targets", "liver"), "E_TARGET"),
            (("segment", "in", "out", "--modality", "ct", "--slice_axis", "up"), "E_OPTION"),
            (("segment", "in", "out", "--modality", "ct", "--config", "none.yaml"), "E_NOT_FOUND"),
            (("segment", ".", "out", "--modality", "ct", "--exclude", "*"), "E_NO_INPUT"),
            (("inspect", "none"), "E_NOT_FOUND"),
            (("inspect", "in", "--modality", "ray"), "E_MODALITY"),
            (("evaluate", "none.json"), "E_NOT_FOUND"),
            (("train", "none.json", "out"), "E_NOT_FOUND"),
            (("train", "d.json", "out", "--epochs", "ten"), "E_OPTION"),
            (("evaluate", "bad.json"), "E_MODALITY"),
            (("evaluate", "d.json", "--section", "other"), "E_OPTION"),
            (("evaluate", "d.json", "--dataset", "other"), "E_OPTION"),
            (("datalist", "--check", "none.json"), "E_NOT_FOUND"),
            (("datalist", "--check", "bad.json"), "E_OPTION"),
            (("datalist", "l.json", "--csv", "none.csv"), "E_NOT_FOUND"),
            (("datalist", "d.json", "--csv", "none.csv"), "E_EXISTS"),
            (("convert", "none.pt", "out.pt", "--from", "sam"), "E_NOT_FOUND"),
            (("convert", "d.json", "o.pt", "--from", "delightsam"), "E_MODALITY"),
            (
                ("convert", "d.json", "o.pt", "--from", "delightsam", "--modality", "ct"),
                "E_MODALITY",
            ),
            (("codes", "xyzzy"), "E_OPTION"),
            (("new-bundle", "mine", "--targets", "none.yaml"), "E_NOT_FOUND"),
            (("pin-weights", "in", "d.json"), "E_OPTION"),
            (("seg2nifti", "none", "out"), "E_NOT_FOUND"),
            (("seg2nifti", "in", "out"), "E_NO_INPUT"),
            (("pacs", "--url", "https://p", "--study", "1.2", "--modality", "ray"), "E_MODALITY"),
            (("pacs", "--url", "https://p", "--study", "?", "--modality", "ct"), "E_OPTION"),
        ],
    )
    def test_wrong_values_are_told(self, home: Path, arguments: tuple[str, ...], code: str) -> None:
        status, loaded, told = run(home, *arguments)

        assert (status, loaded) == (1, "")
        assert told.startswith(f"{code}: ")
        assert "\n" not in told

    @pytest.mark.parametrize(
        "command",
        [
            ("segment", "in", "out"),
            ("inspect", "in"),
            ("modalities",),
            ("convert", "a", "b"),
            ("evaluate", "d.json"),
            ("datalist", "l.json"),
            ("seg2nifti", "in", "out"),
            ("pacs",),
            ("codes", "liver"),
            ("new-bundle", "mine"),
            ("pin-weights", "mine", "a"),
        ],
    )
    def test_wrong_usage_is_told(self, home: Path, command: tuple[str, ...]) -> None:
        status, loaded, told = run(home, *command, "--no-such-option")

        assert (status, loaded) == (2, "")
        assert "--no-such-option" in told


class TestReleased:
    def test_modalities_are_those_of_the_network(self) -> None:
        assert tuple(RELEASED_MODALITIES) == RELEASED
