"""Cache prepared slices in memory, or on disk for all workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from esp_medsam.io.shards import ShardStore
from esp_medsam.memory import available_memory
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.training_slices import TrainingSlice


logger = logging.getLogger(__name__)


class SliceSequence(Protocol):
    """Slices of many items, whose modality, set and name are known without reading them."""

    @property
    def modalities(self) -> Sequence[str]:
        """Modality of each slice."""

    @property
    def datasets(self) -> Sequence[str]:
        """Set of each slice."""

    @property
    def names(self) -> Sequence[str]:
        """Path of each slice's image and, in a volume, the slice index from 0."""

    def stamp(self, index: int) -> str | None:
        """Return a text that changes with a slice's file; None if reading the slice is fast."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingSlice: ...

    def __contains__(self, key: object) -> bool:
        """Whether the slices of the item with this key are kept."""
        ...


Chosen = Callable[[str, int, Sequence[bool]], Iterable[int]]
"""Maps an item's key, its slice count and which slices hold a target to the slices to train on."""

Packed = Mapping[str, npt.NDArray[Any]]
"""A slice as arrays, by name; a byte holds eight mask pixels."""


class _Kept:
    """Base of both caches: the list of slices, in order."""

    def __init__(self) -> None:
        self.modalities: list[str] = []
        self.datasets: list[str] = []
        self.names: list[str] = []

    def stamp(self, index: int) -> None:
        """Return None, because cached slices are read fast."""

    def __len__(self) -> int:
        return len(self.datasets)

    def _list(self, item: Item, index: int, count: int) -> None:
        """Add one of the ``count`` slices of an item to the list."""
        self.modalities.append(item.modality)
        self.datasets.append(item.set_name)
        self.names.append(item.image if count == 1 else f"{item.image}, slice {index}")

    def _unpacked_slice(self, arrays: Packed, index: int) -> TrainingSlice:
        """Return the slice at an index from its arrays."""
        width = arrays["image"].shape[-1]
        masks = torch.from_numpy(np.unpackbits(arrays["masks"], axis=-1, count=width))
        return TrainingSlice(
            torch.from_numpy(arrays["image"]),
            masks[:-1],
            masks[-1:],
            torch.from_numpy(arrays["known"]),
            self.modalities[index],
            self.datasets[index],
            (float(arrays["window"][0]), float(arrays["window"][1])),
        )


class InMemory(_Kept):
    """Slices in memory, packed as on disk; a warning is given if they exceed the free memory."""

    def __init__(self) -> None:
        super().__init__()
        self.packed: list[Packed] = []
        self.bytes = 0
        self._is_told = False

    def __getitem__(self, index: int) -> TrainingSlice:
        return self._unpacked_slice(self.packed[index], index)

    def __contains__(self, key: object) -> bool:
        return False

    def add(
        self, key: str, item: Item, slices: Sequence[TrainingSlice] | None, chosen: Chosen
    ) -> None:
        """Add the slices of an item."""
        assert slices is not None, "nothing is kept before it was read"
        filled = [piece.is_filled for piece in slices]
        for index in chosen(key, len(slices), filled):
            packed = _packed_slice(slices[index])
            self.packed.append(packed)
            self.bytes += sum(array.nbytes for array in packed.values())
            self._list(item, index, len(slices))
        if not self._is_told and self.bytes > (free := available_memory()):
            self._is_told = True
            told = (
                "Slices take %.1f GiB of memory so far, and %.1f GiB are free. If the system "
                "ends the run, set cache_dir to a folder, to keep them on disk."
            )
            logger.warning(told, self.bytes / 2**30, free / 2**30)

    def complete(self) -> None:
        """Signal that all slices are added."""


class OnDisk(_Kept):
    """Slices in a store on disk, memory-mapped on access so that workers share them.

    Args:
        store: Store that keeps the slices permanently.
    """

    def __init__(self, store: ShardStore) -> None:
        super().__init__()
        self.store = store
        self.places: list[str] = []

    def __getitem__(self, index: int) -> TrainingSlice:
        return self._unpacked_slice(self.store[self.places[index]], index)

    def __contains__(self, key: object) -> bool:
        return key in self.store

    def add(
        self, key: str, item: Item, slices: Sequence[TrainingSlice] | None, chosen: Chosen
    ) -> None:
        """Add the slices of an item; None if the store holds them already."""
        if slices is not None:
            for index, piece in enumerate(slices):
                self.store.put(f"{key}/{index}", _packed_slice(piece))
            # Written last, because only this entry marks the item as complete.
            self.store.put(key, {"filled": np.array([piece.is_filled for piece in slices])})
        filled = self.store[key]["filled"].tolist()
        for index in chosen(key, len(filled), filled):
            self.places.append(f"{key}/{index}")
            self._list(item, index, len(filled))

    def complete(self) -> None:
        """Write everything that is not on disk yet."""
        self.store.flush()


def _packed_slice(piece: TrainingSlice) -> Packed:
    """Return a slice as arrays."""
    masks = torch.cat([piece.label, piece.unlabeled]).numpy()
    return {
        "image": piece.image.numpy(),
        "masks": np.packbits(masks, axis=-1),
        "known": piece.known.numpy(),
        "window": np.array(piece.window),
    }
