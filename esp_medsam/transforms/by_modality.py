"""How the images of each modality are prepared, and how YAML overrides it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from hashlib import sha256
from types import FunctionType, MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import IMAGE_KEY, Image, image_of, modality_of
from esp_medsam.orientation import Display
from esp_medsam.transforms.intensity import IntensityRule, MeasureIntensity
from esp_medsam.transforms.mri import as_array
from esp_medsam.transforms.slices import CropToFound, SliceTransform


SliceStep = Callable[[Any], Any]
"""Function from a slice ``(C, rows, columns)`` to another; crops record themselves as in MONAI."""


@runtime_checkable
class Measured(Protocol):
    """A measurement on a whole image that is applied to each of its slices."""

    def for_slice(self, display: Display, index: int, count: int) -> SliceStep:
        """Return the step that changes one slice, in the image's own units.

        Args:
            display: How slices are taken and oriented.
            index: Index of the slice.
            count: Number of slices.
        """
        ...


Measure = Callable[[npt.NDArray[np.generic] | Tensor, Image], Image | Measured]
"""Function from pixels ``(C, *spatial)`` and their record to a completed record or ``Measured``."""


@dataclass(frozen=True, kw_only=True)
class ModalityTransforms:
    """Preparation of the images of a modality, in this order.

    Args:
        intensity: Which values are shown as 0 and 1; None means the modality's default.
        measure: Further measurements on the whole image, whose results are applied to each slice
            first.
        native: Steps for each slice in the image's own units, before the window. A step whose
            attribute ``shows`` is true returns values in 0..1 and replaces the window.
        shown: Steps for each slice in 0..1, after the window: artifacts, color, crops. If a crop
            depends on a box found in the picture, a stack shares one box.

    Raises:
        OptionError: If a stage is not a list of transforms, or contains a transform that takes
            another kind of values.
    """

    intensity: IntensityRule | None = None
    measure: Sequence[Measure] = ()
    native: Sequence[SliceStep] = ()
    shown: Sequence[SliceStep] = ()

    def __post_init__(self) -> None:
        """Refuse transforms that belong in another stage."""
        intensity: object = self.intensity
        if not isinstance(intensity, IntensityRule | None):
            msg = f"intensity must be an IntensityRule; got {intensity!r}."
            raise OptionError(msg)
        for stage in ("measure", "native", "shown"):
            steps = getattr(self, stage)
            if not isinstance(steps, list | tuple) or not all(map(callable, steps)):
                msg = f"{stage} must be a list of transforms; got {steps!r}."
                raise OptionError(msg)
            for step in steps:
                own = _stage_of(step)
                if own not in (None, stage):
                    msg = f"{type(step).__name__} must be listed under {own}; it is under {stage}."
                    raise OptionError(msg)


def _stage_of(step: object) -> str | None:
    """Return the only stage that a transform can act in; None if it declares none."""
    if isinstance(step, CropToFound):
        return "shown"
    if isinstance(step, SliceTransform):
        return "native" if step.native else "shown"
    return None


PHOTOGRAPH = ModalityTransforms(intensity=IntensityRule())
"""8-bit images as they are; other depths by percentiles."""

DEFAULTS: Mapping[str, ModalityTransforms] = MappingProxyType(
    {
        # The soft-tissue window that the shipped weights were trained with. If there is no unit,
        # the reader has found that a window was applied already: 0 to 255, in any type.
        "ct": ModalityTransforms(
            intensity=IntensityRule(hounsfield=(-160.0, 240.0), fixed=(0.0, 255.0))
        ),
        # There is no unit, and the background is zeros: only the tissue's own range is meaningful.
        "mri": ModalityTransforms(intensity=IntensityRule(foreground=True, full_uint8=False)),
        "xray": ModalityTransforms(intensity=IntensityRule(file_window=True)),
    }
)
"""What the shipped weights were trained with. All other modalities use ``PHOTOGRAPH``.

Everything else in this package is optional, because a default changes only together with weights
that were trained with it.
"""


def transforms_of(
    modality: str, overrides: Mapping[str, ModalityTransforms] | None = None
) -> ModalityTransforms:
    """Return how images of a modality are prepared.

    Args:
        modality: Name of the modality.
        overrides: The user's transforms by modality, which replace the defaults.
    """
    default = DEFAULTS.get(modality, PHOTOGRAPH)
    chosen = (overrides or {}).get(modality, default)
    return chosen if chosen.intensity else replace(chosen, intensity=default.intensity)


def check_overrides(
    overrides: Mapping[str, ModalityTransforms] | None, names: Collection[str] | None = None
) -> Mapping[str, ModalityTransforms] | None:
    """Return the user's overrides of the defaults if they are valid.

    Args:
        overrides: Transforms by modality.
        names: Names of the modalities that exist; None allows any name.

    Raises:
        OptionError: If ``overrides`` is not such a mapping, or names an unknown modality.
    """
    rows: object = overrides
    for name, row in rows.items() if isinstance(rows, Mapping) else ():
        if not isinstance(row, ModalityTransforms):
            msg = (
                f"transforms must hold a ModalityTransforms for {name}; got {type(row).__name__}. "
                "Give it _target_: esp_medsam.transforms.ModalityTransforms."
            )
            raise OptionError(msg)
        if names is not None and name not in names:
            msg = f"transforms must name modalities out of {', '.join(names)}; got {name}."
            raise OptionError(msg)
    if not isinstance(rows, Mapping | None):
        msg = f"transforms must be a mapping by modality; got {overrides!r}."
        raise OptionError(msg)
    return overrides


def describe_transforms(transforms: Mapping[str, ModalityTransforms] | None) -> dict[str, str]:
    """Return overrides as text that a result's record can hold and compare."""
    return {name: _text(chosen) for name, chosen in sorted((transforms or {}).items())}


def _text(value: Any) -> str:
    """Return text that distinguishes a transform from others: its name and its attributes."""
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(as_array(value))
        digest = sha256(array.tobytes()).hexdigest()[:16]
        return f"{array.dtype}{list(array.shape)} {digest}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(key)}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(item) for item in value)}]"
    if _is_plain(value):
        return repr(value)
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    said = [
        f"{key}={_text(item)}"
        for key, item in getattr(value, "__dict__", {}).items()
        if not key.startswith("_") and _is_told(item)
    ]
    return f"{type(value).__name__}({', '.join(said)})"


def _is_told(value: Any) -> bool:
    """Whether a transform's attribute has a description that is the same on every run."""
    kinds = (list, tuple, Mapping, Tensor, np.ndarray, FunctionType, Transform)
    return _is_plain(value) or is_dataclass(value) or isinstance(value, kinds)


def _is_plain(value: Any) -> bool:
    """Whether the value's repr describes it fully and is the same on every run."""
    return value is None or isinstance(value, bool | int | float | str | slice)


class MeasureImage:
    """Measure what the transforms of an image's modality need; nothing is applied.

    Args:
        transforms: Transforms by modality, in place of :data:`DEFAULTS`.

    Raises:
        OptionError: If ``transforms`` is not such a mapping.
    """

    def __init__(self, transforms: Mapping[str, ModalityTransforms] | None = None) -> None:
        self.transforms = check_overrides(transforms)

    def __call__(self, pixels: npt.NDArray[np.generic] | Tensor, record: Image) -> Image:
        """Return the record completed; the pixels are left alone.

        Args:
            pixels: ``(C, *spatial)`` in their own dtype.
            record: What is known of the image.

        Raises:
            ModalityError: If the image is in HU and the modality has no window for them.
            NonFiniteError: If a percentile is not finite.
        """
        chosen = transforms_of(modality_of(record), self.transforms)
        record = MeasureIntensity(chosen.intensity or IntensityRule())(pixels, record)
        for measure in chosen.measure:
            result: object = measure(pixels, record)
            if isinstance(result, Measured):
                result = replace(record, measured=(*record.measured, result))
            if not isinstance(result, Image):
                msg = f"measure must be a transform that measures; got {type(measure).__name__}."
                raise OptionError(msg)
            record = result
        return record


class MeasureImaged(MapTransform):
    """Dictionary form of :class:`MeasureImage`; writes the record back into the meta.

    Args:
        keys: Keys of MetaTensors that LoadMedicalImaged made.
        transforms: Transforms by modality, in place of :data:`DEFAULTS`.
        allow_missing_keys: Whether to skip missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        transforms: Mapping[str, ModalityTransforms] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.measure = MeasureImage(transforms)

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
