"""Read and check all slices of a datalist before training."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_medsam.errors import (
    EmptyInputError,
    EspMedSamError,
    OptionError,
    explain,
    one_line,
)
from esp_medsam.identity import identify
from esp_medsam.io.shards import ShardStore
from esp_medsam.memory import seldom_asked
from esp_medsam.modality import ModalityTable, Target
from esp_medsam.transforms.by_modality import (
    ModalityTransforms,
    check_overrides,
    describe_transforms,
)
from esp_medsam.workflows.datalist import MOST_FAULTS, Item, Mask, parse_items, read_sections
from esp_medsam.workflows.datalist_check import faults_of
from esp_medsam.workflows.datalist_images import content_files
from esp_medsam.workflows.kept_slices import InMemory, OnDisk, SliceSequence
from esp_medsam.workflows.training_slices import TrainingSlice, slices_of


logger = logging.getLogger(__name__)

READING = "2"
"""Version of how items become slices; caches of other versions are not used."""


@dataclass(frozen=True)
class _Entry:
    """Item with its place in the datalist and its unique key."""

    place: str
    item: Item
    key: str


@dataclass(frozen=True, kw_only=True)
class SliceReader:
    """Reader of a datalist's items as slices.

    Args:
        datalist: JSON file, see :func:`~esp_medsam.workflows.datalist.read_datalist`.
        table: Modalities and targets.
        input_size: ``(H, W)`` of the network's input.
        transforms: Transforms by modality, in place of the defaults.
        cache_dir: Folder that keeps the slices on disk, memory-mapped; None or empty keeps them
            in memory.
        empty_slices: Share of the volume slices without any target that is kept, 0 to 1; the
            choice depends only on their content.
        workers: Number of threads that read files.
    """

    datalist: str | Path
    table: ModalityTable
    input_size: Sequence[int]
    transforms: Mapping[str, ModalityTransforms] | None = None
    cache_dir: str | Path | None = None
    empty_slices: float = 1.0
    workers: int = 2

    def __call__(self, *sections: str) -> dict[str, SliceSequence]:
        """Return the slices of each section, by its name.

        Raises:
            OptionError: If the datalist has faults in any section, requested or not: an invalid
                item, a file that is missing or cannot be read, a mask that is empty or not on its
                image's grid, an image that is named twice, an image or a patient in two sections.
                Each fault is logged on its own line; those that names and headers reveal come
                first, before any file is read whole.
            EmptyInputError: If a section has no items.
            OutputError: If the cache cannot be written; DiskFullError, a kind of it, if the disk is
                full.
        """
        check_overrides(self.transforms, self.table.names)
        held = self._sections(sections)
        folder = Path(self.datalist).parent
        found = faults_of(held, folder, self.table, workers=self.workers, read_whole=False)
        self._refuse(list(map(str, found)))
        faults: list[str] = []
        entries = {name: self._entries(held[name], name, faults) for name in sections}
        slices = {name: self._slices(entries[name], faults) for name in sections}
        self._refuse(faults)
        return slices

    def _refuse(self, faults: Sequence[str]) -> None:
        """Log each fault on its own line, and refuse the datalist if there are any."""
        for fault in faults:
            logger.error("%s", one_line(fault))
        if faults:
            count = f"more than {MOST_FAULTS}" if len(faults) > MOST_FAULTS else str(len(faults))
            msg = (
                f"datalist must have no faults; {self.datalist} has {count}, the first: {faults[0]}"
            )
            raise OptionError(msg)

    def _sections(self, sections: Sequence[str]) -> dict[str, Any]:
        """Return all sections of the datalist as written; requested sections must hold items."""
        held = read_sections(self.datalist)
        missing = [name for name in sections if name not in held]
        if missing:
            msg = f"datalist must have a section {missing[0]!r}; {self.datalist} has "
            raise OptionError(msg + f"{', '.join(held) or 'none'}.")
        empty = [name for name in sections if held[name] == []]
        if empty:
            msg = f"datalist must hold at least one item under {empty[0]!r}; {self.datalist} "
            raise EmptyInputError(msg + "holds none.")
        return held

    def _entries(self, content: object, name: str, faults: list[str]) -> list[_Entry]:
        """Return the items of a section, and add the faults of the others to ``faults``."""
        items, _ = parse_items(content, name, Path(self.datalist).parent)
        with ThreadPoolExecutor(self.workers) as pool:
            places = (f"{name}[{number}]" for number in items)
            ended = list(pool.map(self._entry, places, items.values()))
        faults += [entry for entry in ended if isinstance(entry, str)]
        return [entry for entry in ended if isinstance(entry, _Entry)]

    def _entry(self, place: str, item: Item) -> _Entry | str:
        """Return an item with the hashes of its files, or the fault of a file."""
        try:
            hashes = [identify(content_files(path)).sha256 for path in item.files]
        except EspMedSamError as error:
            return f"{place} {explain(error)}"
        said = item.model_dump(include={"modality", "absent", "ct_input", "offset"})
        said["labels"] = {
            target: [_meaning_of(mask, item) for mask in masks]
            for target, masks in item.labels.items()
        }
        said["unknown"] = [_meaning_of(mask, item) for mask in item.unknown]
        return _Entry(place, item, _digest([hashes[0], hashes[1:], said]))

    def _slices(self, entries: Sequence[_Entry], faults: list[str]) -> SliceSequence:
        """Return the slices of items, read or cached, and add the faults of items to ``faults``."""
        kept: InMemory | OnDisk = OnDisk(self._store()) if self.cache_dir else InMemory()
        with seldom_asked(), ThreadPoolExecutor(self.workers) as pool:
            read = pool.map(lambda entry: self._read(entry, kept), entries)
            for entry, slices in zip(entries, read, strict=True):
                if isinstance(slices, str):
                    faults.append(f"{entry.place} {slices}")
                else:
                    kept.add(entry.key, entry.item, slices, self._chosen_slices)
        kept.complete()
        return kept

    def _read(self, entry: _Entry, kept: SliceSequence) -> list[TrainingSlice] | str | None:
        """Return an item's slices, None if they are kept already, or the reason for having none."""
        if entry.key in kept:
            return None
        try:
            height, width = self.input_size
            return slices_of(entry.item, self.table, (height, width), self.transforms)
        except EspMedSamError as error:
            return str(explain(error))

    def _chosen_slices(self, key: str, count: int, filled: Sequence[bool]) -> Iterator[int]:
        """Yield the indices of an item's slices to train on, by whether they hold any target."""
        for index in range(count):
            share = int(_digest([key, index])[:8], 16) / 2**32
            if count == 1 or filled[index] or share < self.empty_slices:
                yield index

    def _store(self) -> ShardStore:
        assert self.cache_dir
        targets = {m.name: [_definition_of(t) for t in m.targets] for m in self.table.modalities}
        identity = {
            "reading": READING,
            "input_size": "{} x {}".format(*self.input_size),
            "targets": _digest(targets),
            "transforms": _digest(describe_transforms(self.transforms)),
        }
        return ShardStore(self.cache_dir, identity)


def _meaning_of(mask: Mask, item: Item) -> tuple[object, ...]:
    """Return what distinguishes a mask from others of its item, whatever its file is called."""
    return item.files.index(mask.path), mask.values, mask.names


def _definition_of(target: Target) -> tuple[str | None, ...]:
    """Return a target's name and the codes that it may be found by."""
    codes = [target.type, target.anatomic_region]
    return target.name, *(None if code is None else f"{code.value} {code.scheme}" for code in codes)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
