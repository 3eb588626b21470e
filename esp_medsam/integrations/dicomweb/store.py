"""Store spooled results, and remove each one when the PACS is proved to hold it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.pixels.utils import get_expected_length

from esp_medsam.errors import CorruptFileError, PacsError
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.outcome import PacsResult, instance_label
from esp_medsam.integrations.dicomweb.query import is_uid
from esp_medsam.integrations.dicomweb.spool import Spool, uid_of
from esp_medsam.quiet import quietly
from esp_medsam.regular_file import open_regular
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.results import failure


_LOOKS = 4
"""Number of times a PACS is asked for an object it just stored: some list it a little later."""


def read_object(path: Path) -> Dataset:
    """Return a DICOM object, after checking that its UIDs are valid and its raw pixels complete.

    Raises:
        CorruptFileError: If the file is damaged.
    """
    try:
        with quietly(), open_regular(path) as file:
            dataset = dcmread(file)
            uids = [dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID]
            is_whole = len(dataset.PixelData) >= get_expected_length(dataset)
    except Exception:  # pydicom documents no set of errors for damaged files
        uids, is_whole = [], False
    if not is_whole or not all(is_uid(str(uid)) for uid in uids):
        msg = (
            f"{path} must be a whole DICOM file with its UIDs; it is not. Remove it, and run the "
            "command again that made it."
        )
        raise CorruptFileError(msg)
    return dataset


def send(pacs: Pacs, entry: Path) -> PacsResult:
    """Send the object in a file to the PACS, and remove the file once the PACS is shown to hold it.

    If the file is gone, another run has sent it.

    Raises:
        PacsError: If the PACS does not hold the object; the file stays.
        CorruptFileError: If the file is damaged.
    """
    try:
        dataset = read_object(entry)
    except CorruptFileError:
        if os.path.lexists(entry):
            raise
        return _sent(uid_of(entry), "held")
    uid = str(dataset.SOPInstanceUID)
    sent, warnings = pacs.store(dataset)
    if sent:
        _prove(pacs, dataset)
    entry.unlink(missing_ok=True)
    return _sent(uid, "stored" if sent else "held", warnings)


def _sent(uid: str, status: str, warnings: tuple[str, ...] = ()) -> PacsResult:
    label = instance_label(uid)
    return PacsResult(path=label, status=status, instance_uid=uid, warnings=warnings)


def _prove(pacs: Pacs, dataset: Dataset) -> None:
    """Check that the PACS lists an object that it reported as stored."""
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


def resend(pacs: Pacs, spool: Spool) -> Iterator[PacsResult]:
    """Send all waiting objects of a spool, and yield one result for each.

    Args:
        pacs: Destination: the spool's own server, unless the user chose another.
        spool: Spool with the waiting objects.
    """
    return each_alone(
        spool.entries(),
        lambda entry: send(pacs, entry),
        lambda entry, error: failure(instance_label(uid_of(entry)), error, kind=PacsResult),
    )
