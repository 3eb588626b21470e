"""Write the items of a datalist, split into sections, and count them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.errors import OptionError, listed
from esp_medsam.workflows.datalist import SECTIONS
from esp_medsam.workflows.datalist_build import Case
from esp_medsam.workflows.datalist_patterns import Named
from esp_medsam.workflows.datalist_split import sections_of


def build_sections(
    cases: Sequence[Case], shares: Sequence[float], seed: int, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Return the sections of a datalist that will be written to a folder.

    Args:
        cases: The cases, whose patients must be known unless they have sections.
        shares: Shares of the sections.
        seed: Seed of the split.
        folder: Folder that its paths will be relative to.

    Raises:
        OptionError: If some cases have a section and others do not, or a section is unknown.
    """
    given = {case.section for case in cases}
    if given == {None}:
        kinds = [(case.modality, case.more.get("dataset")) for case in cases]
        drawn = sections_of([case.patient or "" for case in cases], kinds, shares, seed)
    else:
        wrong = sorted({str(name or "none") for name in given} - set(SECTIONS))
        if wrong:
            msg = f"section must be {', '.join(SECTIONS)} in every row, or in none; got "
            raise OptionError(msg + f"{listed(wrong)}.")
        drawn = [case.section or "" for case in cases]
    sections: dict[str, list[dict[str, Any]]] = {name: [] for name in SECTIONS}
    names = _names_of_patients(cases)
    for case, section in zip(cases, drawn, strict=True):
        item = _item(case, folder)
        if case.patient in names:
            item["patient"] = names[case.patient]
        sections[section].append(item)
    return sections


def _names_of_patients(cases: Sequence[Case]) -> dict[str | None, str]:
    """Return an anonymous name for each patient with several images.

    Scores treat an image without a name as a separate patient. Names begin with a hash of all
    images, so that they do not collide if datalists are merged.
    """
    counts = Counter(case.patient for case in cases if case.patient is not None)
    images = "\n".join(sorted(case.image.as_posix() for case in cases))
    mark = hashlib.sha256(images.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    shared = [patient for patient, count in counts.items() if count > 1]
    return {patient: f"{mark}-{number}" for number, patient in enumerate(shared, start=1)}


def _item(case: Case, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {
        "image": _relative(str(case.image), folder),
        "modality": case.modality,
        **case.more,
        "labels": _labels(case, folder),
    }
    if case.absent:
        item["absent"] = case.absent
    if case.unknown:
        item["unknown"] = [_mask(mask, folder) for mask in case.unknown]
    return item


def _labels(case: Case, folder: Path) -> dict[str, Any]:
    """Return the labels of an item, as a single label map if possible."""
    masks = [mask for several in case.labels.values() for mask in several]
    is_map = len({mask.text for mask in masks}) == 1 and len(masks) == len(case.labels)
    if is_map and all(mask.values is not None for mask in masks):
        values = {target: list(mask.values or ()) for target, (mask,) in case.labels.items()}
        return {"path": _relative(masks[0].text, folder), "values": values}
    return {
        target: _mask(several[0], folder)
        if len(several) == 1
        else [_mask(mask, folder) for mask in several]
        for target, several in case.labels.items()
    }


def _mask(mask: Named, folder: Path) -> str | dict[str, Any]:
    path = _relative(mask.text, folder)
    return path if mask.values is None else {"path": path, "values": list(mask.values)}


def _relative(path: str, folder: Path) -> str:
    """Return a path relative to a datalist's folder, with ``/``."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another Windows drive
        return Path(path).resolve().as_posix()


class Count(NamedTuple):
    """Numbers of annotated images for a target in a set.

    Attributes:
        section: The section.
        modality: The modality.
        dataset: The set.
        target: The target.
        labeled: Number of images with masks of the target.
        absent: Number of images known not to show it.
        images: Number of images of the set in the section.
    """

    section: str
    modality: str
    dataset: str
    target: str
    labeled: int
    absent: int
    images: int


def counts_of(sections: Mapping[str, Iterable[Mapping[str, Any]]]) -> Iterator[Count]:
    """Yield the counts of sections that :func:`build_sections` returned."""
    for section, items in sections.items():
        images: Counter[tuple[str, str]] = Counter()
        labeled: Counter[tuple[str, str, str]] = Counter()
        absent: Counter[tuple[str, str, str]] = Counter()
        for item in items:
            kind = item["modality"], str(item.get("dataset") or item["modality"])
            images[kind] += 1
            labels = item["labels"]
            labeled.update((*kind, target) for target in labels.get("values", labels))
            absent.update((*kind, target) for target in item.get("absent", ()))
        for key in dict.fromkeys((*labeled, *absent)):
            yield Count(section, *key, labeled[key], absent[key], images[key[:2]])
