"""What a user may set: every key with its type and its range, checked as a whole.

The command checks here before it imports anything heavy, the bundle's configs when they are built.
Text becomes what it says, as ``python -m monai.bundle run`` hands all of it over as text: ``false``
is false, ``maybe`` is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails

from esp_medsam.errors import (
    DeviceError,
    EspMedSamError,
    ModalityError,
    OptionError,
    TargetError,
    listed,
    shown,
)
from esp_medsam.modality import ModalityTable
from esp_medsam.setting_types import (
    Count,
    CountOrAuto,
    CtInput,
    Deviation,
    Device,
    FrozenPatterns,
    Index,
    IndexOrAuto,
    InputSize,
    Joins,
    Mean,
    Names,
    Number,
    OptionalPath,
    OutputFormats,
    PathText,
    Patterns,
    PlotFormat,
    Positive,
    Protocol,
    Resize,
    ResultNames,
    SegType,
    Share,
    Size,
    SliceAxis,
    Text,
    Transforms,
    Turns,
    Weight,
)


@dataclass(frozen=True)
class Given:
    """A value that MONAI's parser must hand on as it is.

    Plain text it would run where it begins with ``$``, look up where with ``@``, and read as the
    name of a file where with ``%``; and ``$`` may begin the name of a folder.
    """

    value: Any


TOLERANCE = 2.0
"""Of the surface Dice: mm, in pictures without spacing pixels."""

RESAMPLES = 2000
"""Of patients, for an interval."""


class Settings(BaseModel):
    """Base of the settings of a workflow: no key but those named, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {k: v.value if isinstance(v, Given) else v for k, v in values.items()}


class InferenceSettings(Settings):
    """The keys of ``inference.yaml`` that a user may set; what each means stands there."""

    dataset_dir: PathText
    output_dir: PathText
    modality: str | list[str]
    force_modality: bool
    targets: Names
    series: Text | None
    join: Joins
    frame: Index | None
    include: Patterns
    exclude: Patterns
    output_format: OutputFormats
    names: ResultNames
    seg_type: SegType
    fixed_uids: bool
    write_empty: bool
    split_targets: bool
    probabilities: bool
    preview: bool
    overwrite: bool
    verify: bool
    ct_input: CtInput | None
    transforms: Transforms
    slice_axis: SliceAxis | None
    device: Device
    amp: bool
    slice_batch: Count
    presence_threshold: Share
    ckpt_path: PathText
    input_size: InputSize
    resize: Resize
    pixel_mean: Mean
    pixel_std: Deviation


class TrainSettings(Settings):
    """The keys of ``train.yaml`` that a user may set; what each means stands there."""

    datalist: PathText
    output_dir: PathText
    cache_dir: OptionalPath
    empty_slices: Share
    pretrained: OptionalPath
    input_size: Size
    epochs: Count
    samples_per_epoch: CountOrAuto
    turns: Turns
    batch_size: Count
    learning_rate: Positive
    warmup_steps: IndexOrAuto
    weight_decay: Weight
    decay: Literal["cosine", "exponential"]
    presence_weight: Weight
    accumulate: Count
    max_norm: Positive
    max_bad_steps: Count
    frozen: FrozenPatterns
    trained: FrozenPatterns
    average_decay: Share
    val_interval: Count
    patience: Index
    checkpoint_steps: Index
    resume: bool | Literal["auto"]
    num_workers: Index
    amp: bool | Literal["auto"]
    seed: Annotated[Index, Field(lt=2**32)]
    mlflow: OptionalPath
    device: Device
    pixel_mean: Mean
    pixel_std: Deviation
    transforms: Transforms


class DistillSettings(Settings):
    """The keys that ``distill_modality.yaml`` adds; what each means stands there."""

    teacher: Literal["sam", "mobilesam", "medical", "network"]
    teacher_weights: PathText
    teacher_input_size: Size
    teacher_pixel_mean: Mean
    teacher_pixel_std: Deviation
    embeddings: OptionalPath
    views: Count
    embedding_weight: Weight
    mask_weight: Weight
    cosine_weight: Weight
    soft_label_weight: Weight
    temperature: Positive
    prototype_weight: Weight
    consistency_weight: Weight

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
                f"soft_label_weight must be 0 with a teacher that knows no targets; got "
                f"{self.soft_label_weight:g} and teacher {self.teacher}. "
                "Use teacher medical or network, or leave it out."
            )
            raise OptionError(msg)
        return self


class NaturalSettings(DistillSettings):
    """The same, of pictures that have no targets."""

    @model_validator(mode="after")
    def _has_no_masks(self) -> NaturalSettings:
        of_masks = ("mask_weight", "soft_label_weight", "prototype_weight", "consistency_weight")
        asked = [name for name in of_masks if getattr(self, name)]
        if asked:
            msg = (
                f"{asked[0]} must be 0 where pictures have no targets; got "
                f"{getattr(self, asked[0]):g}. It takes a datalist: leave distill_common.yaml out."
            )
            raise OptionError(msg)
        return self


class PictureSettings(Settings):
    """The keys that ``distill_common.yaml`` adds; what each means stands there."""

    images: PathText
    validation_share: Annotated[Number, Field(gt=0, lt=1)]


class SamSettings(Settings):
    """The key that ``train_teacher.yaml`` adds; what it means stands there."""

    sam_weights: PathText


class TeacherSettings(TrainSettings, SamSettings):
    """The keys of ``train.yaml`` and ``train_teacher.yaml`` together."""


class ModalitySettings(TrainSettings, DistillSettings):
    """The keys of ``train.yaml`` and ``distill_modality.yaml`` together."""


class CommonSettings(ModalitySettings, PictureSettings):
    """The same, and those of ``distill_common.yaml``."""


Stage = Literal["train", "teacher", "modality", "common"]
"""What a training does: masks and prompts, the medical teacher, controllers, shared encoder."""

STAGE_SETTINGS: Mapping[Stage, type[TrainSettings]] = {
    "train": TrainSettings,
    "teacher": TeacherSettings,
    "modality": ModalitySettings,
    "common": CommonSettings,
}
"""The settings of each."""


class EvaluationSettings(Settings):
    """The keys of ``evaluate.yaml`` that a user may set; what each means stands there."""

    datalist: PathText
    section: Text
    datasets: Names = None
    protocol: Protocol = "native"
    tolerance: Positive = TOLERANCE
    resamples: Annotated[Count, Field(ge=100, le=10**6)] = RESAMPLES
    seed: Annotated[Index, Field(lt=2**32)] = 0
    cases: OptionalPath = None
    summary: OptionalPath = None
    compare: OptionalPath = None
    plots: OptionalPath = None
    plot_format: PlotFormat = "png"
    overwrite: bool = False


def inference_settings(*, table: ModalityTable, **values: Any) -> InferenceSettings:
    """Return the settings of ``inference.yaml``, once all of them are what they must be.

    Args:
        table: Modalities at hand; of the modality DICOM's word, such as ``CT``, becomes the name.
        values: The settings, typed or as text.

    Raises:
        OptionError: If any is not; it names all. Where only the modality, the targets or the
            device is wrong, a ModalityError, TargetError or DeviceError.
    """
    return InferenceSettings(**_with_modality(_checked(InferenceSettings, values), table))


def given_settings(values: Mapping[str, Any], table: ModalityTable) -> dict[str, Any]:
    """Return some settings of ``inference.yaml`` checked, typed, and without the others.

    Args:
        values: Those that a user gave.
        table: Modalities at hand.

    Raises:
        EspMedSamError: As of :func:`inference_settings`.
    """
    return _with_modality(_checked(_partial(InferenceSettings), values), table)


def train_settings(**values: Any) -> TrainSettings:
    """Return the settings of ``train.yaml``, once all of them are what they must be.

    Raises:
        OptionError: If any is not; it names all.
    """
    return TrainSettings(**_checked(TrainSettings, values))


def distill_settings(**values: Any) -> DistillSettings:
    """Return the settings that ``distill_modality.yaml`` adds, once all are what they must be.

    Raises:
        OptionError: If any is not; it names all.
    """
    return DistillSettings(**_checked(DistillSettings, values))


def natural_settings(**values: Any) -> NaturalSettings:
    """Return the same, of pictures that have no targets.

    Raises:
        OptionError: If any is not; it names all.
    """
    return NaturalSettings(**_checked(NaturalSettings, values))


def picture_settings(**values: Any) -> PictureSettings:
    """Return the settings that ``distill_common.yaml`` adds, once all are what they must be.

    Raises:
        OptionError: If any is not; it names all.
    """
    return PictureSettings(**_checked(PictureSettings, values))


def sam_settings(**values: Any) -> SamSettings:
    """Return the setting that ``train_teacher.yaml`` adds, once it is what it must be.

    Raises:
        OptionError: If it is not.
    """
    return SamSettings(**_checked(SamSettings, values))


def given_train_settings(values: Mapping[str, Any], stage: Stage = "train") -> dict[str, Any]:
    """Return some settings of a stage of training checked, typed, and without the others.

    Args:
        values: Those that a user gave.
        stage: The stage.

    Raises:
        OptionError: If any is not what it must be; it names all. Where only the device is wrong, a
            DeviceError.
    """
    return _checked(_partial(STAGE_SETTINGS[stage]), values)


def evaluation_settings(**values: Any) -> EvaluationSettings:
    """Return the settings of ``evaluate.yaml``, once all of them are what they must be.

    Raises:
        OptionError: If any is not; it names all.
    """
    return EvaluationSettings(**_checked(EvaluationSettings, values))


def _with_modality(values: dict[str, Any], table: ModalityTable) -> dict[str, Any]:
    """Return settings with the modality's name, once there are such targets of it.

    A list of names leaves it to DICOM which of them it is.
    """
    if not isinstance(values.get("modality"), str):
        for name in values.get("modality", ()):
            table[name]  # raises on unknown names
        return values
    name = table[values["modality"]].name
    table.select(name, values.get("targets"))
    return {**values, "modality": name}


@cache
def _partial(kind: type[Settings]) -> type[Settings]:
    """Return the same settings, none of which must be given."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        optional = copy(field)
        optional.default = None
        fields[name] = (field.annotation, optional)
    return create_model(kind.__name__, __base__=Settings, **fields)


_ERRORS: Mapping[str, type[EspMedSamError]] = {
    "modality": ModalityError,
    "targets": TargetError,
    "device": DeviceError,
}


def _checked(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are given, typed, or raise one error that names all that is wrong."""
    try:
        settings = kind.model_validate(dict(values))
        # Not `model_dump`, which would take dataclasses among the transforms apart.
        return {name: getattr(settings, name) for name in settings.model_fields_set}
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors(include_url=False):
            if not found["loc"]:  # of all of them together, once each is right: in our own words
                raise found["ctx"]["error"] from None
            problems.setdefault(str(found["loc"][0]), rule_of(found))
    told = [f"{n} {rule}; got {shown(_plain(values.get(n)))}" for n, rule in problems.items()]
    only = next(iter(problems)) if len(problems) == 1 else ""
    msg = f"{listed(told, '; ')}."
    raise _ERRORS.get(only, OptionError)(msg)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Given) else value


_RULES: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must hold at least {min_length}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "greater_than": "must be greater than {gt}",
    "missing": "must be given",
    "extra_forbidden": "must be left out: it is no setting",
}
"""Pydantic's kinds of error in our words; the others' are good as they are."""


def rule_of(found: ErrorDetails) -> str:
    """Return what a value must be, to go behind its name."""
    theirs = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
    ours = _RULES.get(found["type"])  # theirs may quote what the user wrote
    rule = theirs if ours is None else ours.format_map(found.get("ctx", {}))
    place = found["loc"][1:2]
    return f"{rule} at index {place[0]}" if place and isinstance(place[0], int) else rule
