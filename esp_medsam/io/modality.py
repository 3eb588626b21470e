"""Settle what an image shows: its modality, and the unit of CT values."""

from __future__ import annotations

from dataclasses import replace

from esp_medsam.dicom.modality import resolve_modality
from esp_medsam.errors import ModalityError, check_one_of
from esp_medsam.image import Image
from esp_medsam.io.ct_units import CT_INPUTS, with_ct_unit
from esp_medsam.modality import ONLY_DICOM, ModalityTable, modality_needed


def settle_modality(
    image: Image,
    given: str | None,
    table: ModalityTable,
    *,
    force: bool = False,
    ct_input: str | None = None,
    ct_offset: float | None = None,
) -> Image:
    """Return an image with its modality, as stated by the user, else by DICOM, never guessed.

    Args:
        image: As :func:`esp_medsam.io.read` returns it, with its pixels.
        given: Modality that the user states, a name of ``table``; None leaves it to DICOM, and is
            refused for other formats.
        table: Available modalities.
        force: Whether ``given`` overrides what DICOM says.
        ct_input: What CT values are: ``"hu"`` or ``"windowed"``; None leaves it to DICOM, and takes
            other volumes to be in Hounsfield units. No effect on other modalities.
        ct_offset: What to add to the values of a gray CT picture to get Hounsfield units; None
            leaves pictures without a unit, so that they are refused.

    Raises:
        ModalityError: If the modality is unknown, not given, contradicted by DICOM, or settled
            already.
        OptionError: If ``ct_input`` is something else, or ``ct_offset`` does not apply.
        FormatError: If a CT holds no Hounsfield units.
    """
    if image.modality is not None:
        msg = (
            f"modality must be settled only once; that of {image.path} is {image.modality} already."
        )
        raise ModalityError(msg)
    if ct_input is not None:
        check_one_of("ct_input", ct_input, CT_INPUTS)
    name, origin = _modality(image, given, table, force=force)
    image = replace(image, modality=name, modality_origin=origin)
    return with_ct_unit(image, ct_input, ct_offset)


def _modality(
    image: Image, given: str | None, table: ModalityTable, *, force: bool
) -> tuple[str, str]:
    """Return the name of the modality, and who stated it."""
    if image.sources:
        source = f"{image.path} ({image.volume})"
        uid = image.sources[0].sop_class_uid
        return resolve_modality(image.dicom_modality, uid, given, table, force=force, source=source)
    if given is None:
        raise modality_needed(table.names, str(image.path), ONLY_DICOM)
    return table[given].name, "user"
