"""Series, frames of reference and interleaved volumes that files separate and a user may join.

Exports and anonymizers rewrite UIDs, sometimes for each file. Nothing in such files says what
belongs together, so files are joined only at the user's request, which is noted with the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from esp_medsam.dicom.geometry import is_usable
from esp_medsam.dicom.header import Header
from esp_medsam.dicom.split import count_places, split_series
from esp_medsam.errors import OptionError


SERIES, FRAME_OF_REFERENCE, INTERLEAVED = "series", "frame_of_reference", "interleaved"

JOINS = (SERIES, FRAME_OF_REFERENCE, INTERLEAVED)
"""What may be joined: lone slices that each state their own series, slices that each state their
own Frame of Reference, and volumes whose slices are interleaved."""

_LEAST = 3
"""Fewest adjacent lone slices that look like a stack that was taken apart."""

SeriesKey = tuple[str, str]
"""Series and Study Instance UID; empty if missing."""


def series_of(header: Header) -> SeriesKey:
    """Return the series that a file states."""
    return header.series_uid or "", header.study_uid or ""


def check_join(join: Iterable[str]) -> frozenset[str]:
    """Return what to join, after checking it.

    Raises:
        OptionError: If anything else is requested.
    """
    names = frozenset(join)
    for name in sorted(names):
        if name not in JOINS:
            msg = f"join must be one or more of {', '.join(JOINS)}; got {name!r}."
            raise OptionError(msg)
    return names


def with_series_joined(headers: Sequence[Header], join: frozenset[str]) -> list[Header]:
    """Return headers in which lone slices that may be one stack share their lowest series UID.

    Each slice keeps its original series UID in its source. The slices share study, SOP class,
    Modality, matrix and, unless frames of reference are joined as well, Frame of Reference.
    """
    if SERIES not in join:
        return list(headers)
    joined: dict[str, str] = {}
    for group in _lone(headers, same_frame=FRAME_OF_REFERENCE not in join):
        if len(group) > 1:
            least = min(header.series_uid or "" for header in group)
            joined |= dict.fromkeys((header.path for header in group), least)
    return [_of_series(h, joined[h.path]) if h.path in joined else h for h in headers]


def hints(headers: Sequence[Header]) -> dict[SeriesKey, str]:
    """Return notes on lone slices that look like neighbors, by their series."""
    told: dict[SeriesKey, str] = {}
    for group in _lone(headers, same_frame=False):
        by_instance = {header.slices[0].source.path: header for header in group}
        for _, slices in split_series([header.slices[0] for header in group]):
            if len(slices) < _LEAST or count_places(slices) < len(slices):
                continue
            members = [by_instance[part.source.path] for part in slices]
            frames = {header.frame_of_reference_uid for header in members}
            option = SERIES if len(frames) == 1 else f"{SERIES},{FRAME_OF_REFERENCE}"
            note = (
                f"This slice is alone in its series, as are {len(members) - 1} others of the "
                f"study that look like its neighbors. Pass `join` {option} to read them as one "
                "volume."
            )
            told |= dict.fromkeys(map(series_of, members), note)
    return told


def _lone(headers: Sequence[Header], *, same_frame: bool) -> list[list[Header]]:
    """Return slices that are alone in their series, grouped if they may be one stack."""
    held: defaultdict[SeriesKey, list[Header]] = defaultdict(list)
    for header in headers:
        held[series_of(header)].append(header)
    groups: defaultdict[tuple[object, ...], list[Header]] = defaultdict(list)
    for (series_uid, study_uid), members in held.items():
        header = members[0]
        if len(members) > 1 or not series_uid or not header.positioned or header.problem:
            continue
        if not study_uid:  # unknown whose it is, or whether others belong with it
            continue
        if len(header.slices) == 1 and is_usable(header.slices[0]):
            (part,) = header.slices
            frame = header.frame_of_reference_uid if same_frame else None
            kind = header.sop_class_uid, header.dicom_modality, part.rows, part.columns
            groups[study_uid, kind, frame].append(header)
    return list(groups.values())


def _of_series(header: Header, series_uid: str) -> Header:
    (part,) = header.slices
    source = replace(part.source, series_uid=header.series_uid)
    slices = (replace(part, source=source),)
    return replace(header, series_uid=series_uid, slices=slices, batch=None)
