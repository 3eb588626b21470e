"""What a first mask costs before anything is computed: imports are held to a list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import skimage


OURS = frozenset(
    {
        "esp_medsam",
        "highdicom",  # the bundle's configuration names DICOM-SEG
        "PIL",
        "pydantic",
        "pydicom",
        "rich",
        "SimpleITK",  # bias fields of MRI
        "skimage",
        "typer",
    }
)
"""Packages that a picture may load beside torch and MONAI."""

NEVER = frozenset({"jinja2", "matplotlib", "onnx", "onnxruntime", "openvino", "ray", "tifffile"})
"""Packages that a picture never needs, unless MONAI loads them by itself."""

LOADED = """
import json, sys
{before}
from esp_medsam.cli.main import main
status = main(sys.argv[1:]) if len(sys.argv) > 1 else 0
print("loaded", json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
raise SystemExit(status)
"""


def loaded(*arguments: str, before: str = "") -> set[str]:
    """Return the packages that a fresh process holds at the end of a command."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADED.format(before=before), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "ESP_MEDSAM_WORKERS": ""},
    )
    (line,) = [one for one in ended.stdout.splitlines() if one.startswith("loaded ")]
    return set(json.loads(line.removeprefix("loaded ")))


@pytest.mark.slow
def test_a_picture_loads_nothing_heavy_beside_torch_and_monai(tmp_path: Path) -> None:
    picture = Path(skimage.__path__[0], "data", "retina.jpg")
    options = ["--modality", "fundus", "--device", "cpu", "--input_size", "64"]
    # What pydicom and highdicom load by themselves belongs to them.
    known = "import torch, monai.bundle, highdicom, typer, rich.progress, SimpleITK, pydantic"
    base = loaded(before=known)

    found = loaded("segment", str(picture), str(tmp_path), *options)

    third = {name for name in found - base if not name.startswith("_")}
    assert third - set(sys.stdlib_module_names) <= OURS
    assert not (found & NEVER) - base
