"""Show studies and their segmentations in OHIF, on this machine alone."""
