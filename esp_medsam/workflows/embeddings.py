"""What a teacher says, computed once and kept: the student is shown the very same views.

A stated number of random views of each slice is told by their numbers. Which view a number gives
depends on the slice's pixels and the run's seed alone, so that teacher and student see the same,
today or next week, and an embedding is known by what was shown.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import monai
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from esp_medsam.errors import OptionError, quoted
from esp_medsam.io.shards import ShardStore
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT
from esp_medsam.version import __version__
from esp_medsam.workflows.distill import EMBEDDING, LOGITS, TeacherBatches
from esp_medsam.workflows.training_data import Draw, SliceDataset
from esp_medsam.workflows.training_slices import TrainingSlice


logger = logging.getLogger(__name__)

_TELL_SECONDS = 30.0
_WAIT_SECONDS = 2.0
_PATIENCE_SECONDS = 3600.0

_NAMES = {"embedding": EMBEDDING, "logits": LOGITS}
"""Names in a batch, by those in the store."""

_SECONDS = "seconds"
"""Name in the store of the time that a view took the teacher."""

Views = Dataset[dict[str, Any]]


class StoredViews(Views):
    """Views of slices with the teacher's embedding of each, from a store.

    A random dataset has as many views of a slice as are kept, numbered by ``Draw.seed``; any other
    has one.

    Args:
        dataset: The slices as views.
        store: Holds ``embedding``, ``(256, h, w)`` float16, and ``logits``, ``(T, h', w')``, of
            teachers that have masks, by the keys that :meth:`key` gives.
        views: Views of a slice.
        seed: Of the run.
    """

    def __init__(self, dataset: SliceDataset, store: ShardStore, *, views: int, seed: int) -> None:
        self.dataset = dataset
        self.slices, self.table = dataset.slices, dataset.table
        self.store = store
        self.views = views if dataset.random else 1
        self.seed = seed
        self._digests: dict[int, str] = {}  # of slices: to read one and hash it costs

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, drawn: Draw | int) -> dict[str, Any]:
        """Return a view as the dataset does, and what the teacher says as ``teacher_...``."""
        said = self.store[self.key(drawn)]
        kept = {
            name: torch.from_numpy(said[field]) for field, name in _NAMES.items() if field in said
        }
        return {**self.shown(drawn), **kept}

    def key(self, drawn: Draw | int) -> str:
        """Return what a view is known by: the SHA-256 of its slice, and its number."""
        place, number = drawn if isinstance(drawn, Draw) else (drawn, "plain")
        digest = self._digests.get(place)
        if digest is None:
            digest = self._digests[place] = _digest(self.slices[place])
        return f"{digest}/{number}"

    def shown(self, drawn: Draw | int) -> dict[str, Any]:
        """Return a view without its embedding."""
        if not isinstance(drawn, Draw):
            return self.dataset[drawn]
        told = hashlib.sha256(f"{self.key(drawn)} {self.seed}".encode()).digest()
        return self.dataset[Draw(drawn.place, int.from_bytes(told[:4], "big"))]

    def keys(self) -> dict[str, Draw | int]:
        """Return a view of each key."""
        if not self.dataset.random:
            return {self.key(place): place for place in range(len(self))}
        draws = (Draw(place, number) for place in range(len(self)) for number in range(self.views))
        return {self.key(drawn): drawn for drawn in draws}

    @property
    def seconds(self) -> float:
        """Time that all views took the teacher, whichever run and process asked it."""
        return sum(float(self.store.array(key, _SECONDS)[0]) for key in self.keys())


def _digest(piece: TrainingSlice) -> str:
    """Return the SHA-256 of a slice's modality and pixels."""
    digest = hashlib.sha256(f"{piece.modality} {tuple(piece.image.shape)}".encode())
    digest.update(piece.image.numpy().tobytes())
    return digest.hexdigest()


class _Missing(Views):
    """Views whose embeddings are to be computed, by the key of each."""

    def __init__(self, views: StoredViews, draws: Sequence[Draw | int]) -> None:
        self.views = views
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = self.draws[index]
        shown = self.views.shown(drawn)
        kept = {name: shown[name] for name in ("image", "modality")}
        return {**kept, "key": self.views.key(drawn)}


@dataclass(eq=False)
class EmbeddingStore:
    """A teacher's embeddings in a folder, or nothing where there is no folder.

    Args:
        folder: Where they are kept; None for a teacher that is asked at every step.
        teacher: What asks it.
        views: Random views of a slice.
        seed: Of the run.
        batch_size: Views that the teacher is shown at once.
        num_workers: Processes that make views meanwhile.
    """

    folder: str | Path | None
    teacher: TeacherBatches
    _: KW_ONLY
    views: int
    seed: int
    batch_size: int
    num_workers: int = 0
    store: ShardStore | None = field(default=None, init=False)
    seconds: float = field(default=0.0, init=False)  # that views took the teacher, once or ever

    def filled(self, dataset: SliceDataset) -> SliceDataset | StoredViews:
        """Return a dataset with the embeddings of its views, computed where they are missing.

        Processes that train together compute a share each, and wait for the others'. Without a
        folder the dataset is returned as it is.

        Raises:
            OptionError: If the folder holds embeddings of another teacher, input or seed.
            OutputError: If it cannot be read or written; of these DiskFullError without room.
        """
        if not self.folder:
            return dataset
        views = self._views_of(dataset)
        if dist.is_initialized():
            self._compute(views, dist.get_rank(), dist.get_world_size())
            self._wait_for_others(views)
        self._compute(views, 0, 1)  # all, where nobody else does any
        self.seconds += views.seconds
        return views

    def share(self, dataset: SliceDataset) -> None:
        """Compute this process's share of what is missing, of RANK and WORLD_SIZE if they are set.

        A process that is killed loses what it had not written yet, and nothing else.

        Raises:
            OptionError: If there is no folder, or it holds embeddings of another teacher, input or
                seed; if RANK and WORLD_SIZE are no place among so many.
            OutputError: If it cannot be read or written; of these DiskFullError without room.
        """
        if not self.folder:
            msg = "embeddings must be the folder to keep them in; got none."
            raise OptionError(msg)
        rank, processes = (os.environ.get(n) or d for n, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            msg = "RANK must be at least 0 and less than WORLD_SIZE; "
            raise OptionError(msg + f"got {quoted(rank)} and {quoted(processes)}.")
        self._compute(self._views_of(dataset), int(rank), int(processes))

    def _views_of(self, dataset: SliceDataset) -> StoredViews:
        assert self.folder
        if self.store is None:
            self.store = ShardStore(self.folder, self._identity(dataset), argument="embeddings")
        return StoredViews(dataset, self.store, views=self.views, seed=self.seed)

    def _wait_for_others(self, views: StoredViews) -> None:
        """Wait until nothing is missing, or nothing has come for so long that nothing will."""
        keys = views.keys()
        missing, since = len(keys), time.monotonic()
        while missing and time.monotonic() - since < _PATIENCE_SECONDS:
            views.store.refresh()
            now = sum(key not in views.store for key in keys)
            if now < missing:
                missing, since = now, time.monotonic()
            else:
                time.sleep(_WAIT_SECONDS)

    def _compute(self, views: StoredViews, rank: int, processes: int) -> None:
        """Compute what is missing of a process's share of views, and write it."""
        keys = views.keys()
        missing = [
            drawn
            for key, drawn in keys.items()
            if key not in views.store and int(key[:8], 16) % processes == rank
        ]
        if not missing:
            return
        logger.info("Embeddings: %d of %d views to compute.", len(missing), len(keys))
        loader = DataLoader(
            _Missing(views, missing), batch_size=self.batch_size, num_workers=self.num_workers
        )
        done, begun, told = 0, time.monotonic(), time.monotonic()
        ended = begun
        with views.store:
            for batch in loader:
                said = self._teacher_outputs(views, batch)
                count, began, ended = len(batch["key"]), ended, time.monotonic()
                each = np.full(1, (ended - began) / count, np.float32)
                for place, key in enumerate(batch["key"]):
                    kept = {name: array[place] for name, array in said.items()}
                    views.store.put(key, {**kept, _SECONDS: each})
                done += count
                if time.monotonic() - told > _TELL_SECONDS or done == len(missing):
                    told = time.monotonic()
                    rate = done / (told - begun)
                    logger.info("Embeddings: %d of %d, %.1f a second.", done, len(missing), rate)

    def _teacher_outputs(
        self, views: StoredViews, batch: dict[str, Any]
    ) -> dict[str, npt.NDArray[Any]]:
        """Return what is kept of a batch; logits have the rows of the modality with the most."""
        embedding, logits = self.teacher.says(batch["image"], batch["modality"])
        said = {"embedding": embedding}
        if logits is not None:
            rows = max(len(names) for names in views.table.target_names.values())
            below = (0, 0, 0, 0, 0, rows - logits.shape[1])
            said["logits"] = F.pad(logits, below, value=ABSENT_LOGIT)
        return {name: tensor.half().cpu().numpy() for name, tensor in said.items()}

    def _identity(self, dataset: SliceDataset) -> dict[str, str]:
        return {
            "teacher": self.teacher.teacher.identity,
            "input_size": str(tuple(dataset.input_size)),
            "seed": str(self.seed),
            "arrays": "embedding, logits, seconds",
            # What a number's view looks like is theirs to say.
            "esp_medsam": __version__,
            "monai": monai.__version__,
        }
