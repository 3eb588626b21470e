"""Choose a DICOM volume in a file or folder, and read it into an Image record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from esp_medsam.dicom.dicomdir import is_dicomdir
from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.dicom.scan import find_volumes
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import EmptyInputError, InputChangedError, OptionError
from esp_medsam.identity import identify
from esp_medsam.image import Image
from esp_medsam.memory import NOTHING, Beside


_NAMED = 10
"""Number of volumes that a message names; the others are only counted."""


def read_dicom(
    path: Path, found: DicomVolume, *, join: Sequence[str] = (), beside: Beside = NOTHING
) -> Image:
    """Return one volume or image, pixels included; its modality is not settled yet.

    Args:
        path: Its file, or the folder that holds its files.
        found: Volume as described by the headers of the files.
        join: What was joined, from :data:`esp_medsam.dicom.joining.JOINS`.
        beside: What must fit in memory in addition to the volume.

    Raises:
        InputChangedError: If the files now hold another volume.
        EspMedSamError: If the volume cannot be read; see :func:`esp_medsam.io.read`.
    """
    identity = identify(file for file, _ in found.states)
    if tuple((file.path, file.state) for file in identity.files) != found.states:
        found = _found_again(path, found, join)
    content = read_pixels(found, beside)
    return Image(
        path=os.fspath(path),
        name=found.name,
        volume=found.name,
        grid=found.grid,
        pixels=content.pixels,
        unit=content.unit,
        unit_origin=content.unit and "dicom",
        other_unit=content.other_unit,
        warnings=(*found.warnings, *content.warnings),
        dicom_modality=found.dicom_modality,
        sources=tuple(piece.source for piece in found.slices),
        study_uid=found.study_uid,
        series_uid=found.series_uid,
        frame_of_reference_uid=found.frame_of_reference_uid,
        joined=found.joined,
        window=content.window,
        inverted=content.inverted,
        ultrasound_regions=content.ultrasound_regions,
        identity=identity,
    )


def _found_again(path: Path, found: DicomVolume, join: Sequence[str]) -> DicomVolume:
    """Return a volume as its headers describe it now, after its files have changed.

    Raises:
        InputChangedError: If the files now hold another volume.
    """
    files = {file for file, _ in found.states}
    same = [
        volume
        for volume in find_volumes(path, sorted(files), join).volumes
        if {file for file, _ in volume.states} == files and volume.series_uid == found.series_uid
    ]
    named = [volume for volume in same if volume.name == found.name] or same
    if len(named) != 1:
        msg = (
            f"{path} must not change before it is read; the files of {found.name} now hold "
            "another volume. Run again."
        )
        raise InputChangedError(msg)
    return replace(named[0], name=found.name, warnings=found.warnings)


def choose_volume(path: Path, volume: str | None = None, join: Sequence[str] = ()) -> DicomVolume:
    """Return the volume with the given name, or the only one.

    Args:
        path: A file, or a folder; files in its subfolders are not read.
        volume: Name of the volume if there are several: its Series Instance UID, plus what
            distinguishes it from other volumes of its series.
        join: What to join that files keep apart, from :data:`esp_medsam.dicom.joining.JOINS`.

    Raises:
        EmptyInputError: If there is no DICOM image.
        OptionError: If there are several and none is chosen, or the chosen one is missing.
        EspMedSamError: If the chosen or only volume cannot be read; the error says why.
    """
    found = find_volumes(path, join=join)
    held = {entry.name: entry for entry in found.volumes}
    refused = dict(found.refused)
    names = [*held, *refused]
    if not names and is_dicomdir(path):
        msg = f"{path} must be an image, or a folder; it is a DICOMDIR. Pass its folder."
        raise EmptyInputError(msg)
    if not names:
        msg = f"{path} must hold a DICOM image; got {len(found.others)} other files."
        raise EmptyInputError(msg)
    if volume is None and len(names) > 1:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        msg = (
            f"{path} holds {len(names)} DICOM volumes ({', '.join(names[:_NAMED])}{more}); "
            "choose one by `series`."
        )
        raise OptionError(msg)
    former = {entry.former_name: entry.name for entry in found.volumes}
    name = names[0] if volume is None else _matching(names, former.get(volume, volume), path)
    if name in refused:
        raise refused[name]
    return held[name]


def _matching(names: list[str], volume: str, path: Path) -> str:
    """Return the one name that equals ``volume``, or whose series is ``volume``."""
    matching = [n for n in names if n == volume] or [n for n in names if n.startswith(f"{volume}_")]
    if len(matching) != 1:
        held = ", ".join((matching or names)[:_NAMED])
        msg = f"series must name one volume of {path}, one of {held}; got {volume}."
        raise OptionError(msg)
    return matching[0]
