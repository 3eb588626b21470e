"""The bundle's own pipeline around a network that finds what is bright, and pictures for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.pipeline import build_run
from esp_medsam.workflows.segment import SegmentRun
from tests.support.networks import BrightIsForeground
from tests.support.pictures import rectangle, save_picture


def build_bright_run(folder: Path, table: ModalityTable, **options: Any) -> SegmentRun:
    """Build a run of radiographs from in/ to out/ of a folder, both of which may be stated."""
    settings: dict[str, Any] = {
        "dataset_dir": str(folder / "in"),
        "output_dir": str(folder / "out"),
        "ckpt_path": str(folder / "weights.pt"),
        "modality": "xray",
        "network": BrightIsForeground(table),
        "input_size": [64, 64],
        "pixel_mean": [0.0, 0.0, 0.0],
        "pixel_std": [1.0, 1.0, 1.0],
        "device": "cpu",
    }
    return build_run(**{**settings, **options})


def write_bright(path: Path, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Write a gray picture with a bright rectangle; return where it is bright."""
    pixels = rectangle((20 + seed, 30), (5, 12), (4, 20))
    save_picture(path, pixels)
    return pixels > 0
