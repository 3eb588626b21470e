"""The esp-medsam command: one file per sub-command; printing happens here and nowhere else."""
