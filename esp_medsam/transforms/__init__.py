"""MONAI transforms that know the modality, and the geometry of how slices are shown."""

from esp_medsam.transforms.by_modality import MeasureImage, MeasureImaged, ModalityTransforms
from esp_medsam.transforms.intensity import IntensityRule
from esp_medsam.transforms.label_map import LabelMap, LabelMapd


__all__ = [
    "IntensityRule",
    "LabelMap",
    "LabelMapd",
    "MeasureImage",
    "MeasureImaged",
    "ModalityTransforms",
]
