"""Report what a run skips: other files, and images of other modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.errors import EmptyInputError, one_line
from esp_medsam.io.formats import SUFFIXES
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.archives import archive_kind


_NAMED = 5
"""Files, or volumes, that are named; the rest is counted."""


def nothing_taken(
    root: Path,
    others: Sequence[str],
    outputs: Sequence[str],
    series: str | None,
    not_named: Sequence[str],
) -> EmptyInputError:
    """Say that nothing is there to take.

    Args:
        root: The input.
        others: Files that are no images.
        outputs: Outputs of earlier runs.
        series: The DICOM volume to take alone; None takes all.
        not_named: Names of the volumes that are there instead.
    """
    if series is not None:
        held = ", ".join(not_named[:_NAMED]) or "none"
        more = ", ..." if len(not_named) > _NAMED else ""
        return EmptyInputError(f"{root} must hold DICOM series {series}; got {held}{more}.")
    archives = [path for path in others if archive_kind(Path(path))]
    return EmptyInputError(
        f"{root} must hold at least one readable image ({', '.join(SUFFIXES)} or DICOM); "
        f"got {count_left_alone(others, outputs)}."
        + (f" Unpack the archives first: {_some(archives)}." if archives else "")
    )


def count_others(others: Sequence[str | Path]) -> str:
    """Return how many files are left alone, naming the first, in one line."""
    said = f"{len(others)} other file{'' if len(others) == 1 else 's'}"
    return f"{said} ({_some(others)})" if others else said


def _some(paths: Sequence[str | Path]) -> str:
    """Return the names of the first files, in one line."""
    named = ", ".join(Path(path).name for path in paths[:_NAMED])
    return one_line(named + (", ..." if len(paths) > _NAMED else ""))


def count_left_alone(others: Sequence[str], outputs: Sequence[str]) -> str:
    """Return how many files are left out, outputs of ours apart."""
    results = f"{len(outputs)} output{'' if len(outputs) == 1 else 's'} of earlier runs"
    return f"{count_others(others)}, {results}"


def is_left_alone(
    dicom_modality: str | None,
    sop_class_uid: str | None,
    modality: str,
    table: ModalityTable,
    *,
    takes_open: bool,
) -> bool:
    """Whether DICOM images that nobody named are left alone, by the one rule of all commands.

    They are where all that they say of their modality means another one. What contradicts itself
    is not: it is taken, so that it fails and is told.

    Args:
        dicom_modality: Modality (0008,0060); None or empty where there is none.
        sop_class_uid: SOP Class UID (0008,0016); None where it is not known.
        modality: Name of the modality that the run is for.
        table: Modalities at hand.
        takes_open: Whether images are taken that leave their modality open: a folder of them was
            chosen by someone; among a study's series screenshots of a CT are not what was asked
            for, unless DICOM has no other value for the modality.
    """
    value = (dicom_modality or "").strip().upper()
    said = {value, SOP_CLASS_MODALITIES.get((sop_class_uid or "").strip(), "")}
    said -= {"", *table.neutral_dicom_modalities}
    own = table[modality].dicom_modalities
    if said or takes_open:
        return bool(said) and said.isdisjoint(own)
    return bool(own) or value not in table.neutral_dicom_modalities


def counted(counts: Mapping[str, int], what: str) -> str:
    """Return how many were left alone, and of which modalities.

    As in ``2 series left alone: 1 KO, 1 MR``.

    Args:
        counts: Number of them by their Modality (0008,0060).
        what: What they are, in the plural.
    """
    return f"{sum(counts.values())} {what} left alone: {_kinds(counts)}"


def volumes_of_others(counts: Mapping[str, int]) -> str:
    """Return how many DICOM volumes are of other modalities than a run's, and of which.

    As in ``1 DICOM volume of another modality (1 MR)``.

    Args:
        counts: Number of them by their Modality (0008,0060).
    """
    number = sum(counts.values())
    what = "volume of another modality" if number == 1 else "volumes of other modalities"
    return f"{number} DICOM {what} ({_kinds(counts)})"


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
