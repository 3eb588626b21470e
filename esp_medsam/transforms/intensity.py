"""Intensity: which values of an image are shown as 0 and as 1, by modality. Measured, not applied.

The slices are windowed in the inferer, batch by batch, because a volume is never held as float.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from esp_medsam.errors import ModalityError, NonFiniteError
from esp_medsam.image import IMAGE_KEY, Image, image_of


@dataclass(frozen=True)
class IntensityRule:
    """How the two values are found.

    Args:
        hounsfield: Values for images in HU; None where the modality has none.
        fixed: Values for images in no unit, whatever their type; None where there are none.
        percentiles: Lower and upper percentile, in percent, where nothing fixed applies.
        foreground: Whether they are taken of the nonzero voxels alone, an empty background apart.
        full_uint8: Whether 8-bit images are taken as they are, 0 to 255.
    """

    hounsfield: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    foreground: bool = False
    full_uint8: bool = True


PHOTOGRAPH = IntensityRule()
"""Eight bits as they are; any other depth by percentiles."""

RULES: Mapping[str, IntensityRule] = MappingProxyType(
    {
        # The soft-tissue window that the shipped weights were trained with. Without a unit the
        # reader has seen that a window was applied already: 0 to 255, in any type.
        "ct": IntensityRule(hounsfield=(-160.0, 240.0), fixed=(0.0, 255.0)),
        # No unit, and a background of zeros: only the tissue's own range says anything.
        "mri": IntensityRule(foreground=True, full_uint8=False),
    }
)
"""Rules by modality; any other modality, users' own included, follows ``PHOTOGRAPH``."""


class MeasureIntensity:
    """Find the values of an image that are shown as 0 and as 1.

    In HU a fixed window; else fixed values where the modality has them; else 0 and 255 of 8-bit
    images, where its rule says so; else two percentiles. A constant image ``c`` gives
    ``(c, c + 1)``, so that it is shown as 0.

    Args:
        rules: Rules by modality, in place of :data:`RULES`.
    """

    def __init__(self, *, rules: Mapping[str, IntensityRule] | None = None) -> None:
        self.rules = dict(RULES if rules is None else rules)

    def __call__(self, pixels: npt.NDArray[np.generic] | Tensor, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone.

        Args:
            pixels: ``(C, *spatial)`` in their own dtype.
            record: What is known of them.

        Raises:
            ModalityError: If the image is in HU and the modality has no window for them.
            NonFiniteError: If a percentile is not finite.
        """
        rule = self.rules.get(record.modality, PHOTOGRAPH)
        array = pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)
        if record.unit == "HU":
            if rule.hounsfield is None:
                msg = f"An image in HU must be of a modality with a window; got {record.modality}."
                raise ModalityError(msg)
            low, high = rule.hounsfield
        elif rule.fixed is not None:
            low, high = rule.fixed
        elif rule.full_uint8 and array.dtype == np.uint8:
            low, high = 0.0, 255.0
        else:
            low, high = percentiles_of(array, rule.percentiles, nonzero=rule.foreground)
        if not np.isfinite((low, high)).all():
            msg = f"Intensities must be finite; got a range of {low} to {high} in {record.path}."
            raise NonFiniteError(msg)
        if high <= low:
            high = low + 1.0
        return replace(record, intensity_range=(float(low), float(high)))


class MeasureIntensityd(MapTransform):
    """Dictionary form of :class:`MeasureIntensity`; writes the record back into the meta.

    Args:
        keys: Keys of MetaTensors that LoadMedicalImaged made.
        rules: Rules by modality, in place of :data:`RULES`.
        allow_missing_keys: Whether a missing key is passed over.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        rules: Mapping[str, IntensityRule] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.measure = MeasureIntensity(rules=rules)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each image's record completed."""
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            record = self.measure(image.as_tensor(), image_of(image.meta))
            measured = MetaTensor(image.as_tensor(), meta={**image.meta, IMAGE_KEY: record})
            measured.applied_operations = image.applied_operations
            result[key] = measured
        return result


def percentiles_of(
    array: npt.NDArray[np.generic], percentiles: tuple[float, float], *, nonzero: bool
) -> tuple[float, float]:
    """Return two percentiles, linearly interpolated, without a float copy of the array.

    Args:
        array: Of any shape, in its own dtype.
        percentiles: In percent, ascending.
        nonzero: Whether zeros are left out, unless there is nothing else.
    """
    values = array[array != 0] if nonzero else array.flatten()
    if values.size == 0:
        return 0.0, 0.0
    ranks = [percent / 100.0 * (values.size - 1) for percent in percentiles]
    below = [int(rank) for rank in ranks]
    above = [min(rank + 1, values.size - 1) for rank in below]
    values.partition(sorted({*below, *above}))
    low, high = (
        float(values[b]) + (rank - b) * (float(values[a]) - float(values[b]))
        for rank, b, a in zip(ranks, below, above, strict=True)
    )
    return low, high
