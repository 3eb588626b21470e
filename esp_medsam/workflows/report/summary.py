"""What a report says about all of its items together."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esp_medsam.errors import remedies
from esp_medsam.workflows.report.case import FAILED, FINDINGS, Case
from esp_medsam.workflows.report.gather import Gathered


MOST_NAMED = 20
"""Most items that are named below a cause; the table has all."""

MOST_SETTINGS = 12
"""Most ways of making results that are listed."""

OTHER_CAUSES = {
    "interrupted": (
        "The run was ended while it was at this item.",
        "Run the same command again.",
    ),
    "running": (
        "A run is at this item, or was killed while it was.",
        "Wait for the run, or run the same command again.",
    ),
    "damaged": (
        "The record of a result is damaged, so nothing is known about it.",
        "Remove the record and run the same command again.",
    ),
    "E_INTERNAL": ("Something that this program did not foresee.", "Please report it."),
}
"""Meaning and remedy of what has no code, or none of an exception of this package."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Items that failed for one reason.

    Attributes:
        code: The code, or the status of the items.
        meaning: What went wrong.
        remedy: What to do.
        count: Number of the items.
        cases: The first of them.
    """

    code: str
    meaning: str
    remedy: str
    count: int
    cases: Sequence[Case]


@dataclass(frozen=True, kw_only=True)
class MadeWith:
    """Results that were made alike.

    Attributes:
        count: Number of the results.
        software: Name and version.
        modality: Name of the modality.
        weights: Hash of the weights.
        formats: Kinds of output.
        settings: Other settings, by name.
    """

    count: int
    software: str
    modality: str
    weights: str
    formats: str
    settings: Mapping[str, str]


def counts_of(cases: Sequence[Case]) -> dict[str, int]:
    """Return the number of all items, and of those with each finding."""
    counts = Counter(name for case in cases for name in case.findings)
    return {"all": len(cases), **{name: counts[name] for name in FINDINGS}}


def causes_of(cases: Sequence[Case]) -> list[Cause]:
    """Return what failed by cause, the most frequent first."""
    held: dict[str, list[Case]] = {}
    for case in cases:
        if FAILED in case.findings:
            held.setdefault(case.code or case.status, []).append(case)
    found = []
    for code, failed in sorted(held.items(), key=lambda one: (-len(one[1]), one[0])):
        known = remedies().get(code)
        told = OTHER_CAUSES.get(code, ("", "")) if known is None else known[1:]
        meaning, remedy = map(_plain, told)
        found.append(
            Cause(
                code=code,
                meaning=meaning,
                remedy=remedy,
                count=len(failed),
                cases=failed[:MOST_NAMED],
            )
        )
    return found


def _plain(text: str) -> str:
    """Return a text of the documentation without its marks of code."""
    return re.sub(r"`([^`]*)`", r"\1", text)


def made_with(cases: Sequence[Case]) -> list[MadeWith]:
    """Return how the results were made, the most frequent way first."""
    counts = Counter(_key(case) for case in cases if case.made_with)
    found = []
    for key, count in counts.most_common():
        stated = json.loads(key)
        settings = {name: json.dumps(value) for name, value in stated.pop("settings").items()}
        found.append(MadeWith(count=count, settings=settings, **stated))
    return found


def _key(case: Case) -> str:
    return json.dumps(case.made_with, sort_keys=True, default=str)


def folders_of(found: Gathered) -> list[dict[str, Any]]:
    """Return what is known about each folder of results: items, runs, and its journal."""
    held = [Counter[bool]() for _ in found.folders]
    for case in found.cases:
        held[case.folder][bool(case.record)] += 1
    return [
        {
            "name": folder.name,
            "results": held[place][True],
            "without": held[place][False],
            "runs": folder.told.runs,
            "problem": folder.told.problem,
        }
        for place, folder in enumerate(found.folders)
    ]
