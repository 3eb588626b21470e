"""Read and write every format: the loader and saver transforms, records, files whole or absent."""

from __future__ import annotations

from esp_medsam.io.atomic import TEMPORARY_PREFIX, atomic_file, output_error
from esp_medsam.io.load import LoadMedicalImaged, collate
from esp_medsam.io.output_files import OUTPUT_FORMATS
from esp_medsam.io.output_path import check_output_dir, output_stem
from esp_medsam.io.read import (
    CT_INPUTS,
    SUFFIXES,
    files_of,
    is_image,
    is_volume,
    name_of,
    read,
)
from esp_medsam.io.record import Recipe, file_names, is_done, read_record, record_path
from esp_medsam.io.save import SaveSegmentationd


__all__ = [
    "CT_INPUTS",
    "OUTPUT_FORMATS",
    "SUFFIXES",
    "TEMPORARY_PREFIX",
    "LoadMedicalImaged",
    "Recipe",
    "SaveSegmentationd",
    "atomic_file",
    "check_output_dir",
    "collate",
    "file_names",
    "files_of",
    "is_done",
    "is_image",
    "is_volume",
    "name_of",
    "output_error",
    "output_stem",
    "read",
    "read_record",
    "record_path",
]
