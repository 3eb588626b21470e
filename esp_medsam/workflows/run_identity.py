"""What identifies a training run, so that it resumes only as itself."""

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
"""Settings that may change from one part of a run to the next."""


def run_of(settings: TrainSettings, table: ModalityTable) -> dict[str, str]:
    """Return in words what must be the same for a run to go on.

    A datalist and weights count by what is in the files, wherever they lie.

    Args:
        settings: All settings of the run.
        table: Its modalities and targets.

    Raises:
        InputNotFoundError: If there is no datalist.
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
    """Return what tells a file's content, or which files a folder holds."""
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        names = "\n".join(f"{f.relative_to(path).as_posix()} {f.stat().st_size}" for f in files)
        return f"of {len(files)} files, {hashlib.sha256(names.encode()).hexdigest()[:16]}"
    if not Path(path).is_file():
        raise not_found(path, argument=name)
    return f"of SHA-256 {sha256_of(Path(path))[:16]}"
