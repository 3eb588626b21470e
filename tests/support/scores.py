"""Scores of cases, as an evaluation finds them."""

from __future__ import annotations

from typing import Any

from esp_medsam.workflows.case_score import TargetScore


def case(image: str = "a", dice: float = 0.8, **changes: Any) -> TargetScore:
    """Return a case that holds its target."""
    known: dict[str, Any] = {
        "dataset": "s",
        "modality": "mri",
        "target": "glioma",
        "present": True,
        "iou": dice / (2 - dice),
        "voxels": 5,
        "true_voxels": 5,
        "precision": 0.5,
        "recall": 1.0,
        "surface_dice": 0.9,
        "hd95": 3.0,
        "hd": 4.0,
        "unit": "mm",
        "tolerance": 2.0,
        "confidence": 0.75,
    }
    return TargetScore(image=image, dice=dice, **{**known, **changes})
