"""Calibration of trained weights, read from and written to a file beside them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from esp_medsam.errors import CheckpointError, one_line
from esp_medsam.inferers.plausibility import Plausibility
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.plain_data import read_own_json
from esp_medsam.settings import InferenceSettings
from esp_medsam.transforms.by_modality import describe_transforms


logger = logging.getLogger(__name__)

_DIGITS = 6
"""Significant digits of the numbers in the file."""


@dataclass(frozen=True)
class Calibration:
    """What was measured with certain weights.

    Attributes:
        plausibility: How the images of each modality look to the network.
        confidence: For each target of each modality, pairs of a confidence and the average Dice of
            masks with that confidence, both ascending.
    """

    plausibility: Plausibility
    confidence: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(
        default_factory=dict
    )

    def expected_dice(self, modality: str, target: str, confidence: float | None) -> float | None:
        """Return the average Dice of masks with a given confidence; None if it is unknown.

        Args:
            modality: Name of the modality.
            target: Name of the target.
            confidence: Mean probability inside the mask; None for an empty mask.
        """
        pairs = self.confidence.get(modality, {}).get(target)
        if not pairs or confidence is None:
            return None
        known, dice = zip(*pairs, strict=True)
        return float(np.interp(confidence, known, dice))


def calibration_path(weights: str | os.PathLike[str]) -> Path:
    """Return the path of the calibration file beside the weights."""
    path = Path(weights)
    return path.with_name(f"{path.stem}.calibration.json")


SHOWN_BY = (
    *("input_size", "resize", "pixel_mean", "pixel_std"),
    *("flips", "slice_smoothing", "presence_threshold"),
)
"""Settings that decide what the network is shown, and how sure it is: a calibration holds only for
runs with the same settings."""


def input_settings(settings: InferenceSettings) -> dict[str, str]:
    """Return as text the settings that decide how the network is shown images."""
    told = {name: _text_of(getattr(settings, name)) for name in SHOWN_BY}
    return {
        **told,
        "transforms": json.dumps(describe_transforms(settings.transforms), sort_keys=True),
    }


def _text_of(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def read_calibration(
    weights: str | os.PathLike[str], shown: Mapping[str, str]
) -> Calibration | None:
    """Return the calibration of weights; None if there is none, or none for these settings.

    Args:
        weights: File of the weights.
        shown: What :func:`input_settings` returns for the run; a calibration measured with other
            settings does not hold.

    Raises:
        CheckpointError: If the calibration file is invalid.
        OSError: If the weights cannot be read.
    """
    path = calibration_path(weights)
    if not path.is_file():
        return None
    try:
        content = _Content.model_validate(read_own_json(path))
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        msg = f"{path} must be what esp-medsam calibrate writes; got: {reason}. Run it again."
        raise CheckpointError(msg) from error
    if content.weights_sha256 != hash_of_weights(weights):
        told = (
            "%s was made for other weights than %s and is not used; run esp-medsam calibrate again."
        )
        logger.warning(told, one_line(str(path)), one_line(os.fspath(weights)))
        return None
    if different := [name for name in shown if content.shown.get(name) != shown[name]]:
        told = "%s was measured with another %s and is not used."
        logger.warning(told, one_line(str(path)), " and ".join(different))
        return None
    found = content.plausibility
    return Calibration(
        Plausibility(
            torch.tensor(found.projection),
            {name: torch.tensor(centers) for name, centers in found.centers.items()},
            found.limit,
        ),
        content.confidence,
    )


def write_calibration(
    weights: str | os.PathLike[str], calibration: Calibration, shown: Mapping[str, str]
) -> Path:
    """Write the calibration of weights into the file beside them, and return its path.

    Args:
        weights: File of the weights.
        calibration: What was measured.
        shown: What :func:`input_settings` returns for the measurement.

    Raises:
        OutputError: If the file cannot be written.
    """
    found = calibration.plausibility
    content = {
        "schema": 1,
        "weights_sha256": hash_of_weights(weights),
        "shown": dict(shown),
        "plausibility": {
            "projection": _rounded(found.projection),
            "centers": {name: _rounded(centers) for name, centers in found.centers.items()},
            "limit": float(f"{found.limit:.{_DIGITS}g}"),
        },
        "confidence": calibration.confidence,
    }
    path = calibration_path(weights)
    with atomic_file(path) as file:
        file.write(f"{json.dumps(content)}\n".encode())
    return path


def _rounded(values: torch.Tensor) -> list[list[float]]:
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in values.tolist()]


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Rows = Annotated[list[list[_Finite]], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Plausibility(_Part):
    projection: _Rows
    centers: Mapping[str, _Rows]
    limit: Annotated[_Finite, Field(gt=0)]

    @model_validator(mode="after")
    def _fits(self) -> _Plausibility:
        rows = [*self.projection, *(row for rows in self.centers.values() for row in rows)]
        if len({len(row) for row in rows}) != 1:
            msg = "projection and centers must have rows of one length"
            raise ValueError(msg)
        return self


def _rises(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    for (confidence, dice), (next_confidence, next_dice) in pairwise(pairs):
        if confidence >= next_confidence or dice > next_dice:
            msg = "confidence must have ascending pairs"
            raise ValueError(msg)
    return pairs


_Share = Annotated[_Finite, Field(ge=0, le=1)]
_Pairs = Annotated[list[tuple[_Share, _Share]], Field(min_length=1), AfterValidator(_rises)]


class _Content(_Part):
    schema_: Literal[1] = Field(alias="schema")
    weights_sha256: str
    shown: Mapping[str, str]
    plausibility: _Plausibility
    confidence: Mapping[str, Mapping[str, _Pairs]]
