"""Readable names of DICOM results, from coded terms and numbers only."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from esp_medsam.dicom.dicom_file import opened
from esp_medsam.dicom.elements import Elements, tags_of
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import EspMedSamError, FormatError
from esp_medsam.io.item import Item
from esp_medsam.io.output_path import output_stem
from esp_medsam.io.record import read_record
from esp_medsam.modality import ModalityTable
from esp_medsam.terms import body_part


READABLE = "readable"
"""Value of the option that asks for readable names."""

_DIGEST = 8
"""Hexadecimal digits that distinguish two results with the same readable name."""

_TAGS = tags_of("BodyPartExamined", "SeriesNumber")


def readable_name(volume: DicomVolume, modality: str, table: ModalityTable) -> str:
    """Return a readable name for a volume, such as ``CT_abdomen_3``.

    The name consists of Modality, Body Part Examined, Series Number and a suffix that distinguishes
    volumes of the same series. Missing values and uncoded terms are left out, so the name never
    identifies a patient.

    Args:
        volume: The volume, as its headers describe it.
        modality: Name of its modality in the table, used if the file's own is not a known term.
        table: Available modalities.
    """
    with opened(volume.slices[0].source.path) as file:
        elements = file.elements(_TAGS, last=max(_TAGS))
    part, number = _text(elements, "BodyPartExamined"), _text(elements, "SeriesNumber")
    stated = (volume.dicom_modality or "").strip().upper()
    known = {value for entry in table.modalities for value in entry.dicom_modalities}
    known |= {*table.neutral_dicom_modalities, *SOP_CLASS_MODALITIES.values()}
    pieces = [
        stated if stated in known else modality,
        body_part(part),
        str(int(number)) if re.fullmatch(r"\d{1,9}", number) else None,
        volume.name.removeprefix(volume.series_uid or "?").strip("_") if volume.split else None,
    ]
    return "_".join(piece for piece in pieces if piece)


def _text(elements: Elements, attribute: str) -> str:
    """Return a text, empty if it is invalid: a name is no reason to refuse an image."""
    try:
        return elements.text(attribute)
    except FormatError:
        return ""


def with_names(
    items: Sequence[tuple[Item, str]], output_dir: Path | None, *, readable: bool
) -> list[Item]:
    """Return items with their output names, and the names that other options would give them.

    A readable name ends in part of a hash of the volume's UID if other items of the run share the
    name, or if the output folder already has it for another image.

    Args:
        items: Each item with its readable name, empty if it has none.
        output_dir: Output folder; None if there is no output.
        readable: Whether DICOM results get the readable name rather than their UID.
    """
    counts = Counter((short or item.name).casefold() for item, short in items)
    named = []
    for item, short in items:
        if not short:
            named.append(item)
            continue
        uid = item.name
        long = f"{short}_{hashlib.sha256(uid.encode()).hexdigest()[:_DIGEST]}"
        is_own = counts[short.casefold()] == 1 and not _is_of_another(item, short, output_dir)
        name = (short if is_own else long) if readable else uid
        others = tuple(other for other in (uid, short, long) if other != name)
        named.append(replace(item, name=name, other_names=item.other_names + others))
    return named


def _is_of_another(item: Item, name: str, output_dir: Path | None) -> bool:
    """Whether a result of that name exists and is not known to belong to this image."""
    if output_dir is None:
        return False
    try:
        record = read_record(output_stem(output_dir, item.relative_dir, name))
    except EspMedSamError:
        return True
    return record is not None and record.get("volume") != item.volume_name
