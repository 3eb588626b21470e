"""Estimate the memory that segmentation needs in addition to an image.

benchmarks/segment_memory.py checks the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from esp_medsam.errors import TargetError
from esp_medsam.memory import Beside
from esp_medsam.modality import CleanUp, ModalityTable


_LABELMAP = 2
"""Bytes per voxel: its label, and the mask of one target while it is written."""

_CLEAN_UP = 10
"""Bytes per voxel for finding components: the component's number, and two masks. The mask of each
target that is cleaned takes another."""

_NETWORK = 2**29
"""Bytes that a network needs for four slices at once; a third of it for one at a time."""


def beside_image(
    table: ModalityTable, modality: str | None, targets: Sequence[str] | str | None
) -> Beside:
    """Return the memory that segmenting takes in addition to an image.

    Args:
        table: Available modalities.
        modality: Name of the image's modality; None if only its file will tell, so any is possible.
        targets: As in :meth:`esp_medsam.modality.ModalityTable.select`.
    """
    possible = []
    for name in table.names if modality is None else [modality]:
        with suppress(TargetError):  # reported when the modality is settled
            possible.append(table.select(name, targets))
    count = max(map(len, possible), default=0)
    cleaned = max((sum(t.clean_up != CleanUp() for t in chosen) for chosen in possible), default=0)
    return Beside(
        per_voxel={
            f"the probability of {count} target{'' if count == 1 else 's'}": count,
            "the labelmap": _LABELMAP + (_CLEAN_UP + cleaned if cleaned else 0),
        },
        fixed={"the network": _NETWORK},
    )
