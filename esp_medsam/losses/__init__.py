"""Losses (torch only), computed from the network's ``Prediction``."""

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.distillation import DistillationLoss, TeacherTarget
from esp_medsam.losses.patch_prompt import PatchPromptLoss, patch_target
from esp_medsam.losses.presence import PresenceLoss
from esp_medsam.losses.prompted_segmentation import PromptedSegmentationLoss
from esp_medsam.losses.released_mask import ReleasedMaskLoss
from esp_medsam.losses.segmentation import SegmentationLoss
