"""Labels that clients save: which values mean which target, their masks, and items of datalists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import EspMedSamError, OptionError, TargetError, one_of, quoted
from esp_medsam.image import Image
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.modality import Modality, ModalityTable
from esp_medsam.workflows.datalist import Mask
from esp_medsam.workflows.datalist_images import MaskReader


MOST_VALUE = 255
"""Largest value of a segment in a label."""

UNUSED = "unused_"
"""Beginning of the names of values that no target has."""


class FinalLabel(NamedTuple):
    """An image and the label that a user approved.

    Attributes:
        image: A file, or the folder of a DICOM series.
        label: File of the label.
        info: What the client sent with it.
        patient: What the images of a patient have in common.
    """

    image: Path
    label: Path
    info: Mapping[str, Any]
    patient: str


def label_names(modality: Modality) -> dict[str, int]:
    """Return the value of each target, in ascending order and without a gap.

    3D Slicer takes the n-th name for the value n, so that values that no target has get a name too,
    and all targets are named, whichever were asked for.

    Args:
        modality: The modality, with its targets.
    """
    names = {target.label: target.name for target in modality.targets}
    return {names.get(value, f"{UNUSED}{value}"): value for value in range(1, max(names) + 1)}


def values_of(info: Mapping[str, Any], modality: Modality) -> dict[str, int]:
    """Return the value of each target in a label.

    Clients number the segments of a label as they like, and say so in ``label_info``, a list of
    ``name`` and ``idx``. Without it, values are those of the table, which ``/info/`` shows.

    Args:
        info: What the client sent with the label.
        modality: Modality of the image, with its targets.

    Raises:
        TargetError: If a segment is called like no target.
        OptionError: If two segments have the same value.
    """
    segments = info.get("label_info")
    if not isinstance(segments, list) or not segments:
        return {target.name: target.label for target in modality.targets}
    names = [target.name for target in modality.targets]
    values: dict[str, int] = {}
    for number, segment in enumerate(segments, start=1):
        name = str(segment.get("name")) if isinstance(segment, Mapping) else str(segment)
        if name == "background" or name.startswith(UNUSED):
            continue
        if name not in names:
            msg = f"label_info {one_of(names)}; got {quoted(name)}."
            raise TargetError(msg)
        index = segment.get("idx", number) if isinstance(segment, Mapping) else number
        is_value = type(index) is int and 1 <= index <= MOST_VALUE
        if not is_value or index in values.values() or name in values:
            msg = f"label_info must have each name and each idx, 1 to {MOST_VALUE}, once; got "
            raise OptionError(msg + f"{quoted(str(index))} for {name}.")
        values[name] = index
    if not values:
        msg = f"label_info must name a target, {', '.join(names)}; it names none."
        raise OptionError(msg)
    return values


def masks_of(
    label: Path, image: Image, values: Mapping[str, int], table: ModalityTable
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the mask of each target that a label holds, on the grid of its image.

    Args:
        label: File of the label.
        image: Record of the image.
        values: Value of each target in the label.
        table: Available modalities and targets.

    Raises:
        OptionError: If the label is not on the grid of the image, or holds another value.
    """
    stored = MaskReader(image, table).stored(Mask(path=str(label), values=tuple(values.values())))
    assert stored.pixels is not None, "just read"
    found = set(np.unique(stored.pixels[0]).tolist()) - {0}
    if unknown := sorted(found - set(values.values())):
        named = ", ".join(f"{value} {name}" for name, value in values.items())
        msg = f"label must only hold values of targets, {named}; got {unknown[0]}."
        raise OptionError(msg)
    return {name: stored.pixels[0] == value for name, value in values.items() if value in found}


def absent_of(info: Mapping[str, Any], modality: Modality) -> list[str]:
    """Return the targets that a client says are not in an image.

    Raises:
        TargetError: If it names what is no target.
    """
    absent = info.get("absent") or []
    known = {target.name for target in modality.targets}
    if not isinstance(absent, list) or not known.issuperset(map(str, absent)):
        msg = f"absent must be a list of targets of {modality.name}; got {quoted(str(absent))}."
        raise TargetError(msg)
    return [str(name) for name in absent]


@contextmanager
def unnamed(path: Path, name: str = "image") -> Iterator[None]:
    """Put a name in place of a path, which is of this machine, in what is told about it."""
    try:
        yield
    except EspMedSamError as error:
        error.args = (str(error).replace(str(path), name), *error.args[1:])
        raise


def item_of(final: FinalLabel, modality: str, table: ModalityTable) -> dict[str, Any]:
    """Return the item of a final label.

    Targets without a voxel are unknown, even if the client lists them in ``label_info``: clients
    list whatever segments a user could have drawn. ``absent`` names targets that are not there.

    Raises:
        EspMedSamError: If the image cannot be read, or the label is not on its grid or names other
            targets.
    """
    image = settle_modality(read(final.image), modality, table, force=False)
    values = values_of(final.info, table[modality])
    found = masks_of(final.label, image, values, table)
    absent = absent_of(final.info, table[modality])
    masks = {name: {"path": str(final.label), "values": [values[name]]} for name in found}
    return {
        "image": str(final.image),
        "modality": modality,
        "patient": final.patient,
        "labels": masks,
        "absent": [name for name in absent if name not in found],
    }
