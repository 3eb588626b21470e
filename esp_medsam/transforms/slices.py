"""What the transforms of single slices share: kinds in and out, crops, dictionary forms.

A slice is channel-first, ``(C, rows, columns)``, as it is shown.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import Crop, Cropd, MapTransform, SpatialCrop, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor


Box = tuple[slice, slice]
"""Rows and columns of a slice, as shown."""


class SliceTransform(Transform):
    """Change the values of a slice: array, Tensor or MetaTensor in, the same out, float32."""

    backend = [TransformBackends.TORCH]

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the slice ``(C, rows, columns)`` changed; the input is left alone."""
        return convert_to_dst_type(self.apply(as_float(img)), img, dtype=torch.float32)[0]

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """Return a plain float32 slice changed, on its device."""


class SliceTransformd(MapTransform):
    """Dictionary form of a :class:`SliceTransform`.

    Args:
        keys: Keys of slices.
        transform: What is done to each.
        allow_missing_keys: Whether a missing key is passed over.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, keys: KeysCollection, transform: SliceTransform, *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each slice changed."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class CropToBox(SpatialCrop):
    """Crop a slice to a box that was measured; ``inverse`` puts it back among zeros.

    Args:
        rows: First row and the one after the last, as shown.
        columns: First column and the one after the last, as shown.
    """

    def __init__(self, *, rows: Sequence[int], columns: Sequence[int]) -> None:
        super().__init__(roi_start=(rows[0], columns[0]), roi_end=(rows[1], columns[1]))


class CropToBoxd(Cropd):
    """Dictionary form of :class:`CropToBox`.

    Args:
        keys: Keys of slices.
        rows: First row and the one after the last, as shown.
        columns: First column and the one after the last, as shown.
        allow_missing_keys: Whether a missing key is passed over.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        rows: Sequence[int],
        columns: Sequence[int],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, CropToBox(rows=rows, columns=columns), allow_missing_keys)


class CropToFound(Crop):
    """Crop a slice to a box found in it; ``inverse`` puts it back among zeros."""

    @abstractmethod
    def find(self, img: Tensor) -> Box:
        """Return the box to keep: the whole slice where there is doubt."""

    def __call__(  # type: ignore[override]  # as MONAI's own SpatialCrop
        self, img: Tensor, lazy: bool | None = None
    ) -> Tensor:
        """Return the part of the slice in the box, in its own dtype."""
        return super().__call__(img, slices=self.find(img), lazy=lazy)


class CropToFoundd(Cropd):
    """Dictionary form of a :class:`CropToFound`: the box is found in one slice for all.

    Args:
        keys: Keys of slices of one size: an image and what lies over it.
        cropper: What finds the box.
        source_key: Slice that the box is found in; None means the first key.
        allow_missing_keys: Whether a missing key is passed over.
    """

    def __init__(
        self,
        keys: KeysCollection,
        cropper: CropToFound,
        *,
        source_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, cropper, allow_missing_keys)
        self.find = cropper.find
        self.source_key = self.keys[0] if source_key is None else source_key

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> dict[Hashable, Any]:
        """Return the data with each slice cropped to the box."""
        box = self.find(data[self.source_key])
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = Crop.__call__(self.cropper, result[key], slices=box, lazy=lazy)
        return result


def as_float(img: NdarrayOrTensor) -> Tensor:
    """Return a plain float32 tensor of the values, on their device."""
    tensor: Tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    return tensor
