"""Store spooled results, and remove each once the PACS is proved to hold it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom import Dataset, dcmread
from pydicom.pixels.utils import get_expected_length

from esp_medsam.errors import CorruptFileError, EspMedSamError, PacsError, explain
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.query import is_uid
from esp_medsam.integrations.dicomweb.spool import Spool
from esp_medsam.quiet import quietly
from esp_medsam.regular_file import open_regular


_LOOKS = 4
"""Times that a PACS is asked for what it has just taken: some show it a little later."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of an object.

    Attributes:
        instance_uid: Its SOP Instance UID.
        status: ``stored`` now; ``held`` by the PACS before; ``failed``, and kept in the spool.
        code: Stable code of the failure; None without one.
        message: What is wrong, one line; empty without a failure.
        warnings: What the PACS warns of.
    """

    instance_uid: str
    status: Literal["stored", "held", "failed"]
    code: str | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()


def read_object(path: Path) -> Dataset:
    """Return a DICOM object whose UIDs are UIDs, and whose pixels, not compressed, are all there.

    Raises:
        CorruptFileError: If the file is damaged.
    """
    try:
        with quietly(), open_regular(path) as file:
            dataset = dcmread(file)
            uids = [dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID]
            is_whole = len(dataset.PixelData) >= get_expected_length(dataset)
    except Exception:  # pydicom names no set of errors of damaged files
        uids, is_whole = [], False
    if not is_whole or not all(is_uid(str(uid)) for uid in uids):
        msg = (
            f"{path} must be a whole DICOM file with its UIDs; it is not. Remove it, and run the "
            "command again that made it."
        )
        raise CorruptFileError(msg)
    return dataset


def send(pacs: Pacs, entry: Path) -> Sent:
    """Give the PACS what waits in a file, and remove the file once it is proved to be there.

    Where the file is gone, another run has done so.

    Raises:
        PacsError: If it is not; the file stays.
        CorruptFileError: If the file is damaged.
    """
    try:
        dataset = read_object(entry)
    except CorruptFileError:
        if os.path.lexists(entry):
            raise
        return Sent(instance_uid=entry.name.removesuffix(".dcm"), status="held")
    uid = str(dataset.SOPInstanceUID)
    sent, warnings = pacs.store(dataset)
    if sent:
        _prove(pacs, dataset)
    entry.unlink(missing_ok=True)
    return Sent(instance_uid=uid, status="stored" if sent else "held", warnings=warnings)


def _prove(pacs: Pacs, dataset: Dataset) -> None:
    """Make sure that the PACS shows an object that it said it stored."""
    uids = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
    for look in range(_LOOKS):
        if pacs.holds(*uids):
            return
        if look < _LOOKS - 1:
            pacs.backoff.sleep(pacs.backoff.first * 2**look)
    msg = (
        f"The PACS at {pacs.url} must show instance {uids[2]}, which it said it stored; it does "
        "not yet. Send it again with `resend`."
    )
    raise PacsError(msg)


def resend(pacs: Pacs, spool: Spool) -> Iterator[Sent]:
    """Send all that waits in a spool, one result for each object.

    Args:
        pacs: Where it goes: the spool's own server, unless the user said otherwise.
        spool: What waits.
    """
    for entry in spool.entries():
        uid = entry.name.removesuffix(".dcm")
        try:
            yield send(pacs, entry)
        except EspMedSamError as error:
            code, _, message = (explain(error) or "").partition(": ")
            yield Sent(instance_uid=uid, status="failed", code=code, message=message)
