"""What identifies a training run, so that only the same run resumes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from esp_medsam.errors import not_found
from esp_medsam.identity import sha256_of
from esp_medsam.modality import ModalityTable
from esp_medsam.training_settings import TrainSettings
from esp_medsam.transforms.by_modality import describe_transforms


FREE = frozenset(
    {
        "cache_dir",
        "checkpoint_steps",
        "device",
        "epochs",
        "max_bad_steps",
        "mlflow",
        "num_workers",
        "output_dir",
        "patience",
        "resume",
    }
)
"""Settings that may change when a run resumes."""


def run_of(settings: TrainSettings, table: ModalityTable) -> dict[str, str]:
    """Return, as text, what must stay the same for a run to resume.

    A datalist and weights are identified by file content, not by location.

    Args:
        settings: All settings of the run.
        table: The run's modalities and targets.

    Raises:
        InputNotFoundError: If the datalist does not exist.
    """
    told: dict[str, Any] = {
        name: getattr(settings, name) for name in TrainSettings.model_fields if name not in FREE
    }
    told["transforms"] = describe_transforms(settings.transforms)
    told["datalist"] = _content(settings.datalist, "datalist")
    told["pretrained"] = settings.pretrained and _content(settings.pretrained, "pretrained")
    told["targets"] = {name: list(names) for name, names in table.target_names.items()}
    told["presence"] = table.presence
    told["prompt"] = table.prompt
    told["image_encoder"] = table.image_encoder
    return {name: str(value) for name, value in told.items()}


def _content(path: str, name: str) -> str:
    """Return text that identifies a file's content, or the files in a folder."""
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        names = "\n".join(f"{f.relative_to(path).as_posix()} {f.stat().st_size}" for f in files)
        return f"of {len(files)} files, {hashlib.sha256(names.encode()).hexdigest()[:16]}"
    if not Path(path).is_file():
        raise not_found(path, argument=name)
    return f"of SHA-256 {sha256_of(Path(path))[:16]}"
