"""Hash the patient of a DICOM file, enough to keep images of one patient together."""

from __future__ import annotations

import hashlib
from pathlib import Path

from esp_medsam.dicom.dicom_file import opened


_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021


def patient_hash(path: str | Path) -> str | None:
    """Return a hash of the Patient ID and its issuer; None if the file states no ID.

    The ID itself is never passed on. Hashes of short numbers can be reversed by trying all
    numbers, so the hash serves only for grouping and must not be written to any file.

    Raises:
        EspMedSamError: If the file cannot be read.
    """
    with opened(path) as file:
        elements = file.elements((_PATIENT_ID, _ISSUER), last=_ISSUER)
        patient, issuer = (elements.text(tag) for tag in (_PATIENT_ID, _ISSUER))
    if not patient:
        return None
    return hashlib.sha256(f"{issuer}\n{patient}".encode()).hexdigest()
