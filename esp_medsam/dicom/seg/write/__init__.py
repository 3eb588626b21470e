"""Write masks as a DICOM Segmentation object."""
