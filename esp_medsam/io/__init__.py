"""File formats: loader and saver transforms, records, and atomic writing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from esp_medsam.io.atomic import atomic_file, output_error
from esp_medsam.io.ct_units import CT_INPUTS
from esp_medsam.io.folder import TEMPORARY_PREFIX
from esp_medsam.io.formats import (
    SUFFIXES,
    files_of,
    is_image,
    is_volume,
    name_of,
)
from esp_medsam.io.item import Item
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.output_formats import OUTPUT_FORMATS
from esp_medsam.io.output_path import check_output_dir, output_stem, record_path
from esp_medsam.io.read import read
from esp_medsam.io.record import Recipe, file_names, is_done, read_record


if TYPE_CHECKING:
    from esp_medsam.io.load import LoadMedicalImaged, collate
    from esp_medsam.io.result_plan import ResultPlanner
    from esp_medsam.io.save import SaveSegmentationd


_WITH_TORCH = {
    "LoadMedicalImaged": "esp_medsam.io.load",
    "ResultPlanner": "esp_medsam.io.result_plan",
    "SaveSegmentationd": "esp_medsam.io.save",
    "collate": "esp_medsam.io.load",
}
"""Modules of the names that need torch and MONAI; code that only reads need not wait for them."""


def __getattr__(name: str) -> Any:
    """Import a name that needs torch and MONAI, the first time it is requested."""
    if name not in _WITH_TORCH:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_WITH_TORCH[name]), name)
