"""Teacher outputs, computed once and stored: the student sees exactly the same views.

Each slice has a fixed number of random views, identified by number. A view depends only on its
number, the slice's pixels and the run's seed, so that teacher and student always see the same
views, and each stored embedding belongs to a known view.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
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
"""Keys in a batch, by their names in the store."""

_SECONDS = "seconds"
"""Name in the store of the time that the teacher needed for a view."""

_DIGEST = "digest"
"""Name in the store of the hash of a slice's pixels, under the hash of the slice's stamp."""

Views = Dataset[dict[str, Any]]


class StoredViews(Views):
    """Views of slices, each with the teacher's embedding from a store.

    A random dataset has ``views`` views per slice, numbered by ``Draw.seed``; any other dataset
    has one.

    Args:
        dataset: Dataset that makes views of slices.
        store: Store of ``embedding``, ``(256, h, w)`` float16, and, if the teacher predicts masks,
            ``logits``, ``(T, h', w')``, under the keys that :meth:`key` returns.
        views: Number of views per slice.
        seed: Seed of the run.
    """

    def __init__(self, dataset: SliceDataset, store: ShardStore, *, views: int, seed: int) -> None:
        self.dataset = dataset
        self.slices, self.table = dataset.slices, dataset.table
        self.store = store
        self.views = views if dataset.random else 1
        self.seed = seed
        self._digests: dict[int, str] = {}  # by slice; reading and hashing is slow

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, drawn: Draw | int) -> dict[str, Any]:
        """Return a view as the dataset does, plus the teacher's outputs as ``teacher_...``."""
        said = self.store[self.key(drawn)]
        kept = {
            name: torch.from_numpy(said[field]) for field, name in _NAMES.items() if field in said
        }
        return {**self.shown(drawn), **kept}

    def key(self, drawn: Draw | int) -> str:
        """Return the key of a view: the SHA-256 of its slice, and its number.

        The slice is read if its hash is not known.
        """
        place = _place(drawn)
        if not self._is_known(place):
            self._digests[place] = _digest(self.slices[place])
        number = drawn.seed if isinstance(drawn, Draw) else "plain"
        return f"{self._digests[place]}/{number}"

    def shown(self, drawn: Draw | int) -> dict[str, Any]:
        """Return a view without its embedding."""
        if not isinstance(drawn, Draw):
            return self.dataset[drawn]
        told = hashlib.sha256(f"{self.key(drawn)} {self.seed}".encode()).digest()
        return self.dataset[Draw(drawn.place, int.from_bytes(told[:4], "big"))]

    def draws(self) -> Iterator[Draw | int]:
        """Yield all views."""
        for place in range(len(self)):
            if self.dataset.random:
                yield from (Draw(place, number) for number in range(self.views))
            else:
                yield place

    def missing(self) -> list[Draw | int]:
        """Return the views that have no embedding, or whose slice was never read.

        Slices that are slow to read, and were read before, are not read again.
        """
        self.store.refresh()
        return [
            drawn
            for drawn in self.draws()
            if self._must_be_read(drawn) or self.key(drawn) not in self.store
        ]

    def remember(self, drawn: Draw | int, key: str) -> None:
        """Keep the hash of a slice that is slow to read, taken from the key of one of its views."""
        place, digest = _place(drawn), key.partition("/")[0]
        self._digests[place] = digest
        stamp = self.slices.stamp(place)
        if stamp is not None and (stamped := _stamped(stamp)) not in self.store:
            self.store.put(stamped, {_DIGEST: np.frombuffer(bytes.fromhex(digest), np.uint8)})

    def _must_be_read(self, drawn: Draw | int) -> bool:
        """Whether the hash of a view's slice is not known, and reading the slice is slow."""
        place = _place(drawn)
        return self.slices.stamp(place) is not None and not self._is_known(place)

    def _is_known(self, place: int) -> bool:
        """Whether the hash of a slice is known, here or from the store."""
        if place not in self._digests:
            stamp = self.slices.stamp(place)
            if stamp is None or (stamped := _stamped(stamp)) not in self.store:
                return False
            self._digests[place] = self.store.array(stamped, _DIGEST).tobytes().hex()
        return True

    @property
    def seconds(self) -> float:
        """Time that the teacher needed for all views, summed over runs and processes."""
        keys = {self.key(drawn) for drawn in self.draws()}
        return sum(float(self.store.array(key, _SECONDS)[0]) for key in keys)


def _place(drawn: Draw | int) -> int:
    """Return the position of a view's slice."""
    return drawn.place if isinstance(drawn, Draw) else drawn


def _stamped(stamp: str) -> str:
    """Return the key in the store of a slice's hash."""
    return "stamp " + hashlib.sha256(stamp.encode()).hexdigest()


def _digest(piece: TrainingSlice) -> str:
    """Return the SHA-256 of a slice's modality and pixels."""
    digest = hashlib.sha256(f"{piece.modality} {tuple(piece.image.shape)}".encode())
    digest.update(piece.image.numpy().tobytes())
    return digest.hexdigest()


class _Missing(Views):
    """Views whose embeddings have not been computed yet, each with its key and its place here."""

    def __init__(self, views: StoredViews, draws: Sequence[Draw | int]) -> None:
        self.views = views
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = self.draws[index]
        shown = self.views.shown(drawn)
        kept = {name: shown[name] for name in ("image", "modality")}
        return {**kept, "key": self.views.key(drawn), "drawn": index}


@dataclass(eq=False)
class EmbeddingStore:
    """A teacher's embeddings in a folder, or nothing if there is no folder.

    Args:
        folder: Folder of the embeddings; None to run the teacher at every step.
        teacher: Wrapper that runs the teacher.
        views: Number of random views per slice.
        seed: Seed of the run.
        batch_size: Number of views per teacher batch.
        num_workers: Number of processes that prepare views.
    """

    folder: str | Path | None
    teacher: TeacherBatches
    _: KW_ONLY
    views: int
    seed: int
    batch_size: int
    num_workers: int = 0
    store: ShardStore | None = field(default=None, init=False)
    used: list[StoredViews] = field(default_factory=list, init=False)  # whose time counts

    def filled(self, dataset: SliceDataset) -> SliceDataset | StoredViews:
        """Return a dataset with the embeddings of its views, computing any that are missing.

        Processes that train together compute a share each, and wait for the others. Without a
        folder, the dataset is returned unchanged.

        Raises:
            OptionError: If the folder holds embeddings of another teacher, input or seed, or the
                teacher does not know a modality of the dataset.
            OutputError: If the folder cannot be read or written (DiskFullError if it is full).
        """
        self._check_modalities(dataset)
        if not self.folder:
            return dataset
        views = self._views_of(dataset)
        if dist.is_initialized():
            self._compute(views, dist.get_rank(), dist.get_world_size())
            self._wait_for_others(views)
        self._compute(views, 0, 1)  # all of them, if no other process shares the work
        self.used.append(views)
        return views

    @property
    def seconds(self) -> float:
        """Time that the teacher needed for the views in use, over all runs and processes."""
        return sum(views.seconds for views in self.used)

    def share(self, dataset: SliceDataset) -> None:
        """Compute this process's share of missing embeddings, given by RANK and WORLD_SIZE if set.

        A process that is killed loses only the embeddings that it had not written yet.

        Raises:
            OptionError: If there is no folder, or it holds embeddings of another teacher, input or
                seed; if the teacher does not know a modality of the dataset; if RANK and WORLD_SIZE
                are invalid.
            OutputError: If the folder cannot be read or written (DiskFullError if it is full).
        """
        if not self.folder:
            msg = "embeddings must be the folder to keep them in; got none."
            raise OptionError(msg)
        self._check_modalities(dataset)
        rank, processes = (os.environ.get(n) or d for n, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            msg = "RANK must be at least 0 and less than WORLD_SIZE; "
            raise OptionError(msg + f"got {quoted(rank)} and {quoted(processes)}.")
        self._compute(self._views_of(dataset), int(rank), int(processes))

    def _check_modalities(self, dataset: SliceDataset) -> None:
        known = self.teacher.teacher.modalities
        if known is None:
            return
        unknown = set(dataset.slices.modalities) - set(known)
        if unknown:
            msg = (
                "teacher must know the modalities of the images; it knows "
                f"{', '.join(known)}, not {', '.join(sorted(unknown))}. Leave those images out, or "
                "use another teacher."
            )
            raise OptionError(msg)

    def _views_of(self, dataset: SliceDataset) -> StoredViews:
        assert self.folder
        if self.store is None:
            self.store = ShardStore(self.folder, self._identity(dataset), argument="embeddings")
        return StoredViews(dataset, self.store, views=self.views, seed=self.seed)

    def _wait_for_others(self, views: StoredViews) -> None:
        """Wait until no embedding is missing, or none has appeared for _PATIENCE_SECONDS."""
        missing, since = len(views.missing()), time.monotonic()
        while missing and time.monotonic() - since < _PATIENCE_SECONDS:
            now = len(views.missing())
            if now < missing:
                missing, since = now, time.monotonic()
            else:
                time.sleep(_WAIT_SECONDS)

    def _compute(self, views: StoredViews, rank: int, processes: int) -> None:
        """Compute the missing embeddings in a process's share of views, and write them."""
        missing = [drawn for drawn in views.missing() if _place(drawn) % processes == rank]
        if not missing:
            return
        logger.info("Embeddings: %d views to compute.", len(missing))
        loader = DataLoader(
            _Missing(views, missing), batch_size=self.batch_size, num_workers=self.num_workers
        )
        done, begun, told = 0, time.monotonic(), time.monotonic()
        ended = begun
        with views.store:
            for batch in loader:
                self._store_outputs(views, batch, missing, since=ended)
                ended = time.monotonic()
                done += len(batch["key"])
                if ended - told > _TELL_SECONDS or done == len(missing):
                    told = ended
                    rate = done / (told - begun)
                    logger.info("Embeddings: %d of %d, %.1f a second.", done, len(missing), rate)

    def _store_outputs(
        self,
        views: StoredViews,
        batch: dict[str, Any],
        drawn: Sequence[Draw | int],
        *,
        since: float,
    ) -> None:
        """Put the teacher's outputs for a batch into the store, unless it holds them already.

        Args:
            views: The views, with the store.
            batch: A batch of :class:`_Missing`.
            drawn: The views that the batch's ``drawn`` counts.
            since: When the batch's preparation began, on the monotonic clock.
        """
        keys: list[str] = batch["key"]
        if not all(key in views.store for key in keys):
            said = self._teacher_outputs(views, batch)
            each = np.full(1, (time.monotonic() - since) / len(keys), np.float32)
            for place, key in enumerate(keys):
                kept = {name: array[place] for name, array in said.items()}
                views.store.put(key, {**kept, _SECONDS: each})
        for place, key in zip(batch["drawn"].tolist(), keys, strict=True):
            views.remember(drawn[place], key)

    def _teacher_outputs(
        self, views: StoredViews, batch: dict[str, Any]
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to store for a batch, with logits padded to the largest modality."""
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
            # These versions determine what a numbered view looks like.
            "esp_medsam": __version__,
            "monai": monai.__version__,
        }
