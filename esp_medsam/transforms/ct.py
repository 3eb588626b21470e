"""CT in Hounsfield units (HU): clipping of padding and metal, and windows.

One HU is a thousandth of the difference in attenuation between air (-1000) and water (0).
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.config.type_definitions import NdarrayOrTensor
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import SliceTransform, record_of


AIR = -1024.0
"""Smallest value of a 12-bit CT, in HU."""

METAL = 3071.0
"""Largest value of a 12-bit CT, in HU; anything denser is metal."""

SOFT_TISSUE = (-160.0, 240.0)
"""HU shown as 0 and 1: center 40, width 400, as the shipped weights were trained."""

LUNG = (-1350.0, 150.0)
"""HU shown as 0 and 1: center -600, width 1500."""

BONE = (-450.0, 1050.0)
"""HU shown as 0 and 1: center 300, width 1500."""


class PaddingToAir(SliceTransform):
    """Raise values below air to air: ``max(v, air)``, in HU.

    Scanners pad what lies outside their circle of reconstruction with values that no tissue has,
    such as -2000 or -3024.

    Args:
        air: Smallest value, HU.

    Reference:
        DICOM PS3.3 C.7.5.1.1.2, Pixel Padding Value.
    """

    native = True

    def __init__(self, *, air: float = AIR) -> None:
        self.air = number_option("air", air)

    def apply(self, image: Tensor) -> Tensor:
        """Return the values, with none below air."""
        return image.clamp(min=self.air)


PaddingToAird = dictionary_form(PaddingToAir)


class ClipMetal(SliceTransform):
    """Lower values above the 12-bit range to its end: ``min(v, highest)``, in HU.

    Scanners with an extended scale give metal up to 30000 HU; others end at 3071.

    Args:
        highest: Largest value, HU.
    """

    native = True

    def __init__(self, *, highest: float = METAL) -> None:
        self.highest = number_option("highest", highest)

    def apply(self, image: Tensor) -> Tensor:
        """Return the values, with none above the highest."""
        return image.clamp(max=self.highest)


ClipMetald = dictionary_form(ClipMetal)


class Windows(SliceTransform):
    """Turn HU into one channel per window: ``(v - low) / (high - low)``, clipped to 0..1.

    Args:
        windows: ``(low, high)`` of each channel, HU; the default is the window that the shipped
            weights were trained with.

    Raises:
        OptionError: If there are not one or three windows, or one does not ascend; when called, if
            the slice's record does not state HU, because 8-bit CT has been windowed already.
    """

    native = True
    shows = True

    def __init__(self, windows: Sequence[Sequence[float]] = (SOFT_TISSUE,)) -> None:
        limits = [tuple(number_option("windows", value) for value in window) for window in windows]
        if len(limits) not in (1, 3) or any(len(w) != 2 or not w[0] < w[1] for w in limits):
            msg = f"windows must be one or three ascending pairs of HU, (low, high); got {windows}."
            raise OptionError(msg)
        self.windows = limits

    def apply(self, image: Tensor) -> Tensor:
        """Return ``(windows, rows, columns)`` in 0..1 of HU ``(1, rows, columns)``."""
        if image.shape[0] != 1:
            msg = f"img must hold one channel of HU; got {image.shape[0]} channels."
            raise ValueError(msg)
        low, high = (image.new_tensor(ends).view(-1, 1, 1) for ends in zip(*self.windows))  # noqa: B905
        return image.sub(low).div_(high - low).clamp_(0.0, 1.0)

    def changed(self, img: NdarrayOrTensor) -> Tensor:
        """Return the windows of a slice; refuse a slice known not to hold HU."""
        require_hounsfield(record_of(img), type(self).__name__)
        return super().changed(img)


Windowsd = dictionary_form(Windows)


def require_hounsfield(record: Image | None, name: str) -> None:
    """Refuse an image whose record does not say that it holds HU.

    Args:
        record: What is known of the image; with None, nothing is refused.
        name: Name of the transform that requires HU, for the message.

    Raises:
        OptionError: If the image does not hold HU.
    """
    if record is not None and record.unit != "HU":
        msg = (
            f"{name} must be given Hounsfield units; {record.path} holds none (`ct_input` "
            f"windowed). Leave {name} out of transforms for such images."
        )
        raise OptionError(msg)
