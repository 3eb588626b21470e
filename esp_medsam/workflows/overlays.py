"""Read overlays of ``inference.yaml`` as plain data that runs no code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from esp_medsam.errors import EspMedSamError, OptionError, listed, quoted
from esp_medsam.modality import ModalityTable
from esp_medsam.plain_data import read_plain
from esp_medsam.setting_checks import Settings
from esp_medsam.settings import InferenceSettings, given_settings
from esp_medsam.training_settings import STAGE_SETTINGS, Stage


PACKAGE = "esp_medsam.transforms."

ROW = "ModalityTransforms"
"""Class that holds the transforms of a modality."""

STAGES = ("measure", "native", "shown")

RULE = "IntensityRule"
"""Class that gives the window of a modality, under ``intensity``."""

TRANSFORMS = frozenset(
    {
        "ApplyBiasField",
        "Clahe",
        "ClipMetal",
        "CropBlackBorder",
        "CropCollimation",
        "CropDarkRim",
        "CropToBox",
        "CropToFieldOfView",
        "CropToScan",
        "FillDarkCorners",
        "KeepFieldOfView",
        "MaskBurnedIn",
        "MeasureBiasField",
        "MeasureBody",
        "MeasurePercentiles",
        "MeasureWindow",
        "MeasureZScore",
        "NormalizeGain",
        "NormalizeStain",
        "PaddingToAir",
        "ReduceSpeckle",
        "RemoveHair",
        "ScaleFluorescence",
        "ShadesOfGray",
        "SubtractLocalAverage",
        "SuppressDoppler",
        "SuppressSpecular",
        "TableRemoval",
        "Windows",
    }
)
"""Classes that a stage may hold: the array forms in docs/reference/transforms.md, no others."""

_TARGET = "_target_"


def read_overlay(path: Path) -> dict[str, Any]:
    """Return the keys and values of a config.

    Raises:
        OptionError: If the config cannot be read, or holds no keys.
    """
    try:
        content = read_plain(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"config must be YAML or JSON with keys and values; {path} is not: {reason}."
        raise OptionError(msg) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        msg = f"config must hold keys and values; {path} holds {quoted(content)}."
        raise OptionError(msg)
    return content


def settings_of(content: Mapping[str, Any], path: Path, table: ModalityTable) -> dict[str, Any]:
    """Return the settings in a config, checked and typed; transforms stay plain.

    Raises:
        OptionError: If the config holds anything else, which could run code.
        EspMedSamError: If a setting is invalid.
    """
    _check_plain(content, path, InferenceSettings, "inference.yaml")
    return _with_transforms(content, path, lambda settings: given_settings(settings, table))


def train_settings_of(
    content: Mapping[str, Any], path: Path, stage: Stage = "train"
) -> dict[str, Any]:
    """Return the settings of a training stage in a config, checked; transforms stay plain.

    Raises:
        OptionError: If the config holds anything else, which could run code, or a setting is
            invalid.
    """
    _check_plain(content, path, STAGE_SETTINGS[stage], "train.yaml")
    return _with_transforms(content, path, STAGE_SETTINGS[stage].given)


def _check_plain(content: Mapping[str, Any], path: Path, kind: type[Settings], config: str) -> None:
    """Refuse keys that are not settings, and values that could run code."""
    known = kind.model_fields
    for key in content:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.85)
            remedy = (
                f"Is it {near[0]}?"
                if near
                else ("Other keys may run code: pass `trust_config` if you trust the file.")
            )
            msg = f"config must only hold settings of {config}; {path} has the key {quoted(key)}. "
            raise OptionError(msg + remedy)
    for key, value in content.items():
        text = None if key == "transforms" else next(_expressions(value), None)
        if text:
            msg = f"{key} must be a plain value; {path} has the expression {quoted(text)}. "
            raise OptionError(
                msg + ("Write the value itself, or pass `trust_config` if you trust the file.")
            )


def _with_transforms(
    content: Mapping[str, Any],
    path: Path,
    checked: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Return what ``checked`` makes of the settings; wrong transforms do not hide other errors."""
    try:
        check_transforms(content.get("transforms", {}), path)
    except OptionError as error:
        try:
            checked({key: value for key, value in content.items() if key != "transforms"})
        except EspMedSamError as other:
            msg = f"{other} {error}"
            raise OptionError(msg) from error
        raise
    return checked(content)


def is_expression(value: object) -> bool:
    """Whether a value is text that MONAI would run, look up, or read as a file name."""
    return isinstance(value, str) and value[:1] in ("$", "@", "%")


def _expressions(value: object) -> Iterator[str]:
    """Yield the strings in a value that are expressions."""
    if isinstance(value, str) and is_expression(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _expressions(item)


def check_transforms(rows: object, path: Path) -> None:
    """Refuse anything but transforms by modality, in the form of docs/reference/transforms.md.

    Raises:
        OptionError: If a named class is not allowed there, or an option is not a plain value.
    """
    for place, name, options in classes_in(rows, path):
        for key, value in options.items():
            if isinstance(value, Mapping) or next(_expressions(value), None) is not None:
                msg = f"{place} ({name}) must have plain options; in {path} got {key}: "
                raise OptionError(msg + f"{quoted(value)}.")


def classes_in(rows: object, path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield place, name and options of each class that the transforms by modality name.

    Raises:
        OptionError: If a named class is not allowed in its place.
    """
    for modality, row in _mapping(rows, "transforms", path).items():
        place = f"transforms.{modality}"
        fields = _with_known_target(row, place, {ROW}, path)[1]
        unknown = [key for key in fields if key not in ("intensity", *STAGES)]
        if unknown:
            msg = f"{place} must only have intensity, {', '.join(STAGES)}; "
            raise OptionError(msg + f"in {path} got {listed([str(key) for key in unknown])}.")
        if fields.get("intensity") is not None:
            where = f"{place}.intensity"
            yield where, *_with_known_target(fields["intensity"], where, {RULE}, path)
        for stage in STAGES:
            steps = fields.get(stage, [])
            if not isinstance(steps, list):
                msg = (
                    f"{place}.{stage} must be a list of transforms; in {path} got {quoted(steps)}."
                )
                raise OptionError(msg)
            for number, step in enumerate(steps):
                where = f"{place}.{stage}[{number}]"
                yield where, *_with_known_target(step, where, TRANSFORMS, path)


def _with_known_target(
    content: object, place: str, names: frozenset[str] | set[str], path: Path
) -> tuple[str, dict[str, Any]]:
    """Return the class that a mapping names, and its options."""
    fields = _mapping(content, place, path)
    target = fields.get(_TARGET)
    name = str(target).removeprefix(PACKAGE)
    if not isinstance(target, str) or not target.startswith(PACKAGE) or name not in names:
        msg = f"{place} must have a {_TARGET} that docs/reference/transforms.md lists; in {path} "
        raise OptionError(msg + f"got {quoted(target)}.")
    others = {key: value for key, value in fields.items() if key != _TARGET}
    if reserved := [key for key in others if key.startswith("_")]:
        msg = f"{place} must have no MONAI key except {_TARGET}; in {path} got {reserved[0]}."
        raise OptionError(msg)
    return name, others


def _mapping(content: object, place: str, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        msg = f"{place} must hold keys and values; in {path} got {quoted(content)}."
        raise OptionError(msg)
    return content
