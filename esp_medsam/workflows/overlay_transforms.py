"""Build transforms from the plain data of an overlay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esp_medsam import transforms
from esp_medsam.errors import EspMedSamError, OptionError
from esp_medsam.transforms import ModalityTransforms
from esp_medsam.workflows.overlays import PACKAGE, STAGES


def build_transforms(rows: Mapping[str, Any]) -> dict[str, ModalityTransforms]:
    """Return transforms by modality.

    Args:
        rows: Rows in the form of docs/reference/transforms.md, checked by
            :func:`~esp_medsam.workflows.overlays.check_transforms`, or already built.

    Raises:
        OptionError: If a transform does not accept its options.
    """
    return {modality: _row(row, f"transforms.{modality}") for modality, row in rows.items()}


def _row(row: Mapping[str, Any] | ModalityTransforms, place: str) -> ModalityTransforms:
    if isinstance(row, ModalityTransforms):
        return row
    intensity = row.get("intensity")
    stages = {
        stage: [_built(s, f"{place}.{stage}[{n}]") for n, s in enumerate(row.get(stage, []))]
        for stage in STAGES
    }
    return ModalityTransforms(
        intensity=intensity and _built(intensity, f"{place}.intensity"), **stages
    )


def _built(content: Mapping[str, Any], place: str) -> Any:
    name = content["_target_"].removeprefix(PACKAGE)
    try:
        return getattr(transforms, name)(**{k: v for k, v in content.items() if k != "_target_"})
    except EspMedSamError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{place} must give {name} what it takes; got: {error}."
        raise OptionError(msg) from error
