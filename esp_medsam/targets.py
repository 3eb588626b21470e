"""Building blocks of the modality table: modalities, targets and their codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args


RELEASED_INDICES: Mapping[str, int] = {
    "dermoscopy": 0,
    "xray": 1,
    "ultrasound": 2,
    "fundus": 3,
    "microscopy": 4,
    "endoscopy": 5,
    "ct": 6,
    "mri": 7,
}
"""Indices that published weights depend on; users' own modalities start after them."""

TIERS = ("ready", "experimental", "research")
"""How far a target can be relied on. If no targets are named, only ready ones are segmented;
research targets were evaluated only on crops, coarse grids or splits that leak."""

THRESHOLD = 0.5
"""Default probability from which a voxel belongs to a target."""

Prompt = Literal["hard", "straight_through", "soft"]
PROMPTS: tuple[Prompt, ...] = get_args(Prompt)
"""How the network turns its patch logits into a prompt."""

ImageEncoderName = Literal["tiny_vit", "tic"]
IMAGE_ENCODERS: tuple[ImageEncoderName, ...] = get_args(ImageEncoderName)
"""Image encoders that a network can have."""


@dataclass(frozen=True)
class Code:
    """A coded concept, as DICOM represents it.

    Attributes:
        value: Code value, a string of digits in SNOMED CT.
        scheme: Coding scheme designator, such as ``SCT``.
        meaning: Code meaning, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class CleanUp:
    """Clean-up of the mask of a target before it is written; none by default.

    Attributes:
        largest_component: Whether only the largest connected component is kept.
        min_size: Components with fewer pixels or voxels are dropped.
        min_ml: Components of a volume with fewer milliliters are dropped; no effect if the volume
            of a voxel is not known.
        fill_holes: Whether enclosed background is filled.
    """

    largest_component: bool = False
    min_size: int = 0
    fill_holes: bool = False
    min_ml: float = 0.0

    def least_voxels(self, voxel_ml: float | None) -> int:
        """Return how many pixels or voxels a component must have to be kept.

        Args:
            voxel_ml: Volume of a voxel in milliliters; None for pictures, or if it is not known.
        """
        by_volume = 0 if voxel_ml is None else ceil(round(self.min_ml / voxel_ml, 6))
        return max(self.min_size, by_volume, 1)


@dataclass(frozen=True)
class Target:
    """A structure that can be segmented in a modality.

    Attributes:
        name: Its name, unique in the modality.
        label: Its value in labelmaps, 1 to 255.
        category: Segmented property category, CID 7150.
        type: Segmented property type, CID 7151.
        color: Red, green and blue, 0 to 255.
        anatomic_region: Its anatomic region; None if the type implies it.
        clean_up: Clean-up of its mask.
        tier: One of :data:`TIERS`.
        least_ml: Volume below which its mask is hardly credible; 0 accepts all.
        adapter: Whether the network has an adapter for this target alone.
        threshold: Probability from which a voxel belongs to its mask, above 0 and below 1.
    """

    name: str
    label: int
    category: Code
    type: Code
    color: tuple[int, int, int]
    anatomic_region: Code | None = None
    clean_up: CleanUp = CleanUp()
    tier: str = "ready"
    least_ml: float = 0.0
    adapter: bool = False
    threshold: float = THRESHOLD

    @property
    def words(self) -> str:
        """Name in plain words: ``Kidney tumor`` for ``kidney_tumor``."""
        return self.name.replace("_", " ").strip().capitalize()


@dataclass(frozen=True)
class Modality:
    """An imaging modality that the network distinguishes.

    Attributes:
        name: Its name.
        index: Its global, fixed index.
        targets: What can be segmented in it, in the order of the network's channels.
        dicom_modalities: Values of DICOM's Modality that mean this modality.
    """

    name: str
    index: int
    targets: tuple[Target, ...]
    dicom_modalities: tuple[str, ...] = ()
