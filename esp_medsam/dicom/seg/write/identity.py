"""Make the UIDs and times of a segmentation object, new or reproducible."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from pydicom.uid import UID

from esp_medsam.dicom.seg.write.segments import as_json
from esp_medsam.image import Image
from esp_medsam.modality import Target


_NO_DATE, _NO_TIME = "20000101", "000000"
"""Date and time of a reproducible object if its study has none: the attributes are required."""


@dataclass(frozen=True, kw_only=True)
class SegIdentity:
    """The UIDs and times that distinguish one segmentation object from all others.

    Attributes:
        instance_uid: SOP Instance UID.
        series_uid: Series Instance UID.
        dimension_uid: Dimension Organization UID.
        date: Content Date.
        time: Content Time.
    """

    instance_uid: str
    series_uid: str
    dimension_uid: str
    date: str
    time: str


def new_identity() -> SegIdentity:
    """Return new unique UIDs and the current time."""
    now = datetime.now(tz=timezone.utc).astimezone()  # DICOM's times are local
    uids = [f"2.25.{uuid.uuid4().int}" for _ in range(3)]
    return SegIdentity(
        instance_uid=uids[0],
        series_uid=uids[1],
        dimension_uid=uids[2],
        date=now.strftime("%Y%m%d"),
        time=now.strftime("%H%M%S"),
    )


def fixed_identity(
    image: Image,
    targets: Sequence[Target],
    made_with: Mapping[str, Any],
    study_time: tuple[str, str] = ("", ""),
) -> SegIdentity:
    """Return an identity derived from all that a result depends on, so that a re-run has it too.

    UIDs are derived from a hash as in PS3.5 B.2; date and time are those of the study.

    Args:
        image: Record of the source; its instances and frames count, but not their file paths.
        targets: The chosen targets, with all that the table states about them.
        made_with: Storage kind of the segments, weights, version and settings.
        study_time: Study Date, eight digits, and Study Time, six; empty if missing.
    """
    facts = {
        **made_with,
        "study": image.study_uid,
        "series": image.series_uid,
        "sources": [(s.sop_instance_uid, s.frame) for s in image.sources],
        "modality": image.modality,
        "targets": [asdict(target) for target in targets],
    }
    content = as_json(facts)
    date, time = study_time if study_time[0] else (_NO_DATE, _NO_TIME)
    return SegIdentity(
        instance_uid=_uid("instance", content),
        series_uid=_uid("series", content),
        dimension_uid=_uid("dimension", content),
        date=date,
        time=time or _NO_TIME,
    )


def _uid(role: str, content: str) -> str:
    digest = hashlib.sha256(f"esp-medsam {role} {content}".encode("ascii")).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")
