"""What one thing to be segmented is called, and what is known of it."""

from __future__ import annotations

from typing import Any


Item = dict[str, Any]
"""What is to be segmented: ``image`` (path; of a DICOM volume the folder), ``name`` (what its
outputs are called), ``relative_dir``, ``modality``, ``is_volume`` (whether it has three axes), and
of DICOM ``volume`` (its name in the folder), ``former_name`` (what earlier versions called its
outputs; empty where it is the same), ``other_names`` (what they are called by another option) and
``files``."""


def label_of(item: Item) -> str:
    """Return what messages call an item: its path, and of a DICOM volume its name."""
    return f"{item['image']} ({item['volume']})" if item.get("volume") else str(item["image"])
