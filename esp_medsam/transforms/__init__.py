"""MONAI transforms that know the modality, and the geometry of how slices are shown."""

from esp_medsam.transforms.intensity import MeasureIntensity, MeasureIntensityd
from esp_medsam.transforms.label_map import LabelMap, LabelMapd


__all__ = ["LabelMap", "LabelMapd", "MeasureIntensity", "MeasureIntensityd"]
