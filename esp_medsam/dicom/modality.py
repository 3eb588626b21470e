"""Determine the modality of a DICOM image from the user, else from DICOM; it is never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from esp_medsam.errors import ModalityConflictError, ModalityError
from esp_medsam.modality import ModalityTable, modality_needed


_STORAGE = "1.2.840.10008.5.1.4.1.1."

SOP_CLASS_MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        _STORAGE + ending: modality
        for modality, endings in {
            "CR": ("1",),
            "DX": ("1.1", "1.1.1"),
            "MG": ("1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"),
            "IO": ("1.3", "1.3.1"),
            "CT": ("2", "2.1", "2.2"),
            "MR": ("4", "4.1", "4.3", "4.4"),
            "US": ("3", "3.1", "6", "6.1", "6.2", "6.3"),
            "XA": ("12.1", "12.1.1", "13.1.1"),
            "RF": ("12.2", "12.2.1"),
            "NM": ("5", "20"),
            "PT": ("128", "128.1", "130"),
            "ES": ("77.1.1", "77.1.1.1"),
            "GM": ("77.1.2", "77.1.2.1"),
            "SM": ("77.1.3", "77.1.6"),
            "XC": ("77.1.4", "77.1.4.1"),
            "OP": ("77.1.5.1", "77.1.5.2"),
            "OPT": ("77.1.5.4",),
            "DMS": ("77.1.7",),
        }.items()
        for ending in endings
    }
)
"""The Modality that a SOP class stands for. Secondary capture stands for none."""

SECONDARY_CAPTURE = tuple(_STORAGE + ending for ending in ("7", "7.1", "7.2", "7.3", "7.4"))
"""SOP classes of pictures of any origin; their Modality names the scanner, not the content."""


class _Statement(NamedTuple):
    """What one attribute says, and which modalities of the table it can mean."""

    words: str
    names: tuple[str, ...]


def resolve_modality(
    dicom_modality: str | None,
    sop_class_uid: str | None,
    given: str | None,
    table: ModalityTable,
    *,
    force: bool = False,
    source: str,
) -> tuple[str, str]:
    """Return the modality of an image, and where it comes from.

    The user's choice is used if nothing in the file contradicts it, or if it is forced. Without a
    choice, the file's Modality (0008,0060) and SOP class decide, if they agree. Values that the
    table calls neutral, and secondary captures, leave the choice to the user.

    Args:
        dicom_modality: Modality (0008,0060); None or empty if the file has none.
        sop_class_uid: SOP Class UID (0008,0016); None or empty if the file has none.
        given: Name of a modality of the table, as given by the user; None if not given.
        table: Available modalities.
        force: Whether the user's choice overrides the file.
        source: The file or the volume, for messages.

    Returns:
        The name, and its origin: ``"user"``, ``"dicom"``, or ``"forced"`` if the file
        contradicts.

    Raises:
        ModalityError: If the user's choice is not in the table, or nothing states a modality.
        ModalityConflictError: If the file contradicts the user or itself.
    """
    statements = _statements(dicom_modality, sop_class_uid, table)
    if given is not None:
        name = table[given].name
        against = [statement.words for statement in statements if name not in statement.names]
        if against and not force:
            msg = (
                f"modality must match the header of {source}; got {name}, but its "
                f"{' and its '.join(against)}. Pass the right one, or also `force_modality` if "
                "the file is wrong."
            )
            raise ModalityConflictError(msg)
        return name, "forced" if against else "user"
    unlisted = [statement.words for statement in statements if not statement.names]
    if unlisted:
        msg = (
            f"{source} must be of a modality in the table ({', '.join(table.names)}); "
            f"its {' and its '.join(unlisted)}."
        )
        raise ModalityError(msg)
    if not statements or sop_class_uid in SECONDARY_CAPTURE:
        raise modality_needed(table.names, source, _reason_open(dicom_modality, sop_class_uid))
    agreed = [n for n in statements[0].names if all(n in s.names for s in statements)]
    words = " and its ".join(statement.words for statement in statements)
    if not agreed:
        msg = (
            f"{source} must state one modality; its {words}. "
            "Pass `modality` with the right one, and `force_modality`."
        )
        raise ModalityConflictError(msg)
    if len(agreed) > 1:
        raise modality_needed(table.names, source, f"its {words}")
    return agreed[0], "dicom"


def _statements(
    dicom_modality: str | None, sop_class_uid: str | None, table: ModalityTable
) -> list[_Statement]:
    """Return what the file says about its modality, without values that leave it open."""
    found = {
        "DICOM Modality": (dicom_modality or "").strip().upper(),
        "SOP class": SOP_CLASS_MODALITIES.get((sop_class_uid or "").strip(), ""),
    }
    statements = []
    for attribute, value in found.items():
        if not value or value in table.neutral_dicom_modalities:
            continue
        names = tuple(m.name for m in table.modalities if value in m.dicom_modalities)
        meaning = " or ".join(names) or "no modality of the table"
        verb = "says" if attribute == "DICOM Modality" else "stands for"
        statements.append(_Statement(f"{attribute} {verb} {value!r} ({meaning})", names))
    return statements


def _reason_open(dicom_modality: str | None, sop_class_uid: str | None) -> str:
    """Return why the file does not state its modality."""
    if sop_class_uid in SECONDARY_CAPTURE:
        return "a secondary capture does not say it"
    if dicom_modality:
        return f"its DICOM Modality {dicom_modality!r} leaves it open"
    return "its DICOM Modality is empty"
