"""Colors of one modality's targets must be told apart, by color-blind eyes too."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from esp_medsam.modality import ModalityTable


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
EYES = {
    "normal": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "protanopia": (
        *(0.152286, 1.052583, -0.204868),
        *(0.114503, 0.786281, 0.099216),
        *(-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        *(0.367322, 0.860646, -0.227968),
        *(0.280085, 0.672501, 0.047413),
        *(-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        *(1.255528, -0.076749, -0.178779),
        *(-0.078411, 0.930809, 0.147602),
        *(0.004733, 0.691367, 0.303900),
    ),
}

LEAST = {"normal": 20.0, "protanopia": 10.0, "deuteranopia": 10.0, "tritanopia": 10.0}
"""CIEDE2000; about 2 is what a trained eye tells apart side by side."""


def seen(color: tuple[int, int, int], eye: str) -> npt.NDArray[np.float64]:
    """Return what an eye sees of a color, in CIELAB."""
    unit = np.array(color) / 255.0
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.reshape(EYES[eye], (3, 3)) @ linear, 0.0, 1.0)
    unit = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab: npt.NDArray[np.float64] = rgb2lab(unit[None, None])[0, 0]
    return lab


@pytest.mark.parametrize("eye", EYES)
def test_targets_of_one_modality_are_told_apart(table: ModalityTable, eye: str) -> None:
    for name in table.names:
        for one, other in combinations(table[name].targets, 2):
            distance = deltaE_ciede2000(seen(one.color, eye), seen(other.color, eye))
            assert distance >= LEAST[eye], (name, one.name, other.name)


def test_targets_are_told_from_gray_at_any_brightness(table: ModalityTable) -> None:
    for name in table.names:
        for target in table[name].targets:
            color = np.array(target.color, float)
            assert np.ptp(color) >= 60, (name, target.name)
