"""Read (``read``) and write (``write``) DICOM Segmentation objects."""

from pydicom.uid import UID


SEG_KINDS = ("binary", "labelmap", "fractional")
"""Ways to store segments: a bit each, may overlap; one value per pixel; probabilities."""

LABELMAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, for which pydicom 3.0 has no name."""
