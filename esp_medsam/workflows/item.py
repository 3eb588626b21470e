"""An item to segment, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.io.read import is_volume, name_of


Item = dict[str, Any]
"""What is to be segmented: ``image`` (path; of a DICOM volume the folder), ``name`` (what its
outputs are called), ``relative_dir``, ``modality``, ``is_volume`` (whether it has three axes), and
of DICOM ``volume`` (its name in the folder), ``former_name`` (what earlier versions called its
outputs; empty where it is the same), ``other_names`` (what they are called by another option) and
``files``."""


def label_of(item: Item) -> str:
    """Return what messages call an item: its path, and of a DICOM volume its name."""
    return f"{item['image']} ({item['volume']})" if item.get("volume") else str(item["image"])


def item_of_file(path: Path, relative_dir: str, modality: str | None) -> Item:
    """Describe one file, for the loader and the saver."""
    return {
        "image": str(path),
        "name": name_of(path),
        "relative_dir": relative_dir,
        "modality": modality,
        "is_volume": is_volume(path),
    }


def item_of_volume(folder: Path, volume: DicomVolume, relative_dir: str) -> Item:
    """Describe one DICOM volume, for the loader and the saver; its modality is not settled."""
    return {
        "image": str(folder),
        "name": volume.name,
        "relative_dir": relative_dir,
        "modality": None,
        "is_volume": len(volume.grid.shape) == 3,
        "volume": volume.name,
        "former_name": volume.former_name,
        "files": sorted({piece.source.path for piece in volume.slices}),
        "warnings": volume.warnings,
    }
