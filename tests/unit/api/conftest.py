"""A segmenter of weights that never trained, and images for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import esp_medsam
from esp_medsam.modality import ModalityTable
from tests.support.networks import save_random_weights
from tests.support.nifti import save_nifti


AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0.9, 0, -30], [0, 0, 4.0, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="session")
def affine() -> np.ndarray:
    """One that turns an axis and scales each otherwise."""
    return AFFINE.copy()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, table: ModalityTable) -> Path:
    return save_random_weights(tmp_path_factory.mktemp("weights") / "model.pt", table)


@pytest.fixture(scope="session")
def segmenter(weights: Path) -> Iterator[esp_medsam.Segmenter]:
    settings = {"input_size": (64, 64), "device": "cpu", "ckpt_path": str(weights)}
    with esp_medsam.Segmenter(**settings) as segmenter:
        yield segmenter


@pytest.fixture(scope="session")
def volume() -> np.ndarray:
    """Blobs of HU; no two axes are alike."""
    random = np.random.default_rng(0)
    blocks = np.kron(random.normal(60, 60, (7, 8, 1)), np.ones((6, 6, 5)))
    return blocks.round().astype(np.int16)


@pytest.fixture
def scan(tmp_path: Path, volume: np.ndarray) -> Path:
    return save_nifti(tmp_path / "scan.nii.gz", volume, AFFINE)
