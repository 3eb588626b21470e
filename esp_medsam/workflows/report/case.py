"""One item of a report: its result, or why it has none, and what makes it worth a look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.workflows.item_names import plain_text, recorded_name


LOW_CONFIDENCE = 0.85
"""Mean probability inside a mask below which a reader should look at it; a mask has 0.5 or more.
Of validation masks below it, 87 % have a Dice under 0.7 (docs/experiments/confidence.md)."""

FAILED, WARNED, UNSURE, EMPTY = FINDINGS = ("failed", "warnings", "low confidence", "nothing found")
"""What makes an item worth a look, in the order in which items are listed."""

STATISTICS = ("components", "diameter_mm", "mean", "standard_deviation", "minimum", "maximum")
"""Statistics of a segment that the page shows beside its size."""

_LONGEST = 2000
"""Most characters of a text in a record, which strangers may have written."""


class Found(NamedTuple):
    """What was found of one target.

    Attributes:
        name: Name of the target.
        confidence: Mean probability inside its mask; None if it is empty.
        expected_dice: The Dice that masks of this confidence had; None if it was not measured.
        voxels: Voxels, or pixels, of its mask.
        ml: Volume in milliliters; None if it is not known.
        area_mm2: Area in square millimeters; None for volumes, and without statistics.
        statistics: Those of :data:`STATISTICS` that the record states.
    """

    name: str
    confidence: float | None
    expected_dice: float | None
    voxels: int | None
    ml: float | None
    area_mm2: float | None
    statistics: Mapping[str, float]


@dataclass(kw_only=True)
class Case:
    """One item of a folder of results.

    Attributes:
        folder: Index of the folder.
        item: Name of the item.
        record: Path of its record below the folder; empty without a result.
        status: ``done``, ``damaged`` (its record), or what the journal says of an item without a
            result: ``failed``, ``interrupted`` or ``running``.
        code: Code of the failure; empty without one.
        message: What is wrong; empty without a failure.
        attempts: How often it was tried, as the journal says; 0 if it does not.
        seconds: Time of the last try; None if it is not known.
        modality: Name of the modality; empty if it is not known.
        targets: What was found of each target.
        warnings: What the reader of the file, and the network, warned of.
        plausibility: As the record states it.
        sha256: Hash of the input; empty if it is not known.
        record_sha256: Beginning of the hash of the record.
        preview: Picture of the result; None if none was written.
        made_with: What the result was made with, for comparison with others.
    """

    folder: int
    item: str
    record: str = ""
    status: str = "done"
    code: str = ""
    message: str = ""
    attempts: int = 0
    seconds: float | None = None
    modality: str = ""
    targets: tuple[Found, ...] = ()
    warnings: tuple[str, ...] = ()
    plausibility: float | None = None
    sha256: str = ""
    record_sha256: str = ""
    preview: Path | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether it has a result in which nothing was found."""
        return bool(self.targets) and not any(one.voxels for one in self.targets)

    @property
    def confidence(self) -> float | None:
        """The lowest confidence of its targets; None if nothing was found."""
        known = [one.confidence for one in self.targets if one.confidence is not None]
        return min(known, default=None)

    @property
    def findings(self) -> list[str]:
        """What makes it worth a look, of :data:`FINDINGS`."""
        confidence = self.confidence
        holds = {
            FAILED: self.status != "done" or bool(self.code),
            WARNED: bool(self.warnings),
            UNSURE: confidence is not None and confidence < LOW_CONFIDENCE,
            EMPTY: self.is_empty,
        }
        return [name for name in FINDINGS if holds[name]]

    @property
    def rank(self) -> tuple[int, float, int, str]:
        """Its place in the list: by its first finding, then by confidence, the lowest first."""
        found = self.findings
        place = FINDINGS.index(found[0]) if found else len(FINDINGS)
        return place, 2.0 if self.confidence is None else self.confidence, self.folder, self.item


def case_of_record(record: Mapping[str, Any], folder: int, name: str, digest: str) -> Case:
    """Return the item of a record, whose types of values nobody has checked.

    Args:
        record: The record.
        folder: Index of the folder.
        name: Path of the record below it.
        digest: Beginning of the record's hash.
    """
    source = record.get("source")
    source = source if isinstance(source, Mapping) else {}
    volume = _text(record.get("volume"))
    settings, modality = record.get("settings"), _text(record.get("modality"))
    made_with = {
        "software": _text(record.get("software")),
        "modality": modality,
        "weights": _text(record.get("weights_sha256")),
        "formats": ", ".join(map(_text, _list(record.get("formats")))),
        "settings": settings if isinstance(settings, Mapping) else {},
    }
    return Case(
        folder=folder,
        item=recorded_name(_text(source.get("path")) or name, volume),
        record=name,
        modality=modality,
        targets=tuple(_found(one) for one in record["targets"]),
        warnings=tuple(map(_text, _list(record.get("warnings")))),
        plausibility=number(record.get("plausibility")),
        sha256=_text(source.get("sha256")),
        record_sha256=digest,
        made_with=made_with,
    )


def _found(target: Mapping[str, Any]) -> Found:
    stated = target.get("statistics")
    stated = stated if isinstance(stated, Mapping) else {}
    ml = number(target.get("ml"))
    voxels = number(target.get("voxels"))
    known = {name: number(stated.get(name)) for name in STATISTICS}
    return Found(
        name=_text(target.get("name")),
        confidence=number(target.get("confidence")),
        expected_dice=number(target.get("expected_dice")),
        voxels=None if voxels is None else int(voxels),
        ml=number(stated.get("ml")) if ml is None else ml,
        area_mm2=number(stated.get("area_mm2")),
        statistics={name: value for name, value in known.items() if value is not None},
    )


def number(value: object) -> float | None:
    """Return a finite number, or None for everything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]  # just seen


def _text(value: object) -> str:
    return plain_text(value)[:_LONGEST] if isinstance(value, str) else ""


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
