"""Inference behind MONAI's Inferer interface: images in, uint8 probabilities out."""

from esp_medsam.inferers.slice_wise import SliceWiseInferer
