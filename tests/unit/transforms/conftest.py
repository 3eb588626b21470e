"""A head made up, and a real slice, for the tests of MRI."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file


@pytest.fixture(scope="session")
def head() -> Callable[..., np.ndarray]:
    """Return a function that makes a ball of two tissues in noisy air, ``(1, 30, 28, 26)``."""

    def made(seed: int = 0, gain: float = 1.0) -> np.ndarray:
        x, y, z = np.indices((30, 28, 26)) - 14.0
        radius = np.sqrt(x**2 + y**2 + z**2)
        clean = np.where(radius < 7, 700.0, np.where(radius < 11, 400.0, 0.0))
        noisy = clean + np.random.default_rng(seed).rayleigh(6.0, clean.shape)
        return (gain * noisy)[None].astype(np.float32)

    return made


@pytest.fixture(scope="session")
def magnetic_resonance() -> np.ndarray:
    """Return a slice that ships with pydicom, ``(1, 64, 64)``."""
    return pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array[None]
