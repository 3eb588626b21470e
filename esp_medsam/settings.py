"""What a user may set: every key with its type and its range, checked as a whole.

The command checks here before it imports anything heavy, the bundle's configs when they are built.
Text becomes what it says, as ``python -m monai.bundle run`` hands all of it over as text: ``false``
is false, ``maybe`` is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
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


@dataclass(frozen=True)
class Given:
    """A value that MONAI's parser must hand on as it is.

    Plain text it would run where it begins with ``$``, look up where with ``@``, and read as the
    name of a file where with ``%``; and ``$`` may begin the name of a folder.
    """

    value: Any


def _path(value: object) -> object:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, int) and not isinstance(text, bool):
        return str(text)  # a folder called 2026 is a number to the command line's parser
    if not isinstance(text, str) or not text or "\0" in text:
        msg = "must be a path"
        raise ValueError(msg)
    return text


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: object) -> object:
    """Return names in a list or joined with commas one by one."""
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        msg = "must be names, in a list or with commas"
        raise ValueError(msg)
    return tuple(name.strip() for name in names)


def _some_names(value: object) -> object:
    names = _names(value)
    if not names:
        msg = "must name at least one"
        raise ValueError(msg)
    return names


def _patterns(value: object) -> object:
    if value is None:
        return None
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
        msg = "must be a pattern, or a list of patterns"
        raise ValueError(msg)
    return tuple(patterns)


def _frozen(value: object) -> object:
    return () if value in (None, "") else _patterns(value)


def _device(value: object) -> object:
    text = value if isinstance(value, str) else str(value)  # torch's own, which nobody imports here
    if not re.fullmatch(r"(cpu|cuda|mps)(:\d{1,3})?", text):
        msg = "must be cpu, cuda, cuda:<index> or mps"
        raise ValueError(msg)
    return text


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        msg = "must be a number"
        raise ValueError(msg)
    return value


def _mapping(value: object) -> object:
    if value is not None and not isinstance(value, Mapping):
        msg = "must be by modality"
        raise ValueError(msg)
    return value


def _no_path(value: object) -> object:
    return None if value in (None, "") else _path(value)


def _listing(length: int) -> Callable[[object], object]:
    """Return the check that a value lists so many numbers."""

    def check(value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != length:
            msg = f"must be a list of {length} numbers"
            raise ValueError(msg)
        return tuple(value)

    return check


def _or_auto(least: int) -> Callable[[object], object]:
    """Return the check that a value is a whole number from ``least``, or ``auto``."""

    def check(value: object) -> object:
        text = str(value)
        is_short = text.isdecimal() and len(text) <= 10
        if text == "auto" or (is_short and least <= int(text) < 2**31):
            return text if text == "auto" else int(text)
        msg = f"must be auto, or a whole number from {least}"
        raise ValueError(msg)

    return check


def _turns(value: object) -> object:
    if value != "auto" and not isinstance(value, Mapping):
        msg = "must be auto, or whole numbers by modality"
        raise ValueError(msg)
    return value


PathText = Annotated[str, BeforeValidator(_path)]
Text = Annotated[str, BeforeValidator(_text)]
Names = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]
Patterns = Annotated[tuple[str, ...] | None, BeforeValidator(_patterns)]
Device = Annotated[str, BeforeValidator(_device)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, lt=2**31)]
Index = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, lt=2**31)]
CountOrAuto = Annotated[int | str, BeforeValidator(_or_auto(1))]
IndexOrAuto = Annotated[int | str, BeforeValidator(_or_auto(0))]
Turns = Annotated[dict[str, Count] | Literal["auto"], BeforeValidator(_turns)]
Side = Annotated[int, BeforeValidator(_no_bool), Field(ge=32, le=2**14, multiple_of=32)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_listing(2))]
Mean = Annotated[tuple[Number, Number, Number], BeforeValidator(_listing(3))]
Deviation = Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_listing(3))]
Transforms = Annotated[Any, BeforeValidator(_mapping)]

OutputFormat = Literal["auto", "dicom-seg", "nifti", "png"]
SegType = Literal["binary", "labelmap", "fractional"]
CtInput = Literal["hu", "windowed"]
Join = Literal["series", "frame_of_reference", "interleaved"]
SliceAxis = Literal["axial", "coronal", "sagittal"]
ResultNames = Literal["uid", "readable"]
Resize = Literal["fit", "stretch"]
Protocol = Literal["native", "released"]
PlotFormat = Literal["png", "svg"]

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
    join: Annotated[tuple[Join, ...] | None, BeforeValidator(_names)]
    frame: Index | None
    include: Patterns
    exclude: Patterns
    output_format: Annotated[tuple[OutputFormat, ...], BeforeValidator(_some_names)]
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
    ckpt_path: PathText
    input_size: Size
    resize: Resize
    pixel_mean: Mean
    pixel_std: Deviation


class TrainSettings(Settings):
    """The keys of ``train.yaml`` that a user may set; what each means stands there."""

    datalist: PathText
    output_dir: PathText
    cache_dir: Annotated[str | None, BeforeValidator(_no_path)]
    empty_slices: Share
    pretrained: Annotated[str | None, BeforeValidator(_no_path)]
    input_size: Size
    epochs: Count
    samples_per_epoch: CountOrAuto
    turns: Turns
    batch_size: Count
    learning_rate: Positive
    warmup_steps: IndexOrAuto
    weight_decay: Annotated[Number, Field(ge=0)]
    decay: Literal["cosine", "exponential"]
    accumulate: Count
    max_norm: Positive
    max_bad_steps: Count
    frozen: Annotated[tuple[str, ...], BeforeValidator(_frozen)]
    average_decay: Share
    val_interval: Count
    patience: Index
    checkpoint_steps: Index
    resume: bool | Literal["auto"]
    num_workers: Index
    amp: bool | Literal["auto"]
    seed: Annotated[Index, Field(lt=2**32)]
    device: Device
    pixel_mean: Mean
    pixel_std: Deviation
    transforms: Transforms


class EvaluationSettings(Settings):
    """The keys of ``evaluate.yaml`` that a user may set; what each means stands there."""

    datalist: PathText
    section: Text
    datasets: Names = None
    protocol: Protocol = "native"
    tolerance: Positive = TOLERANCE
    resamples: Annotated[Count, Field(ge=100, le=10**6)] = RESAMPLES
    seed: Annotated[Index, Field(lt=2**32)] = 0
    cases: Annotated[str | None, BeforeValidator(_no_path)] = None
    summary: Annotated[str | None, BeforeValidator(_no_path)] = None
    compare: Annotated[str | None, BeforeValidator(_no_path)] = None
    plots: Annotated[str | None, BeforeValidator(_no_path)] = None
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


def given_train_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return some settings of ``train.yaml`` checked, typed, and without the others.

    Raises:
        OptionError: If any is not what it must be; it names all. Where only the device is wrong, a
            DeviceError.
    """
    return _checked(_partial(TrainSettings), values)


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
