"""Read DICOM Segmentation objects of any origin."""
