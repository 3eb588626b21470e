"""DICOM: from the files of a study to volumes, and back to segmentation objects."""
