"""Building blocks of ``train.yaml``, under one name."""

# ruff: noqa: F401  # named by train.yaml, not here

from esp_medsam.workflows.averaging import AveragedWeights
from esp_medsam.workflows.best_weights import EarlyStop, KeepBest, save_weights, trained_with
from esp_medsam.workflows.checkpointing import Checkpoints
from esp_medsam.workflows.forward import PredictForward, dice_inputs
from esp_medsam.workflows.freezing import with_frozen
from esp_medsam.workflows.history import History
from esp_medsam.workflows.initial_weights import start_from
from esp_medsam.workflows.lengths import samples_of, turns_of, warmup_of
from esp_medsam.workflows.optimization import (
    ClipGradients,
    LeaveUntouched,
    schedule,
    weight_groups,
)
from esp_medsam.workflows.presence_scores import PresenceScores
from esp_medsam.workflows.processor import use_processor
from esp_medsam.workflows.progress import TellProgress
from esp_medsam.workflows.run_identity import run_of
from esp_medsam.workflows.set_scores import SetScores
from esp_medsam.workflows.slice_pictures import DrawSamples, SlicePictures
from esp_medsam.workflows.steps import AfterStep, FiniteSteps, SeedSteps
from esp_medsam.workflows.tracking import tracking_handlers
from esp_medsam.workflows.training_page import TrainingPage
