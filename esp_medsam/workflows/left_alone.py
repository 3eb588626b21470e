"""Which DICOM images a run leaves alone, because they are of another modality than it is for."""

from __future__ import annotations

from collections.abc import Mapping

from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.modality import ModalityTable


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
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return f"{sum(counts.values())} {what} left alone: {kinds}"
