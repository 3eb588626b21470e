"""Inference on MONAI's interface: images and volumes in, uint8 probabilities on their grid out."""

from esp_medsam.inferers.slice_wise import SliceWiseInferer


__all__ = ["SliceWiseInferer"]
