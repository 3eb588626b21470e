"""Cache prepared slices in memory, or on disk for all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch

from esp_medsam.io.shards import ShardStore
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.training_slices import TrainingSlice


class SliceSequence(Protocol):
    """Slices of many items, and of each what it is drawn by, without reading it."""

    @property
    def modalities(self) -> Sequence[str]:
        """Modality of each slice."""

    @property
    def datasets(self) -> Sequence[str]:
        """Set of each slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingSlice: ...

    def __contains__(self, key: object) -> bool:
        """Whether the slices of the item of a key are kept."""
        ...


Chosen = Callable[[str, int, Sequence[bool]], Iterable[int]]
"""From an item's key, its number of slices, and which hold a target, to those to learn from."""


class InMemory:
    """Slices that are held in memory."""

    def __init__(self) -> None:
        self.slices: list[TrainingSlice] = []

    @property
    def modalities(self) -> list[str]:
        """Modality of each slice."""
        return [piece.modality for piece in self.slices]

    @property
    def datasets(self) -> list[str]:
        """Set of each slice."""
        return [piece.dataset for piece in self.slices]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> TrainingSlice:
        return self.slices[index]

    def __contains__(self, key: object) -> bool:
        return False

    def add(
        self, key: str, item: Item, slices: Sequence[TrainingSlice] | None, chosen: Chosen
    ) -> None:
        """Take in the slices of an item."""
        del item
        assert slices is not None, "nothing is kept before it was read"
        filled = [piece.is_filled for piece in slices]
        self.slices += [slices[index] for index in chosen(key, len(slices), filled)]

    def complete(self) -> None:
        """Say that all are taken in."""


class OnDisk:
    """Slices in a store on disk, mapped when they are asked for: workers share them.

    Args:
        store: Where they are kept, for good.
    """

    def __init__(self, store: ShardStore) -> None:
        self.store = store
        self.places: list[str] = []
        self.modalities: list[str] = []
        self.datasets: list[str] = []

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> TrainingSlice:
        arrays = {name: torch.from_numpy(a) for name, a in self.store[self.places[index]].items()}
        width = arrays["image"].shape[-1]
        masks = torch.from_numpy(np.unpackbits(arrays["masks"].numpy(), axis=-1, count=width))
        return TrainingSlice(
            arrays["image"],
            masks[:-1],
            masks[-1:],
            arrays["known"],
            self.modalities[index],
            self.datasets[index],
            (float(arrays["window"][0]), float(arrays["window"][1])),
        )

    def __contains__(self, key: object) -> bool:
        return key in self.store

    def add(
        self, key: str, item: Item, slices: Sequence[TrainingSlice] | None, chosen: Chosen
    ) -> None:
        """Take in the slices of an item; None where the store holds them."""
        if slices is not None:
            for index, piece in enumerate(slices):
                masks = np.packbits(torch.cat([piece.label, piece.unlabeled]).numpy(), axis=-1)
                arrays = {
                    "image": piece.image.numpy(),
                    "masks": masks,
                    "known": piece.known.numpy(),
                    "window": np.array(piece.window),
                }
                self.store.put(f"{key}/{index}", arrays)
            # Last, because it alone says that the item is there.
            self.store.put(key, {"filled": np.array([piece.is_filled for piece in slices])})
        filled = self.store[key]["filled"].tolist()
        for index in chosen(key, len(filled), filled):
            self.places.append(f"{key}/{index}")
            self.modalities.append(item.modality)
            self.datasets.append(item.set_name)

    def complete(self) -> None:
        """Write what is not on disk yet."""
        self.store.flush()
