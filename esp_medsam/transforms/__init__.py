"""Modality-aware MONAI transforms.

:class:`ModalityTransforms` takes the array forms; the dictionary forms, whose names end in ``d``,
are for your own pipelines. ``docs/reference/transforms.md`` describes each transform.
"""

from esp_medsam.transforms.bias_field import ApplyBiasField, ApplyBiasFieldd, MeasureBiasField
from esp_medsam.transforms.body import MeasureBody, TableRemoval, TableRemovald
from esp_medsam.transforms.box import CropToBox, CropToBoxd
from esp_medsam.transforms.by_modality import MeasureImage, MeasureImaged, ModalityTransforms
from esp_medsam.transforms.clahe import Clahe, Clahed
from esp_medsam.transforms.ct import (
    BONE,
    LUNG,
    SOFT_TISSUE,
    ClipMetal,
    ClipMetald,
    PaddingToAir,
    PaddingToAird,
    Windows,
    Windowsd,
)
from esp_medsam.transforms.dermoscopy import (
    CropDarkRim,
    CropDarkRimd,
    FillDarkCorners,
    FillDarkCornersd,
    RemoveHair,
    RemoveHaird,
    ShadesOfGray,
    ShadesOfGrayd,
)
from esp_medsam.transforms.endoscopy import (
    CropBlackBorder,
    CropBlackBorderd,
    SuppressSpecular,
    SuppressSpeculard,
)
from esp_medsam.transforms.fundus import (
    CropToFieldOfView,
    CropToFieldOfViewd,
    KeepFieldOfView,
    KeepFieldOfViewd,
    SubtractLocalAverage,
    SubtractLocalAveraged,
)
from esp_medsam.transforms.intensity import IntensityRule
from esp_medsam.transforms.label_map import LabelMap, LabelMapd
from esp_medsam.transforms.microscopy import (
    NormalizeStain,
    NormalizeStaind,
    ScaleFluorescence,
    ScaleFluorescenced,
)
from esp_medsam.transforms.mri import MeasurePercentiles, MeasureZScore
from esp_medsam.transforms.ultrasound import (
    CropToScan,
    CropToScand,
    MaskBurnedIn,
    MaskBurnedInd,
    NormalizeGain,
    NormalizeGaind,
    ReduceSpeckle,
    ReduceSpeckled,
    SuppressDoppler,
    SuppressDopplerd,
)
from esp_medsam.transforms.xray import CropCollimation, CropCollimationd, MeasureWindow


__all__ = [
    "BONE",
    "LUNG",
    "SOFT_TISSUE",
    "ApplyBiasField",
    "ApplyBiasFieldd",
    "Clahe",
    "Clahed",
    "ClipMetal",
    "ClipMetald",
    "CropBlackBorder",
    "CropBlackBorderd",
    "CropCollimation",
    "CropCollimationd",
    "CropDarkRim",
    "CropDarkRimd",
    "CropToBox",
    "CropToBoxd",
    "CropToFieldOfView",
    "CropToFieldOfViewd",
    "CropToScan",
    "CropToScand",
    "FillDarkCorners",
    "FillDarkCornersd",
    "IntensityRule",
    "KeepFieldOfView",
    "KeepFieldOfViewd",
    "LabelMap",
    "LabelMapd",
    "MaskBurnedIn",
    "MaskBurnedInd",
    "MeasureBiasField",
    "MeasureBody",
    "MeasureImage",
    "MeasureImaged",
    "MeasurePercentiles",
    "MeasureWindow",
    "MeasureZScore",
    "ModalityTransforms",
    "NormalizeGain",
    "NormalizeGaind",
    "NormalizeStain",
    "NormalizeStaind",
    "PaddingToAir",
    "PaddingToAird",
    "ReduceSpeckle",
    "ReduceSpeckled",
    "RemoveHair",
    "RemoveHaird",
    "ScaleFluorescence",
    "ScaleFluorescenced",
    "ShadesOfGray",
    "ShadesOfGrayd",
    "SubtractLocalAverage",
    "SubtractLocalAveraged",
    "SuppressDoppler",
    "SuppressDopplerd",
    "SuppressSpecular",
    "SuppressSpeculard",
    "TableRemoval",
    "TableRemovald",
    "Windows",
    "Windowsd",
]
