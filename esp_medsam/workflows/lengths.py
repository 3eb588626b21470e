"""Length of a training run, if the user leaves it open."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from esp_medsam.errors import OptionError
from esp_medsam.modality import ModalityTable


AUTO = "auto"

MOST_SAMPLES, SAMPLES_A_SLICE = 4000, 10
"""Maximum number of slices drawn in an epoch, and draws of each slice of a small set."""

MOST_WARM_UP, WARM_UP = 200, 0.05
"""Maximum number of warm-up steps, and warm-up's share of all steps."""


def samples_of(asked: int | str, dataset: Sized) -> int:
    """Return the number of slices in an epoch; ``auto`` depends on the size of the dataset."""
    if asked != AUTO:
        return int(asked)
    return min(MOST_SAMPLES, SAMPLES_A_SLICE * len(dataset))


def turns_of(asked: Mapping[str, int] | str, table: ModalityTable) -> dict[str, int]:
    """Return each modality's turns in a round; ``auto`` depends on its number of targets.

    A slice of a modality with several targets shows one or two of them.

    Raises:
        OptionError: If ``asked`` names an unknown modality.
    """
    if not isinstance(asked, str):
        if not asked.keys() <= set(table.names):
            msg = f"turns must name modalities out of {', '.join(table.names)}; "
            raise OptionError(msg + f"got {', '.join(asked)}.")
        return dict(asked)
    return {entry.name: 2 if len(entry.targets) > 1 else 1 for entry in table.modalities}


def warmup_of(asked: int | str, steps: int) -> int:
    """Return the number of warm-up steps; ``auto`` depends on the number of all steps."""
    return int(asked) if asked != AUTO else min(MOST_WARM_UP, round(WARM_UP * steps))
