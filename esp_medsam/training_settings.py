"""Settings of training and its stages, with their types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from esp_medsam.errors import OptionError
from esp_medsam.setting_checks import Settings
from esp_medsam.setting_types import (
    BoolOrAuto,
    Count,
    CountOrAuto,
    Deviation,
    Device,
    FrozenPatterns,
    Index,
    IndexOrAuto,
    LearningRate,
    Mean,
    NotNegative,
    Number,
    OptionalPath,
    PathText,
    Positive,
    Share,
    Size,
    Transforms,
    Turns,
)


class TrainSettings(Settings):
    """The keys of ``train.yaml`` that a user may set; that file explains each."""

    datalist: PathText
    output_dir: PathText
    cache_dir: OptionalPath
    empty_slices: Share
    absent_masks: Share
    simulated_clicks: Share
    pretrained: OptionalPath
    input_size: Size
    epochs: Count
    samples_per_epoch: CountOrAuto
    turns: Turns
    batch_size: Count
    learning_rate: LearningRate
    warmup_steps: IndexOrAuto
    weight_decay: NotNegative
    decay: Literal["cosine", "exponential"]
    mask_loss: Literal["per_target", "released"]
    patch_weight: NotNegative
    presence_weight: NotNegative
    accumulate: Count
    max_norm: Positive
    max_bad_steps: Count
    frozen: FrozenPatterns
    trained: FrozenPatterns
    average_decay: Share
    val_interval: Count
    patience: Index
    checkpoint_steps: Index
    resume: BoolOrAuto
    num_workers: Index
    amp: BoolOrAuto
    seed: Annotated[Index, Field(lt=2**32)]
    mlflow: OptionalPath
    device: Device
    pixel_mean: Mean
    pixel_std: Deviation
    transforms: Transforms


class DistillSettings(Settings):
    """The keys that ``distill_modality.yaml`` adds; that file explains each."""

    teacher: Literal["sam", "mobilesam", "medical", "network"]
    teacher_weights: PathText
    teacher_input_size: Size | None
    teacher_pixel_mean: Mean | None
    teacher_pixel_std: Deviation | None
    embeddings: OptionalPath
    views: Count
    embedding_weight: NotNegative
    mask_weight: NotNegative
    cosine_weight: NotNegative
    soft_label_weight: NotNegative
    temperature: Positive
    prototype_weight: NotNegative
    consistency_weight: NotNegative

    @model_validator(mode="after")
    def _has_a_loss(self) -> DistillSettings:
        weights = [name for name in DistillSettings.model_fields if name.endswith("_weight")]
        if not any(getattr(self, name) for name in weights):
            msg = (
                f"one of {', '.join(weights)} must be greater than 0; got 0 for each. "
                "The released loss is embedding_weight 1."
            )
            raise OptionError(msg)
        if self.soft_label_weight and self.teacher in ("sam", "mobilesam"):
            msg = (
                "soft_label_weight must be 0 with a teacher that has no targets; got "
                f"{self.soft_label_weight:g} and teacher {self.teacher}. Use the teacher "
                "medical or network, or leave soft_label_weight out."
            )
            raise OptionError(msg)
        return self


class NaturalSettings(DistillSettings):
    """The distillation settings for pictures without targets."""

    @model_validator(mode="after")
    def _has_no_masks(self) -> NaturalSettings:
        of_masks = ("mask_weight", "soft_label_weight", "prototype_weight", "consistency_weight")
        asked = [name for name in of_masks if getattr(self, name)]
        if asked:
            msg = (
                f"{asked[0]} must be 0 for pictures without targets; got "
                f"{getattr(self, asked[0]):g}. To use it, distill on a datalist, without "
                "distill_common.yaml."
            )
            raise OptionError(msg)
        return self


class PictureSettings(Settings):
    """The keys that ``distill_common.yaml`` adds; that file explains each."""

    images: PathText
    validation_share: Annotated[Number, Field(gt=0, lt=1)]


class ComparisonSettings(Settings):
    """The keys that set what the student is compared with; the config files explain each."""

    compare_steps: IndexOrAuto
    compare_datalist: OptionalPath
    unseen: OptionalPath


class SamSettings(Settings):
    """The key that ``train_teacher.yaml`` adds; that file explains it."""

    sam_weights: PathText


class TeacherSettings(TrainSettings, SamSettings):
    """The keys of ``train.yaml`` and ``train_teacher.yaml`` together."""


class ModalitySettings(TrainSettings, DistillSettings, ComparisonSettings):
    """The keys of ``train.yaml`` and ``distill_modality.yaml`` together."""


class CommonSettings(ModalitySettings, PictureSettings):
    """The keys of :class:`ModalitySettings` and ``distill_common.yaml`` together."""


Stage = Literal["train", "teacher", "modality", "common"]
"""What is trained: masks and prompts, the medical teacher, controllers, or shared encoder."""

STAGE_SETTINGS: Mapping[Stage, type[TrainSettings]] = {
    "train": TrainSettings,
    "teacher": TeacherSettings,
    "modality": ModalitySettings,
    "common": CommonSettings,
}
"""Settings class of each stage."""
