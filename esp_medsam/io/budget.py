"""Estimate the memory that segmentation needs beside an image.

Held to by benchmarks/segment_memory.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from esp_medsam.errors import TargetError
from esp_medsam.memory import Beside
from esp_medsam.modality import CleanUp, ModalityTable


_LABELMAP = 5
"""Bytes of a voxel: its label, the highest probability so far, two masks, and one to write it."""

_CLEAN_UP = 10
"""Bytes of a voxel whose component is sought: the component's number, and two masks."""

_NETWORK = 2**29
"""Bytes of what a network computes of four slices; of one at a time a third of it."""


def beside_image(
    table: ModalityTable, modality: str | None, targets: Sequence[str] | str | None
) -> Beside:
    """Return what segmenting takes beside an image.

    Args:
        table: Modalities at hand.
        modality: Name of the image's; None where only its file will say it, and any may be.
        targets: As :meth:`esp_medsam.modality.ModalityTable.select` takes them.
    """
    possible = []
    for name in table.names if modality is None else [modality]:
        with suppress(TargetError):  # told where the modality is settled
            possible.append(table.select(name, targets))
    count = max(map(len, possible), default=0)
    cleans = any(target.clean_up != CleanUp() for chosen in possible for target in chosen)
    return Beside(
        per_voxel={
            f"the probability of {count} target{'' if count == 1 else 's'}": count,
            "the labelmap": _LABELMAP + (_CLEAN_UP if cleans else 0),
        },
        fixed={"the network": _NETWORK},
    )
