"""The two forms, array and dictionary, of every transform that changes a slice as it is shown."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_data_type, convert_to_dst_type
from torch import Tensor


class ShownTransform(Transform):
    """Change the values of one slice as shown, in 0..1, on the grid it came on.

    Arrays and tensors, with their metadata, come back as the same kind, float32, on the same
    device; what was handed in is left alone. Subclasses write :meth:`change`.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the slice changed.

        Args:
            img: ``(C, rows, columns)`` with C 1 or 3, values in 0..1.

        Raises:
            ValueError: If it is not of that shape, or empty.
        """
        if img.ndim != 3 or img.shape[0] not in (1, 3) or 0 in img.shape:
            msg = f"img must be (1 or 3, rows, columns); got {tuple(img.shape)}."
            raise ValueError(msg)
        values, *_ = convert_data_type(img, torch.Tensor, dtype=torch.float32)
        result, *_ = convert_to_dst_type(self.change(values), dst=img, dtype=torch.float32)
        return result

    @abstractmethod
    def change(self, img: Tensor) -> Tensor:
        """Return a changed ``(C, rows, columns)`` float32, or ``img`` itself, never written to."""


class ShownTransformd(MapTransform):
    """Dictionary form of a :class:`ShownTransform`.

    Args:
        keys: Keys of the slices to change.
        transform: What changes them.
        allow_missing_keys: Whether a missing key is passed over.
    """

    backend = ShownTransform.backend

    def __init__(
        self, keys: KeysCollection, transform: ShownTransform, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy of ``data`` with its slices changed."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


def luminance(img: Tensor) -> Tensor:
    """Return ``(rows, columns)``: Rec. 601 luma of three channels, or the one there is."""
    if len(img) == 1:
        return img[0]
    luma: Tensor = 0.299 * img[0] + 0.587 * img[1] + 0.114 * img[2]
    return luma


def shrunken(img: Tensor, longest: int) -> Tensor:
    """Return ``(C, rows, columns)`` with at most ``longest`` of both, by means over areas."""
    rows, columns = img.shape[-2:]
    scale = longest / max(rows, columns)
    if scale >= 1.0:
        return img
    size = (max(1, round(rows * scale)), max(1, round(columns * scale)))
    coarse: Tensor = F.interpolate(img[None], size=size, mode="area")[0]
    return coarse
