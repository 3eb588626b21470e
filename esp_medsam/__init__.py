"""ESP-MedSAM: segment medical images of many modalities without prompts.

    import esp_medsam

    result = esp_medsam.segment("scan.nii.gz", modality="ct", targets=["liver"])
    result.labelmap, result.affine, result.confidence, result.save("out")

Importing the package loads nothing heavy; torch and MONAI are loaded when something is segmented.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from esp_medsam.version import __version__


if TYPE_CHECKING:
    from esp_medsam import errors
    from esp_medsam.api import Result, Segmenter, modalities, read, segment
    from esp_medsam.errors import EspMedSamError

__all__ = [
    "EspMedSamError",
    "Result",
    "Segmenter",
    "__version__",
    "errors",
    "modalities",
    "read",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first access."""
    if name in ("EspMedSamError", "errors"):
        errors = importlib.import_module("esp_medsam.errors")
        return errors if name == "errors" else errors.EspMedSamError
    if name in __all__:
        from esp_medsam import api

        return getattr(api, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
