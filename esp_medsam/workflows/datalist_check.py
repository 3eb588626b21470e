"""Check a whole datalist before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.dicom import labels_series
from esp_medsam.errors import EspMedSamError, listed, one_of, quoted
from esp_medsam.identity import identify
from esp_medsam.image import Image
from esp_medsam.io.formats import RASTER_SUFFIXES
from esp_medsam.io.read import read_grid
from esp_medsam.memory import seldom_asked
from esp_medsam.modality import ModalityTable
from esp_medsam.quiet import quietly
from esp_medsam.workflows.datalist import (
    MOST_FAULTS,
    SECTIONS,
    Fault,
    Item,
    Mask,
    named_twice,
    parse_items,
)
from esp_medsam.workflows.datalist_images import MaskReader, content_files, read_image


_CHUNK = 512
"""Number of items between two checks of the number of faults."""


class Placed(NamedTuple):
    """An item and its place in the datalist.

    Attributes:
        section: Its section.
        number: Its number in the section, from 0.
        item: See :func:`~esp_medsam.workflows.datalist.read_datalist`.
    """

    section: str
    number: int
    item: Item

    @property
    def place(self) -> str:
        """Section and number, in the form that faults use."""
        return f"{self.section}[{self.number}]"


def faults_of(
    sections: Mapping[str, Any],
    folder: Path,
    table: ModalityTable,
    *,
    workers: int | None = None,
    tracked: Callable[[Sequence[Placed]], Iterable[Placed]] | None = None,
    read_whole: bool = True,
) -> list[Fault]:
    """Return the faults of a datalist; the rest is not read after :data:`MOST_FAULTS`.

    Images and masks are read whole, and images that two sections may share are hashed. A fault is:
    no item at all, an item that breaks the rules in ``docs/reference/datalist.md``, an
    unknown modality or target, a missing or unreadable file, a mask off its image's grid, an empty
    mask, a value that the label map does not hold, an image that is named twice, an image whose
    content is in two sections, and a patient in two sections.

    Args:
        sections: Content of the datalist file.
        folder: Folder that its paths start from.
        table: Available modalities and targets.
        workers: Number of threads that read files; None depends on the number of processors.
        tracked: Wrapper that yields items one by one, and shows progress; None shows nothing.
        read_whole: Whether to read images and masks whole; otherwise only their headers are read,
            and their content is checked by whoever reads them.
    """
    held = [section for section in SECTIONS if section in sections]
    if not held:
        names = listed([str(name) for name in sections]) or "none"
        return [Fault("datalist", f"must have a section {', '.join(SECTIONS)}; got {names}")]
    placed: list[Placed] = []
    faults: list[Fault] = []
    for section in held:
        items, found = parse_items(sections[section], section, folder)
        faults += found
        placed += [Placed(section, number, item) for number, item in items.items()]
    if not placed and not faults:
        return [Fault("datalist", f"must hold at least one image; got none in {listed(held)}")]
    faults += named_twice((one.place, one.item) for one in placed)
    faults += _patients_in_two_sections(placed)
    look = _faults_of_item if read_whole else _faults_of_headers
    count = workers or min(16, 2 * (os.cpu_count() or 1))
    # A single call of either is cheap, but a hundred thousand are expensive.
    with quietly(), seldom_asked(), ThreadPoolExecutor(count) as pool:
        queue = iter(placed if tracked is None else tracked(placed))
        while len(faults) <= MOST_FAULTS and (chunk := list(islice(queue, _CHUNK))):
            for found in pool.map(lambda one: look(one, table), chunk):
                faults += found
        if len(faults) <= MOST_FAULTS:
            faults += _in_two_sections(placed, pool)
    order = {section: place for place, section in enumerate(held)}
    faults.sort(key=lambda fault: _order(fault, order))
    return faults[: MOST_FAULTS + 1]


def _order(fault: Fault, sections: Mapping[str, int]) -> tuple[int, int]:
    """Return the sort key of a fault: its section and number."""
    section, _, rest = fault.place.partition("[")
    number = rest.partition("]")[0]
    return sections[section], int(number) if number else -1


def _faults_of_item(one: Placed, table: ModalityTable) -> list[Fault]:
    """Return the faults of a single item."""
    if told := _wrong_words(one, table):
        return told
    try:
        image = replace(read_image(one.item, table), pixels=None)  # only its grid is needed
    except EspMedSamError as error:
        return [Fault(f"{one.place}['image']", _message_of(error))]
    return list(_wrong_masks(one, image, table))


def _faults_of_headers(one: Placed, table: ModalityTable) -> list[Fault]:
    """Return the faults of an item; read its files whole only if its headers show a fault."""
    if told := _wrong_words(one, table):
        return told
    try:
        shape = _shape(one.item.image)
        fits = shape is None or all(_shape(mask.path) in (shape, None) for mask in one.item.masks)
    except EspMedSamError:
        fits = False
    return [] if fits else _faults_of_item(one, table)


def _shape(path: str) -> tuple[int, ...] | None:
    """Return the shape that a file's header states, or None if it states none."""
    grid = read_grid(path)
    return None if grid is None else grid.shape


def _wrong_words(one: Placed, table: ModalityTable) -> list[Fault]:
    """Return the faults of an item's entries, without opening its files."""
    item, place = one.item, one.place
    if item.modality not in table.names:
        told = f"{one_of(table.names)}; got {quoted(item.modality)}"
        return [Fault(f"{place}['modality']", told)]
    faults = list(_wrong_targets(one, table))
    missing = [
        Fault(f"{place}{key}", f"must be an existing file; there is none at {path}")
        for key, path in _paths(item)
        if not Path(path).exists()
    ]
    if faults or missing:
        return faults + missing
    is_picture = item.image.lower().endswith(RASTER_SUFFIXES)
    if item.modality == "ct" and is_picture and item.ct_input is None:
        told = "must be given for a CT picture: windowed, or hu with an offset; got none"
        return [Fault(f"{place}['ct_input']", told)]
    if is_picture and item.ct_input == "hu" and item.offset is None:
        told = "must be given of a CT picture in hu, such as -1024; got none"
        return [Fault(f"{place}['offset']", told)]
    return []


def _wrong_targets(one: Placed, table: ModalityTable) -> Iterator[Fault]:
    names = [target.name for target in table[one.item.modality].targets]
    absent = one.item.absent
    if not one.item.labels and not absent:
        told = (
            "must name a target, or absent must; got none, so nothing can be learned from "
            "this image"
        )
        yield Fault(f"{one.place}['labels']", told)
    for key, given in (("labels", one.item.labels), ("absent", absent)):
        for target in given:
            if target not in names:
                told = f"must name targets of {one.item.modality}, {', '.join(names)}; got "
                yield Fault(f"{one.place}[{key!r}]", told + quoted(target))


def _paths(item: Item) -> Iterator[tuple[str, str]]:
    """Yield each path of an item once, as a pair of its key and the path."""
    yield "['image']", item.image
    named: dict[str, str] = {}
    for target, masks in item.labels.items():
        for mask in masks:
            named.setdefault(mask.path, f"['labels'][{target!r}]")
    for mask in item.masks:
        named.setdefault(mask.path, "['unknown']")
    for path, key in named.items():
        yield key, path


def _wrong_masks(one: Placed, image: Image, table: ModalityTable) -> Iterator[Fault]:
    """Yield the faults of an item's masks; report an error that several masks share only once."""
    reader = MaskReader(image, table)
    told: set[str] = set()
    groups = [*one.item.labels.items(), (None, one.item.unknown)]
    for target, masks in groups:
        key = "['unknown']" if target is None else f"['labels'][{target!r}]"
        is_empty = True
        for mask in masks:
            try:
                rule, holds = _of_mask(mask, reader, target)
            except EspMedSamError as error:
                rule, holds = _message_of(error), True
                if rule in told:
                    rule = ""
                told.add(rule)
            is_empty &= not holds
            if rule:
                yield Fault(f"{one.place}{key}", rule)
        if is_empty and target is not None:
            paths = ", ".join(mask.path for mask in masks)
            yield Fault(
                f"{one.place}{key}",
                (
                    f"must hold the target; {paths} is empty. List the target under absent if "
                    "it is absent"
                ),
            )


def _of_mask(mask: Mask, reader: MaskReader, target: str | None) -> tuple[str, bool]:
    """Return the fault of a readable mask, or an empty text, and whether the mask is nonempty.

    A value missing from the label map is reported as such, not as empty.
    """
    if mask.values is None or labels_series(mask.path):
        return "", bool(reader(mask, target).any())
    pixels = reader.stored(mask).pixels
    assert pixels is not None, "just read"
    lacking = [value for value in mask.values if not (pixels[0] == value).any()]
    if not lacking or target is None:
        return "", True
    values = ", ".join(map(str, lacking))
    return f"must be values that the map holds; {mask.path} holds no {values}", True


def _patients_in_two_sections(placed: Sequence[Placed]) -> Iterator[Fault]:
    """Yield one fault, without a name, for each patient of a set in more than one section.

    Patients of different sets count as different, because sets may use the same numbers.
    """
    first: dict[tuple[str | None, str], Placed] = {}
    told: set[tuple[str | None, str]] = set()
    for one in placed:
        if one.item.patient is None:
            continue
        patient = one.item.dataset, one.item.patient
        earlier = first.setdefault(patient, one)
        if earlier.section != one.section and patient not in told:
            told.add(patient)
            yield Fault(
                f"{one.place}['patient']",
                f"must be in one section; {earlier.place} is of the same patient",
            )


def _in_two_sections(placed: Sequence[Placed], pool: ThreadPoolExecutor) -> Iterator[Fault]:
    """Yield a fault for each image whose content is also in an earlier section.

    Only files of the same size can have the same content, so few are hashed.
    """
    sizes = list(pool.map(lambda one: _size(one.item.image), placed))
    alike = _with_shared_key(placed, sizes)
    hashes = list(pool.map(lambda one: _hash(one.item.image), alike))
    first: dict[str, Placed] = {}
    for one, content in zip(alike, hashes, strict=True):
        if content is None:
            continue
        earlier = first.setdefault(content, one)
        if earlier.section != one.section and earlier.item.image != one.item.image:
            yield Fault(
                f"{one.place}['image']",
                f"must be in one section only; {one.item.image} holds the same bytes as "
                f"{earlier.place}, {earlier.item.image}",
            )


def _with_shared_key(placed: Sequence[Placed], keys: Sequence[object]) -> list[Placed]:
    """Return the items whose key occurs in several sections."""
    sections: dict[object, set[str]] = {}
    for one, key in zip(placed, keys, strict=True):
        sections.setdefault(key, set()).add(one.section)
    return [
        one
        for one, key in zip(placed, keys, strict=True)
        if key is not None and len(sections[key]) > 1
    ]


def _size(path: str) -> int | None:
    """Return the total size of an image's files in bytes, or None if they cannot be read."""
    try:
        return sum(Path(file).stat().st_size for file in content_files(path))
    except (OSError, EspMedSamError):
        return None  # reported when it was read


def _hash(path: str) -> str | None:
    """Return the hash of an image's content, regardless of its file names."""
    try:
        return identify(content_files(path)).sha256
    except EspMedSamError:
        return None  # reported when it was read


def _message_of(error: EspMedSamError) -> str:
    """Return an error as the rule of a fault."""
    return f"must be usable; {str(error).rstrip('.')}"
