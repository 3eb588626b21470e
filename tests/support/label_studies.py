"""Studies for the annotation server: a picture, volumes of three orientations, a damaged one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import skimage

from esp_medsam.workflows.bundle import find_bundle


CANARY = "CANARY_PATIENT"

ALL = {"params": json.dumps({"targets": "all"})}

_nib: Any = nibabel


def make_studies(studies: Path) -> None:
    """Write the studies into a new folder."""
    studies.mkdir()
    shutil.copy(Path(skimage.__path__[0], "data", "retina.jpg"), studies / f"{CANARY}_eye.jpg")
    upright = _nib.Nifti1Image(heart(), np.diag([-3, -3, 8, 1]))
    for code in ("RAS", "LPS", "PIR"):
        turned = upright.as_reoriented(
            _nib.orientations.ornt_transform(
                _nib.io_orientation(upright.affine), _nib.orientations.axcodes2ornt(code)
            )
        )
        _nib.save(turned, studies / f"{code}.nii.gz")
    (studies / "damaged.nii.gz").write_bytes((studies / "RAS.nii.gz").read_bytes()[:500])


def heart() -> npt.NDArray[np.int16]:
    """Return a short-axis view of a heart, as simple as the shipped weights recognize it."""
    x, y = np.mgrid[-1:1:64j, -1:1:56j]
    values = np.where((x / 0.9) ** 2 + (y / 0.85) ** 2 < 1, 90, 30)
    radius = np.hypot(x - 0.15, y - 0.1)
    right = ((x + 0.3) / 0.3) ** 2 + ((y - 0.15) / 0.25) ** 2 < 1
    values = np.select([radius < 0.24, radius < 0.38, right], [230, 60, 220], values)
    noise = np.random.default_rng(1).normal(0, 5, (64, 56, 3))
    return (values[..., None] + noise).astype(np.int16)


def copy_bundle(folder: Path, *configs: str, size: int = 128) -> None:
    """Copy the bundle into a new folder, with a small input size in some of its configs."""
    shutil.copytree(find_bundle(), folder)
    for name in configs:
        config = folder / "configs" / name
        text = config.read_text(encoding="utf-8")
        changed = text.replace("input_size: [448, 448]", f"input_size: [{size}, {size}]")
        config.write_text(changed, encoding="utf-8")


def options(home: Path) -> list[str]:
    """Return the options of a server with the bundle in a folder."""
    return ["--bundle", str(home / "bundle"), "--trust_config"]
