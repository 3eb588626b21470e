"""Values of masks of any origin, as the labels that they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def as_labels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """Return values as uint8 if all are whole numbers from 0 to 255, else None."""
    with np.errstate(invalid="ignore"):  # NaN, and numbers that uint8 cannot hold
        labels = values.astype(np.uint8)
    return labels if (labels == values).all() else None
