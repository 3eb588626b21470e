"""Trainings of the bundle, as MONAI runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow


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
