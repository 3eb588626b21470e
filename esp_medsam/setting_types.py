"""Types of settings; each accepts a value or its text and states its own rule."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from esp_medsam.run_share import RunShare


def _path(value: object) -> object:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, int) and not isinstance(text, bool):
        return str(text)  # the command line's parser reads a folder named 2026 as a number
    if not isinstance(text, str) or not text or "\0" in text:
        msg = "must be a path"
        raise ValueError(msg)
    return text


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: object) -> object:
    """Return a tuple of names that are given as a list or joined with commas."""
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        msg = "must be names, in a list or separated by commas"
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
    text = value if isinstance(value, str) else str(value)  # a torch.device; torch is not imported
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
        msg = "must be a mapping by modality"
        raise ValueError(msg)
    return value


def _part(value: object) -> object:
    """Return the text of a share of a run."""
    return value if value is None else str(RunShare.of(str(value)))


def _no_path(value: object) -> object:
    return None if value in (None, "") else _path(value)


def _listing(length: int, instead: str = "") -> Callable[[object], object]:
    """Return a check for a list of ``length`` numbers; ``instead`` names the alternative."""

    def check(value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != length:
            msg = f"must be {instead}a list of {length} numbers"
            raise ValueError(msg)
        return tuple(value)

    return check


def _or_native(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Return the word native unchanged, and any other value as ``check`` converts it."""
    return value if value == "native" else check(value)


def _or_auto(least: int) -> Callable[[object], object]:
    """Return a check that a value is ``auto`` or an integer of at least ``least``."""

    def check(value: object) -> object:
        text = str(value)
        is_short = text.isdecimal() and len(text) <= 10
        if text == "auto" or (is_short and least <= int(text) < 2**31):
            return text if text == "auto" else int(text)
        msg = f"must be auto, or a whole number of at least {least}"
        raise ValueError(msg)

    return check


def _bool_or_auto(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Return the value as ``check`` converts it; its own error names only one of the two types."""
    try:
        return check(value)
    except ValidationError:
        msg = "must be auto, true or false"
        raise ValueError(msg) from None


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
BoolOrAuto = Annotated[bool | Literal["auto"], WrapValidator(_bool_or_auto)]
OptionalPath = Annotated[str | None, BeforeValidator(_no_path)]
FrozenPatterns = Annotated[tuple[str, ...], BeforeValidator(_frozen)]
Turns = Annotated[dict[str, Count] | Literal["auto"], BeforeValidator(_turns)]
Side = Annotated[int, BeforeValidator(_no_bool), Field(ge=32, le=2**14, multiple_of=32)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
LearningRate = Annotated[Number, Field(gt=0, le=1)]
Probability = Annotated[Number, Field(gt=0, lt=1)]
Part = Annotated[str, BeforeValidator(_part)]
Share = Annotated[Number, Field(ge=0, le=1)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_listing(2))]
InputSize = Annotated[
    tuple[Side, Side], BeforeValidator(_listing(2, "native, or ")), WrapValidator(_or_native)
]
"""A size, or the word native."""
Mean = Annotated[tuple[Number, Number, Number], BeforeValidator(_listing(3))]
Deviation = Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_listing(3))]
Transforms = Annotated[Any, BeforeValidator(_mapping)]

OutputFormat = Literal["auto", "dicom-seg", "nifti", "png"]
SegType = Literal["binary", "labelmap", "fractional"]
CtInput = Literal["hu", "windowed"]
OutputFormats = Annotated[tuple[OutputFormat, ...], BeforeValidator(_some_names)]
Join = Literal["series", "frame_of_reference", "interleaved"]
Joins = Annotated[tuple[Join, ...] | None, BeforeValidator(_names)]
SliceAxis = Literal["axial", "coronal", "sagittal"]
ResultNames = Literal["uid", "readable"]
Resize = Literal["fit", "stretch"]
RuntimeName = Literal[
    "auto", "eager", "openvino", "onnxruntime", "compile", "cuda-graph", "tensorrt"
]
Protocol = Literal["native", "released"]
PlotFormat = Literal["png", "svg"]
