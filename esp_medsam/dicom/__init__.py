"""DICOM: read volumes from the files of a study, and write segmentation objects."""

from esp_medsam.dicom.geometry import stack_grid
from esp_medsam.dicom.modality import resolve_modality
from esp_medsam.dicom.pixels import DicomPixels, read_pixels
from esp_medsam.dicom.scan import Found, find_volumes, is_dicom
from esp_medsam.dicom.seg import SEG_KINDS
from esp_medsam.dicom.seg.read.description import SegSegment
from esp_medsam.dicom.seg.read.masks import DicomSegmentation
from esp_medsam.dicom.seg.read.reader import is_segmentation, read_segmentation
from esp_medsam.dicom.seg.write.writer import build_segmentation, write_segmentation
from esp_medsam.dicom.series_labels import SeriesLabels, labels_series
from esp_medsam.dicom.split import split_series
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
