"""The parts that ``train.yaml`` puts together on MONAI's engines, under one name."""

from esp_medsam.workflows.averaging import AveragedWeights, AverageHandler
from esp_medsam.workflows.best_weights import KeepBest, save_weights
from esp_medsam.workflows.forward import PredictForward, dice_inputs, loss_of
from esp_medsam.workflows.initial_weights import start_from
from esp_medsam.workflows.lengths import samples_of, turns_of, warmup_of
from esp_medsam.workflows.optimization import ClipGradients, weight_groups


__all__ = [
    "AverageHandler",
    "AveragedWeights",
    "ClipGradients",
    "KeepBest",
    "PredictForward",
    "dice_inputs",
    "loss_of",
    "samples_of",
    "save_weights",
    "start_from",
    "turns_of",
    "warmup_of",
    "weight_groups",
]
