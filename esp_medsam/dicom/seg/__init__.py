"""DICOM Segmentation objects: written in ``write``, read in ``read``."""

from pydicom.uid import UID


SEG_KINDS = ("binary", "labelmap", "fractional")
"""How segments can be stored: a bit each, which may overlap; one value a pixel; probabilities."""

LABELMAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 has no name for."""
