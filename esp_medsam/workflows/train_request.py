"""A validated training request, before heavy imports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esp_medsam.errors import OutputError, not_found
from esp_medsam.modality import ModalityTable
from esp_medsam.training_settings import STAGE_SETTINGS, Stage
from esp_medsam.workflows.bundle import TABLE, TRAIN_CONFIG, find_bundle
from esp_medsam.workflows.overlays import train_settings_of
from esp_medsam.workflows.request import Request, read_layers


OVERLAYS = (
    "add_modality.yaml",
    "distill_common.yaml",
    "distill_modality.yaml",
    "multi_gpu_train.yaml",
    "train_teacher.yaml",
)
"""The bundle's own configs that overlay ``train.yaml``."""

STAGES: Mapping[Stage, tuple[str, ...]] = {
    "train": (),
    "teacher": ("train_teacher.yaml",),
    "modality": ("distill_modality.yaml",),
    "common": ("distill_modality.yaml", "distill_common.yaml"),
}
"""Overlays of each stage, in order."""


def read_training(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    *,
    stage: Stage = "train",
    trust_config: bool = False,
    **given: Any,
) -> Request:
    """Return the validated training request.

    Values from users remain data, whatever they begin with. Overlays, which hold settings, remain
    data too unless they are trusted or the bundle's own, such as those of the other stages.

    Args:
        bundle: Folder of the bundle; None searches for it.
        overlays: Further configs, in order; each one's keys replace earlier ones.
        stage: Stage to train; its overlays come before the others.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        given: Keys of ``train.yaml`` to set last; None keeps the config's own value.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        InputNotFoundError: If the datalist does not exist.
        EspMedSamError: If a setting is invalid.
    """
    root = find_bundle(bundle)
    of_stage = [root / TRAIN_CONFIG.parent / name for name in STAGES[stage]]
    layers = read_layers(
        root / TRAIN_CONFIG,
        [*of_stage, *overlays],
        own=OVERLAYS,
        trust_config=trust_config,
        settings_of=lambda content, path: train_settings_of(content, path, stage),
    )
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = layers.settings | STAGE_SETTINGS[stage].given(chosen)
    _check_there(settings)
    return Request(
        root=root,
        table=ModalityTable.read(root / TABLE),
        configs=layers.configs,
        settings=settings,
        runs=layers.runs,
    )


def _check_there(settings: Mapping[str, Any]) -> None:
    """Require that the files and folders named in settings exist."""
    for name in ("datalist", "compare_datalist", "unseen"):
        path = settings.get(name)
        if path is not None and not Path(path).is_file():
            raise not_found(path, argument=name)
    images = settings.get("images")
    if images is not None and not Path(images).exists():
        raise not_found(images, "folder or tar file", argument="images")
    if (output := settings.get("output_dir")) is not None:
        folder = Path(output).absolute()
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            msg = f"output_dir must be a writable folder; {there} is not."
            raise OutputError(msg)
