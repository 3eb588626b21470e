"""What a record of a result may state."""

from __future__ import annotations

from pathlib import Path

from esp_medsam.io.record import Recipe


RECIPE = Recipe(
    modality="ct",
    targets=("liver",),
    formats=("nifti",),
    weights_sha256="abc",
    settings={"size": (448, 448), "path": Path("x")},
)
