"""Pictures with masks, and the datalists that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image


def save_picture(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Save pixels as a picture, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return pixels of all values."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def rectangle(
    size: tuple[int, int] = (48, 64),
    rows: tuple[int, int] = (10, 30),
    columns: tuple[int, int] = (20, 40),
) -> npt.NDArray[np.uint8]:
    """Return a mask, 255 from the first row and column up to those behind the last."""
    mask = np.zeros(size, np.uint8)
    mask[slice(*rows), slice(*columns)] = 255
    return mask


def write_labeled(
    folder: Path,
    name: str,
    modality: str,
    target: str,
    mask: npt.NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """Write ``name.png``, noise that is brighter in a mask, and ``name_mask.png``.

    Returns:
        Its item of a datalist.
    """
    mask = rectangle() if mask is None else mask
    pixels = noise(*mask.shape, 3, seed=sum(name.encode())) // 3 + (mask // 2)[..., None]
    save_picture(folder / f"{name}.png", pixels)
    save_picture(folder / f"{name}_mask.png", mask)
    return {"image": f"{name}.png", "modality": modality, "labels": {target: f"{name}_mask.png"}}


def write_datalist(folder: Path, **sections: list[Any]) -> Path:
    """Write a datalist of these sections, ``d.json``."""
    path = folder / "d.json"
    path.write_text(json.dumps(sections), encoding="utf-8")
    return path


def write_radiographs(folder: Path, mask: npt.NDArray[np.uint8] | None = None) -> Path:
    """Write one picture to train with and one to validate with; return their datalist."""
    sections = {
        section: [write_labeled(folder, section, "xray", "lungs", mask)]
        for section in ("training", "validation")
    }
    return write_datalist(folder, **sections)
