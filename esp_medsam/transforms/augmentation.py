"""Training augmentation by modality, built from MONAI's random transforms.

What a modality forbids matters as much as what it allows: no mirroring and no large rotations if
left and right or up and down have a meaning (radiographs, CT, MRI), and no color jitter if there
is no color.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import radians
from types import MappingProxyType

import numpy as np
from monai.transforms import (
    Compose,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandAffined,
    RandAxisFlipd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    Transform,
)

from esp_medsam.transforms.random_window import RandomWindow


@dataclass(frozen=True)
class AugmentationRule:
    """How far the slices of a modality may be changed.

    Args:
        turn: Whether mirrored and quarter-turned views are as likely as the original.
        mirror: Whether views mirrored left to right are as likely as the original.
        rotation: Largest rotation in degrees.
        scale: Largest relative enlargement or reduction.
        gain: Largest relative change of contrast.
        offset: Largest shift of brightness, as a fraction of the range 0..1.
        color: Largest relative change of each color channel on its own.
        window: Largest shift of an edge of the window, relative to the window's width.
        coarsest: Smallest fraction of its pixels that a view may be reduced to before it is
            enlarged again: scanners, thumbnails and compression differ in resolution.
    """

    turn: bool = False
    mirror: bool = False
    rotation: float = 15.0
    scale: float = 0.25
    gain: float = 0.2
    offset: float = 0.1
    color: float = 0.0
    window: float = 0.0
    coarsest: float = 0.4


RADIOLOGY = AugmentationRule()
"""Left, right, up and down have a meaning, and there is no color."""

RULES: Mapping[str, AugmentationRule] = MappingProxyType(
    {
        "dermoscopy": AugmentationRule(turn=True, rotation=45.0, scale=0.35, color=0.15),
        # The scope rolls freely, moves near and far, and its light changes all the time.
        "endoscopy": AugmentationRule(turn=True, rotation=45.0, scale=0.4, gain=0.3, color=0.2),
        # Vessels are a few pixels wide: a coarser view would show none.
        "fundus": AugmentationRule(turn=True, rotation=45.0, color=0.15, coarsest=0.8),
        "microscopy": AugmentationRule(turn=True, rotation=45.0, color=0.1, coarsest=0.7),
        # The probe is at the top: a scan may be mirrored left to right, but not turned.
        "ultrasound": AugmentationRule(mirror=True, rotation=15.0, scale=0.35, gain=0.3),
        # HU are exact, but datasets that were windowed before differ in window and center.
        "ct": AugmentationRule(scale=0.35, window=0.25),
    }
)
"""Rules by modality; all other modalities, including users' own, follow ``RADIOLOGY``."""


def mirrors_of(modality: str) -> tuple[tuple[int, ...], ...]:
    """Return how images of a modality may be mirrored, which is how training mirrors them.

    Returns:
        For each way, axes of ``(..., rows, columns)``; none if left and right have a meaning.
    """
    rule = RULES.get(modality, RADIOLOGY)
    if rule.turn:
        return (-1,), (-2,), (-2, -1)
    return ((-1,),) if rule.mirror else ()


def augmentation(
    modality: str,
    input_size: tuple[int, int],
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
    *,
    random: bool = True,
) -> Compose:
    """Return the transforms that turn a slice into a training view.

    They take ``image``, ``(3, h, w)`` in 0..1, ``label``, ``(T, h, w)`` of 0 or 1, and ``window``,
    the image values shown as black and white. They return image and label at ``input_size``: the
    image is normalized, and pixels outside it are zeros.

    Args:
        modality: Name of the modality; its rule decides what may change.
        input_size: ``(H, W)`` of the network's input.
        pixel_mean: Mean per channel, of values in 0..1.
        pixel_std: Standard deviation per channel.
        random: Whether to change anything; if not, the slice is only centered in the input.
    """
    rule = RULES.get(modality, RADIOLOGY)
    normalize = NormalizeIntensityd(
        "image", np.asarray(pixel_mean), np.asarray(pixel_std), channel_wise=True
    )
    both = ("image", "label")
    if not random:
        center = RandAffined(
            both, prob=0.0, spatial_size=input_size, mode=("bilinear", "nearest"),
            padding_mode="zeros",
        )  # fmt: skip
        return Compose([RandomWindow(), normalize, center])
    window = RandomWindow(rule.window)
    return Compose([window, *_intensity(rule), normalize, *_spatial(rule, input_size)])


def _intensity(rule: AugmentationRule) -> list[Transform]:
    image = "image"
    transforms: list[Transform] = [
        RandAdjustContrastd(image, prob=0.3, gamma=(0.7, 1.5)),
        RandScaleIntensityd(image, factors=rule.gain, prob=0.5),
        RandShiftIntensityd(image, offsets=rule.offset, prob=0.5),
        RandGaussianNoised(image, prob=0.15, std=0.05),
        RandGaussianSmoothd(image, prob=0.1, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
        RandSimulateLowResolutiond(
            image,
            prob=0.2,
            downsample_mode="area",
            upsample_mode="bilinear",
            zoom_range=(rule.coarsest, 1.0),
        ),
    ]
    if rule.color:
        transforms.append(
            RandScaleIntensityd(image, factors=rule.color, prob=0.5, channel_wise=True)
        )
    return transforms


def _spatial(rule: AugmentationRule, input_size: tuple[int, int]) -> list[Transform]:
    both = ("image", "label")
    shift = tuple(0.1 * side for side in input_size)
    turns = (RandAxisFlipd(both, prob=0.5), RandRotate90d(both, prob=0.5, max_k=3))
    affine = RandAffined(
        both,
        prob=1.0,
        rotate_range=radians(rule.rotation),
        shear_range=0.05,
        translate_range=shift,
        scale_range=((-rule.scale, rule.scale), (-rule.scale, rule.scale)),
        spatial_size=input_size,
        mode=("bilinear", "nearest"),
        padding_mode="zeros",
    )
    if rule.turn:
        return [*turns, affine]
    return [RandFlipd(both, prob=0.5, spatial_axis=1), affine] if rule.mirror else [affine]
