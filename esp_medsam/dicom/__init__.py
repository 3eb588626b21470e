"""DICOM: from the files of a study to volumes, and back to segmentation objects."""

from esp_medsam.dicom.geometry import stack_geometry
from esp_medsam.dicom.modality import settle
from esp_medsam.dicom.pixels import DicomPixels, read_pixels
from esp_medsam.dicom.scan import Found, find_volumes, is_dicom
from esp_medsam.dicom.split import split_series
from esp_medsam.dicom.volume import DicomSlice, DicomVolume, StackGeometry


__all__ = [
    "DicomPixels",
    "DicomSlice",
    "DicomVolume",
    "Found",
    "StackGeometry",
    "find_volumes",
    "is_dicom",
    "read_pixels",
    "settle",
    "split_series",
    "stack_geometry",
]
