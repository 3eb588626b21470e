"""README and the how-to of the library, from their pages: each Python and shell block runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import skimage
from pydicom import dcmread
from pydicom.data import get_testdata_file

import esp_medsam
from esp_medsam.cli.main import main


ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture(autouse=True)
def _in_a_folder_of_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a folder with a CT volume, alone and in a folder of scans."""
    monkeypatch.chdir(tmp_path)
    voxels = np.random.default_rng(0).integers(-900, 900, (40, 36, 3)).astype(np.int16)
    (tmp_path / "scans").mkdir()
    for name in ("scan.nii.gz", "scans/scan.nii.gz"):
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0])), name)


class TestReadme:
    def test_its_three_lines_of_python_save_a_result(self, tmp_path: Path) -> None:
        (block,) = blocks("README.md", "python")

        exec(compile(block, "README.md", "exec"), {})

        assert (tmp_path / "out/scan_seg.nii.gz").is_file()

    def test_its_commands_segment_a_folder(self, tmp_path: Path) -> None:
        (block,) = blocks("README.md", "shell")

        for line in block.splitlines():
            command, *arguments = shlex.split(line)
            assert command == ".venv/bin/esp-medsam"
            assert main(arguments) == 0, line

        assert (tmp_path / "out/scan_seg.nii.gz").is_file()
        assert (tmp_path / "out/scan_seg_preview.png").is_file()


class TestUseFromPython:
    def test_each_block_runs_as_it_stands(self, tmp_path: Path) -> None:
        image = nib.load("scan.nii.gz")
        dataset = dcmread(get_testdata_file("MR_small.dcm"))
        picture = PIL.Image.open(Path(skimage.__path__[0]) / "data/retina.jpg").resize((96, 96))
        names: dict[str, Any] = {
            "paths": ["scan.nii.gz"],
            "nibabel_image": image,
            "simpleitk_image": SimpleITK.ReadImage("scan.nii.gz"),
            "pydicom_dataset": dataset,
            "list_of_datasets": [dataset],
            "array": np.asarray(image.dataobj),
            "affine": image.affine,
            "picture": np.asarray(picture),
        }

        with esp_medsam.Segmenter(device="cpu") as segmenter:
            for block in blocks("docs/how-to/python.md", "python"):
                exec(
                    compile(block, "python.md", "exec"),
                    {"esp_medsam": esp_medsam, **names} | {"segmenter": segmenter},
                )

        assert (tmp_path / "out/scan_seg.nii.gz").is_file()
