"""Base classes and helpers of transforms that act on single slices.

A slice is channel-first, ``(C, rows, columns)``, as it is shown.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Crop, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from esp_medsam.image import IMAGE_KEY, Image


Box = tuple[slice, slice]
"""Rows and columns of a slice, as shown."""


class SliceTransform(Transform):
    """Change the values of a slice; array, Tensor or MetaTensor in, the same type out, float32.

    The input is left unchanged. Subclasses implement :meth:`apply`.

    Attributes:
        native: Whether values come in the image's own unit, before the window, not in 0..1.
    """

    backend = [TransformBackends.TORCH]
    native: ClassVar[bool] = False

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the changed slice.

        Args:
            img: ``(C, rows, columns)`` with C 1 or 3.

        Raises:
            ValueError: If the slice does not have that shape, or is empty.
        """
        if img.ndim != 3 or img.shape[0] not in (1, 3) or 0 in img.shape:
            msg = f"img must be (1 or 3, rows, columns); got {tuple(img.shape)}."
            raise ValueError(msg)
        return convert_to_dst_type(self.changed(img), img, dtype=torch.float32)[0]

    def changed(self, img: NdarrayOrTensor) -> Tensor:
        """Return the changed plain slice; subclasses that need the meta override this.

        Args:
            img: The slice as passed in, with its meta if it has any.
        """
        return self.apply(as_float(img))

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """Return a changed plain float32 slice, on its device, or ``image`` itself.

        Args:
            image: ``(C, rows, columns)``, never written to.
        """


class CropToFound(Crop):
    """Crop a slice to a box found in it; subclasses implement :meth:`find`.

    The slice comes back as a MetaTensor that records the operation, so ``inverse`` puts it, or any
    result on its grid, exactly back in place, with zeros around it.
    """

    def __init__(self) -> None:
        super().__init__()

    @property
    def requires_current_data(self) -> bool:
        """Whether the pixels are needed: the box depends on them."""
        return True

    @abstractmethod
    def find(self, img: Tensor) -> Box:
        """Return the box to keep: the whole slice if in doubt."""

    def __call__(  # type: ignore[override]  # as MONAI's own SpatialCrop
        self, img: Tensor, lazy: bool | None = None
    ) -> Tensor:
        """Return the part of the slice in the box, in its own dtype."""
        return super().__call__(img, slices=self.find(img), lazy=lazy)


def as_float(img: NdarrayOrTensor) -> Tensor:
    """Return a plain float32 tensor of the values, on their device."""
    tensor: Tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    return tensor


def record_of(img: NdarrayOrTensor) -> Image | None:
    """Return what is known of the image that a slice belongs to; None if nothing is."""
    record = img.meta.get(IMAGE_KEY) if isinstance(img, MetaTensor) else None
    return record if isinstance(record, Image) else None


def luminance(image: Tensor) -> Tensor:
    """Return ``(rows, columns)``: Rec. 601 luma of three channels, or the only channel."""
    if len(image) == 1:
        return image[0]
    luma: Tensor = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return luma


def shrink(image: Tensor, longest: int) -> Tensor:
    """Return ``(C, rows, columns)`` with at most ``longest`` of either, by means over areas."""
    rows, columns = image.shape[-2:]
    scale = longest / max(rows, columns)
    if scale >= 1.0:
        return image
    size = (max(1, round(rows * scale)), max(1, round(columns * scale)))
    coarse: Tensor = F.interpolate(image[None], size=size, mode="area")[0]
    return coarse
