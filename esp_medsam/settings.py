"""Settings of inference and evaluation, with their types and ranges.

The command checks them before it imports anything heavy, the bundle's configs when they are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from esp_medsam.modality import ModalityTable
from esp_medsam.setting_checks import Settings
from esp_medsam.setting_types import (
    Count,
    CtInput,
    Deviation,
    Device,
    Index,
    InputSize,
    Joins,
    Mean,
    Names,
    NotNegative,
    OptionalPath,
    OutputFormats,
    Part,
    PathText,
    Patterns,
    PlotFormat,
    Positive,
    Probability,
    Protocol,
    Resize,
    ResultNames,
    RuntimeName,
    SegType,
    Share,
    SliceAxis,
    Text,
    Transforms,
)


TOLERANCE = 2.0
"""Default tolerance of the surface Dice in mm, or in pixels for pictures without spacing."""

MOST_SMOOTHING = 20.0
"""Largest ``slice_smoothing`` in mm; slices up to three times as far away are held in memory."""

RESAMPLES = 2000
"""Default number of bootstrap resamples of patients for an interval."""


class InferenceSettings(Settings):
    """The keys of ``inference.yaml`` that a user may set; the file explains each of them."""

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
    part: Part | None = None
    output_format: OutputFormats
    names: ResultNames
    seg_type: SegType
    fixed_uids: bool
    write_empty: bool
    split_targets: bool
    probabilities: bool
    preview: bool
    statistics: bool = False
    overwrite: bool
    verify: bool
    ct_input: CtInput | None
    transforms: Transforms
    slice_axis: SliceAxis | None
    device: Device
    runtime: RuntimeName = "auto"
    amp: bool
    slice_batch: Count | None = None
    presence_threshold: Share
    flips: bool
    slice_smoothing: Annotated[NotNegative, Field(le=MOST_SMOOTHING)]
    threshold: Probability | None = None
    largest_component: bool | None = None
    min_ml: NotNegative | None = None
    ckpt_path: PathText
    input_size: InputSize
    resize: Resize
    pixel_mean: Mean
    pixel_std: Deviation

    @property
    def is_native(self) -> bool:
        """Whether slices are not scaled, so that inputs have no one size."""
        return str(self.input_size) == "native"


class EvaluationSettings(Settings):
    """The keys of ``evaluate.yaml`` that a user may set; the file explains each of them."""

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
    """Return the settings of ``inference.yaml`` after checking all of them.

    Args:
        table: Available modalities; a DICOM modality such as ``CT`` is replaced by its name.
        values: The settings, typed or as text.

    Raises:
        OptionError: If any setting is invalid; it names all of them. If only the modality, the
            targets or the device is wrong, a ModalityError, TargetError or DeviceError.
    """
    settings = InferenceSettings.of(**values)
    return settings.model_copy(update=_with_modality(dict(settings), table))


def given_settings(values: Mapping[str, Any], table: ModalityTable) -> dict[str, Any]:
    """Return only the given settings of ``inference.yaml``, checked and typed.

    Args:
        values: The settings that a user gave.
        table: Available modalities.

    Raises:
        EspMedSamError: As for :func:`inference_settings`.
    """
    return _with_modality(InferenceSettings.given(values), table)


def mask_rules(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that :meth:`~esp_medsam.modality.ModalityTable.with_masks` takes."""
    return {name: settings.get(name) for name in ("threshold", "largest_component", "min_ml")}


def _with_modality(values: dict[str, Any], table: ModalityTable) -> dict[str, Any]:
    """Return settings with the modality's name, after checking that it has the targets.

    If several names are given, DICOM decides which of them applies.
    """
    if not isinstance(values.get("modality"), str):
        for name in values.get("modality", ()):
            table[name]  # raises on unknown names
        return values
    name = table[values["modality"]].name
    table.select(name, values.get("targets"))
    return {**values, "modality": name}
