"""Read DICOM Segmentation objects, whoever wrote them."""
