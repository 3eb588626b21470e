"""Length of a training, where the user leaves it open."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from esp_medsam.modality import ModalityTable


AUTO = "auto"

MOST_SAMPLES, SAMPLES_A_SLICE = 4000, 10
"""Slices drawn in an epoch at most, and times that each of a small set is drawn."""

MOST_WARM_UP, WARM_UP = 200, 0.05
"""Steps of warm-up at most, and as a share of all."""


def samples_of(asked: int | str, dataset: Sized) -> int:
    """Return how many slices make an epoch; ``auto`` goes by how many there are."""
    if asked != AUTO:
        return int(asked)
    return min(MOST_SAMPLES, SAMPLES_A_SLICE * len(dataset))


def turns_of(asked: Mapping[str, int] | str, table: ModalityTable) -> dict[str, int]:
    """Return the turns of each modality in a round; ``auto`` goes by how many targets it has.

    Of several targets a slice shows one or two.
    """
    if not isinstance(asked, str):
        return dict(asked)
    return {entry.name: 2 if len(entry.targets) > 1 else 1 for entry in table.modalities}


def warmup_of(asked: int | str, steps: int) -> int:
    """Return how many steps the learning rate rises; ``auto`` goes by how many there are."""
    return int(asked) if asked != AUTO else min(MOST_WARM_UP, round(WARM_UP * steps))
