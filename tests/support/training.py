"""Trainings of the bundle, as MONAI runs them, and views to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.read_slices import SliceReader
from esp_medsam.workflows.training_data import SliceDataset


BUNDLE = Path(__file__).parents[2] / "bundle"


def build_training(*configs: str, bundle: Path = BUNDLE, **options: Any) -> ConfigWorkflow:
    """Build a training by configs of a bundle, on the CPU and of small input unless stated."""
    folder = bundle / "configs"
    return ConfigWorkflow(
        config_file=[str(folder / name) for name in configs],
        meta_file=str(folder / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle),
        **{"device": "cpu", "input_size": [64, 64], **options},
    )


def dataset(
    path: Path, table: ModalityTable, *, random: bool = False, **options: float
) -> SliceDataset:
    """Return views of a datalist's section ``training``, at 64 x 64."""
    read = SliceReader(datalist=path, table=table, input_size=(64, 64))
    return SliceDataset(
        read("training")["training"],
        table=table,
        input_size=(64, 64),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.25, 0.25, 0.25),
        random=random,
        **options,
    )
