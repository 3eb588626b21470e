"""Decide from the header whether CT values are Hounsfield units."""

from __future__ import annotations

import re

from esp_medsam.dicom.elements import length_of
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES


HU = "HU"

_HU = re.compile(
    r"HU|H\.U\.?|(CT[ _-])?HOUNSFIELD([ _-]?(UNITS?|UNIT\(S\)|SCALE|VALUES?|NUMBERS?))?"
    r"( ?[\[(]HU[\])])?",
    re.IGNORECASE,
)
"""Spellings of HU in files. HU_MOD, modified Hounsfield units, is a different unit."""

_CODE = re.compile(r"[A-Z0-9_]{1,8}|[a-z]{1,2}/?[a-z]{1,2}[0-9]?|[0-9]{0,2}%")
"""Units that may be shown, such as US, OD, Z_EFF, PCT, g/ml; other text may name a patient."""


def is_hu(text: str) -> bool:
    """Whether a Rescale Type or Modality LUT Type states Hounsfield units."""
    return _HU.fullmatch(" ".join(text.split())) is not None


def unit_text(text: str) -> str:
    """Return a unit as its file states it if it is a short code, otherwise only its length."""
    return text if _CODE.fullmatch(text) else length_of(text)


def against_hu(said: set[str], sop_class_uid: str) -> tuple[str, ...]:
    """Return the reasons against Hounsfield units, in words; empty if the values are in HU.

    A CT that states a rescaling and no other unit is in HU, by its SOP class. If the class stands
    for no modality, such as a secondary capture or a class replaced to anonymize a file, every
    slice must state HU.

    Args:
        said: Statements of the slices: ``HU``, empty for a rescaling without a unit, or a reason
            against HU.
        sop_class_uid: SOP Class UID.

    Reference:
        DICOM PS3.3 C.8.2.1.1.2 and C.11.1.1.2.
    """
    implied = SOP_CLASS_MODALITIES.get(sop_class_uid)
    if implied not in (None, "CT"):
        return (f"its SOP class stands for {implied}",)
    others = tuple(sorted(said - {HU, ""}))
    if others or implied == "CT" or said == {HU}:
        return others
    return ("its SOP class is not a CT class, and it has no Rescale Type",)
