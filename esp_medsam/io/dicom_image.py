"""Read a DICOM file, or a series in a folder, into an Image record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from esp_medsam.dicom.dicomdir import is_dicomdir
from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.dicom.scan import find_volumes, list_files
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import EmptyInputError, OptionError
from esp_medsam.image import Image
from esp_medsam.memory import NOTHING, Beside


_NAMED = 10
"""Volumes that a message names; the rest is counted."""


def read_dicom(
    path: Path,
    *,
    volume: str | None = None,
    files: Sequence[str] | None = None,
    join: Sequence[str] = (),
    beside: Beside = NOTHING,
) -> Image:
    """Return one volume or image, pixels included; its modality is not settled.

    Args:
        path: A file, or a folder of which the files are taken but not the folders below.
        volume: Name of the volume where there are several: its Series Instance UID, with what
            tells it from others of its series.
        files: Files of the folder to take alone; None takes all.
        join: What to join that files keep apart, of :data:`esp_medsam.dicom.joining.JOINS`.
        beside: What must fit in memory beside it.

    Raises:
        EmptyInputError: If there is no DICOM image.
        OptionError: If there are several volumes and none is chosen, or the chosen one is missing.
        EspMedSamError: If it cannot be read; see :func:`esp_medsam.io.read`.
    """
    chosen = choose_volume(path, volume, files, join)
    content = read_pixels(chosen, beside)
    own = volume if files is not None and volume is not None else chosen.name
    return Image(
        path=os.fspath(path),
        name=own,
        volume=own,
        grid=chosen.grid,
        pixels=content.pixels,
        unit=content.unit,
        unit_origin=content.unit and "dicom",
        other_unit=content.other_unit,
        warnings=(*chosen.warnings, *content.warnings),
        dicom_modality=chosen.dicom_modality,
        sources=tuple(piece.source for piece in chosen.slices),
        study_uid=chosen.study_uid,
        series_uid=chosen.series_uid,
        frame_of_reference_uid=chosen.frame_of_reference_uid,
        joined=chosen.joined,
        window=content.window,
        inverted=content.inverted,
        ultrasound_regions=content.ultrasound_regions,
    )


def choose_volume(
    path: Path,
    volume: str | None,
    files: Sequence[str] | None = None,
    join: Sequence[str] = (),
) -> DicomVolume:
    """Return the volume of that name, or the only one.

    Raises:
        EmptyInputError: If there is no DICOM image.
        OptionError: If there are several and none is chosen, or the chosen one is missing.
        EspMedSamError: Why the chosen or only one cannot be read.
    """
    found = find_volumes(path, files, join)
    if files is not None:
        if len(found.volumes) == 1 and not found.refused:
            return found.volumes[0]  # alone it needs nothing in its name to tell it from others
        if volume not in {entry.name for entry in found.volumes}:
            # What cannot be read beside it was told, or left out by the user, as it was planned.
            found = find_volumes(path, list_files(path), join)
    held = {entry.name: entry for entry in found.volumes}
    refused = dict(found.refused)
    names = [*held, *refused]
    if not names and is_dicomdir(path):
        msg = f"{path} must be an image, or a folder; it is a DICOMDIR. Pass its folder."
        raise EmptyInputError(msg)
    if not names:
        msg = f"{path} must hold a DICOM image; it holds {len(found.others)} other files."
        raise EmptyInputError(msg)
    if volume is None and len(names) > 1:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        msg = (
            f"{path} holds {len(names)} DICOM volumes ({', '.join(names[:_NAMED])}{more}); "
            "choose one by --series."
        )
        raise OptionError(msg)
    former = {entry.former_name: entry.name for entry in found.volumes}
    name = names[0] if volume is None else _matching(names, former.get(volume, volume), path)
    if name in refused:
        raise refused[name]
    return held[name]


def _matching(names: list[str], volume: str, path: Path) -> str:
    """Return the one name that is ``volume``, or begins with it as its series."""
    matching = [n for n in names if n == volume] or [n for n in names if n.startswith(f"{volume}_")]
    if len(matching) != 1:
        held = ", ".join((matching or names)[:_NAMED])
        msg = f"series must name one volume of {path}, one of {held}; got {volume}."
        raise OptionError(msg)
    return matching[0]
