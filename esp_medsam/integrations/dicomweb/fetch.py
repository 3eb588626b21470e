"""Fetch a series completely, or fail; a partial series is never passed on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from esp_medsam.dicom.dicom_file import is_dicom
from esp_medsam.dicom.header import read_header
from esp_medsam.dicom.modality import SECONDARY_CAPTURE
from esp_medsam.errors import CorruptFileError, EspMedSamError, PacsError, PacsIncompleteError
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.query import Series


IMAGE, LOCALIZER, CAPTURE, OTHER = "image", "localizer", "secondary capture", "no image"
"""Kinds of content of a file."""


def check_listed(series: Series, instances: list[str]) -> None:
    """Refuse a list of instances that is shorter than the count that the PACS states.

    Raises:
        PacsIncompleteError: If the list is shorter.
    """
    claimed = series.count or 0
    if not instances or len(instances) < claimed:
        msg = (
            f"Series {series.series_uid} must be listed completely; the PACS says that it has "
            f"{series.count if series.count is not None else 'some'} instances and lists "
            f"{len(instances)}. Run again once it is complete."
        )
        raise PacsIncompleteError(msg)


def fetch_series(
    pacs: Pacs, series: Series, instances: list[str], folder: Path, *, captures: bool = True
) -> Counter[str]:
    """Save every instance of a series, and check that each is complete and none is missing.

    Args:
        pacs: The PACS.
        series: The series.
        instances: UIDs of its instances, as listed by the PACS before.
        folder: Empty folder for the files; only those with images to segment stay.
        captures: Whether secondary captures are images to segment.

    Returns:
        Number of files of each kind: ``IMAGE``, ``LOCALIZER``, unwanted ``CAPTURE``, ``OTHER``.

    Raises:
        PacsIncompleteError: If an instance is missing, cut short, or not the requested one, or if
            the PACS lists other instances afterwards.
        OutputError: If a file cannot be written.
    """
    kinds: Counter[str] = Counter()
    for uid in instances:
        path = folder / f"{uid}.dcm"
        try:
            pacs.fetch(series, uid, path)
            kind = _kind_of(path, series, uid, captures=captures)
        except (PacsError, CorruptFileError) as error:
            # At once; otherwise, a PACS that is down would be waited for at every instance.
            msg = (
                f"Series {series.series_uid} must arrive completely; {kinds.total()} of "
                f"{len(instances)} instances did, instance {uid} did not: {error}"
            )
            raise PacsIncompleteError(msg) from error
        kinds[kind] += 1
        if kind != IMAGE:
            path.unlink()
    after = pacs.find_instances(series)
    if after != instances:
        msg = (
            f"Series {series.series_uid} must not change while it is fetched; the PACS listed "
            f"{len(instances)} instances before and {len(after)} after. Run again once it is "
            "complete."
        )
        raise PacsIncompleteError(msg)
    return kinds


def _kind_of(path: Path, series: Series, instance_uid: str, *, captures: bool) -> str:
    """Return the kind of a file, after checking that it is complete and the requested one.

    Raises:
        PacsIncompleteError: If it is another instance, or belongs to another series or study.
        CorruptFileError: If it is damaged, or has fewer pixels than it states.
    """
    if not is_dicom(path):
        msg = f"{path} must be a complete DICOM file; it is not."
        raise CorruptFileError(msg)
    try:
        header = read_header(path)
    except CorruptFileError:
        raise
    except EspMedSamError:  # an unsupported kind: reported when items are planned
        return IMAGE
    if header is None:
        return OTHER
    if isinstance(header.problem, CorruptFileError):
        raise header.problem
    if header.series_uid is None:
        msg = f"{path} must state its series; it does not, and may be cut short."
        raise CorruptFileError(msg)
    stated = (header.study_uid, header.series_uid, header.sop_instance_uid)
    asked = (series.study_uid, series.series_uid, instance_uid)
    if any(uid not in (None, wanted) for uid, wanted in zip(stated, asked, strict=True)):
        msg = "the PACS sent another instance, or one of another series or study."
        raise PacsIncompleteError(msg)
    localizers = ["LOCALIZER" in piece.image_type for piece in header.slices]
    if localizers and all(localizers):
        return LOCALIZER
    return CAPTURE if header.sop_class_uid in SECONDARY_CAPTURE and not captures else IMAGE
