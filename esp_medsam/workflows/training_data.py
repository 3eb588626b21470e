"""Training views: balanced sampling, and seeded augmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from esp_medsam.errors import OptionError
from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.augmentation import augmentation
from esp_medsam.workflows.kept_slices import SliceSequence


class Draw(NamedTuple):
    """A slice to be shown, and how.

    Attributes:
        place: Place of the slice.
        seed: Of all that is random about its view.
    """

    place: int
    seed: int


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices as training or validation views.

    Args:
        slices: The slices, see :class:`~esp_medsam.workflows.read_slices.SliceReader`.
        table: Modalities and targets; also the index of each modality.
        input_size: ``(H, W)`` of the network's input.
        pixel_mean: Mean per channel, of values in 0..1.
        pixel_std: Standard deviation per channel.
        random: Whether views are augmented.
        absent_masks: Chance of each target that is known to be absent, 0 to 1, to have its mask
            drawn and trained, if views are augmented; else all have.
    """

    def __init__(
        self,
        slices: SliceSequence,
        *,
        table: ModalityTable,
        input_size: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        random: bool,
        absent_masks: float = 1.0,
    ) -> None:
        self.slices = slices
        self.absent_masks = absent_masks if random else 1.0
        self.table = table
        self.random = random
        self.input_size = tuple(input_size)
        self.rows = max(len(modality.targets) for modality in table.modalities)
        height, width = input_size
        self.views: dict[str, Compose] = {
            name: augmentation(name, (height, width), pixel_mean, pixel_std, random=random)
            for name in sorted(set(slices.modalities))
        }

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, drawn: Draw | int) -> dict[str, Any]:
        """Return a view, by the names that a batch has them by.

        ``image (3, H, W)`` float, ``label (T, H, W)`` uint8, ``known (T,)``, ``drawn (T,)``,
        ``labeled (1, H, W)`` and ``content (1, H, W)`` bool, ``modality``, an index, ``slice``,
        the slice's place, and ``dataset``, the name of its set. Content is what is no margin. T is
        the largest number of targets of any modality; rows beyond the slice's own are not known.

        Args:
            drawn: A slice and the seed of its view; or a slice alone, whose view, if it is random,
                is any.
        """
        place, seed = drawn if isinstance(drawn, Draw) else (drawn, None)
        piece = self.slices[place]
        transform = self.views[piece.modality]
        if seed is not None:
            transform.set_random_state(seed)
        image = piece.image.expand(3, -1, -1).float() / 255.0
        content = torch.ones_like(piece.unlabeled)
        masks = torch.cat([piece.label, piece.unlabeled, content])
        view = transform({"image": image, "label": masks, "window": piece.window})
        masks = _plain(view["label"]).to(torch.uint8)
        label = torch.zeros((self.rows, *masks.shape[-2:]), dtype=torch.uint8)
        label[: len(piece.label)] = masks[:-2]
        known = torch.zeros(self.rows, dtype=torch.bool)
        known[: len(piece.known)] = piece.known
        return {
            "image": _plain(view["image"]).float(),
            "label": label,
            "known": known,
            "drawn": known & (label.flatten(1).bool().any(1) | self._shown_absent(seed)),
            "labeled": masks[-2:-1] == 0,
            "content": masks[-1:] == 1,
            "modality": self.table[piece.modality].index,
            "slice": place,
            "dataset": piece.dataset,
        }

    def _shown_absent(self, seed: int | None) -> Tensor:
        """Return which targets' masks are drawn even where they are absent, ``(T,)`` bool."""
        if self.absent_masks >= 1:
            return torch.ones(self.rows, dtype=torch.bool)
        drawn = np.random.default_rng(seed).random(self.rows)
        return torch.from_numpy(drawn < self.absent_masks)


class ModalityBatches(Sampler[list[Draw]]):
    """Draw batches in which the modalities take turns, so that none is lost among the others.

    Batch sizes that are multiples of a round give every batch the same make-up, and so the same
    tensor shapes, which is what CPU kernels and compilers are fast on. Within a modality a set of
    n slices is drawn in proportion to the fourth root of n: a set of eight slices is neither lost
    nor learned by heart.

    What is drawn depends on the seed, the epoch and the place in it alone, so that an epoch can be
    begun anywhere.

    Args:
        dataset: Slices to draw from, with replacement.
        batch_size: Slices of a batch, over all processes together.
        samples: Slices that make an epoch, rounded down to whole batches.
        turns: Turns of a modality in a round, 1 where it is not named; more for those with
            several targets, of which a slice shows one or two.
        seed: Seed of the draws.
        views: Views of a slice to draw from, told by their numbers as :attr:`Draw.seed`; 0 for a
            new one every time.
        rank: Which of the processes this is; of ``n`` it gets every n-th slice of each batch.
        processes: How many share a batch.

    Raises:
        OptionError: If ``turns`` names an unknown modality, where an epoch would have no batch, and
            where processes cannot share one evenly; a modality without slices is passed over.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        *,
        batch_size: int,
        samples: int,
        turns: Mapping[str, int] | None = None,
        seed: int = 0,
        views: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size % processes:
            msg = f"batch_size must be a multiple of the {processes} processes; got {batch_size}."
            raise OptionError(msg)
        self.rank, self.processes = rank, processes
        self.batch_size = batch_size
        self.batches = samples // batch_size
        if self.batches == 0:
            msg = f"batch_size must be at most samples_per_epoch, {samples}; got {batch_size}."
            raise OptionError(msg)
        self.seed = seed
        self.seeds = views or 2**32
        self.epoch, self.first = 1, 0
        turns = {} if turns is None else turns
        if not turns.keys() <= set(dataset.table.names):
            msg = f"turns must name modalities out of {', '.join(dataset.table.names)}; "
            raise OptionError(msg + f"got {', '.join(turns)}.")
        self.groups = _groups(dataset.slices, turns)

    def __len__(self) -> int:
        return self.batches

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Draw, from now on, what comes at a batch, from 0, of an epoch, from 1."""
        self.epoch, self.first = epoch, batch

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches of the present epoch, the first time from where it is begun."""
        first, self.first = self.first, 0
        for batch in range(first, self.batches):
            random = np.random.default_rng([self.seed, self.epoch, batch])
            turn = batch * self.batch_size
            drawn = [
                self._draw(random, (turn + place) % len(self.groups))
                for place in range(self.batch_size)
            ]
            yield drawn[self.rank :: self.processes]

    def _draw(self, random: np.random.Generator, group: int) -> Draw:
        places, cumulated = self.groups[group]
        drawn = np.searchsorted(cumulated, random.random(), side="right")
        return Draw(int(places[drawn]), int(random.integers(self.seeds)))


class DrawEpochs:
    """Have each epoch of a trainer draw what its number says, from wherever it is begun.

    Args:
        batches: What the trainer's loader draws by.
    """

    def __init__(self, batches: ModalityBatches) -> None:
        self.batches = batches

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set out from the trainer's epoch and step."""
        self.batches.start_at(engine.state.epoch, engine.state.iteration % len(self.batches))


def _groups(
    slices: SliceSequence, turns: Mapping[str, int]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Return, turn by turn, the slices to draw one from, and their probabilities, cumulated."""
    kinds = list(zip(slices.modalities, slices.datasets, strict=True))
    count = Counter(kinds)
    groups = []
    for modality in dict.fromkeys(slices.modalities):
        places = np.array([place for place, (name, _) in enumerate(kinds) if name == modality])
        weights = np.array([count[kinds[place]] ** -0.75 for place in places])
        cumulated = np.cumsum(weights) / weights.sum()
        cumulated[-1] = 1.0
        groups += [(places, cumulated)] * turns.get(modality, 1)
    return groups


def _plain(image: Tensor) -> Tensor:
    """Return a MetaTensor's values alone."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def prepare_batch(
    batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False
) -> tuple[Tensor, Annotation, tuple[Tensor], dict[str, Any]]:
    """Hand a batch to MONAI's engines: image, annotation, modality, and what is to be drawn."""
    image, label, known, labeled, drawn, modality = (
        batch[key].to(device, non_blocking=non_blocking)
        for key in ("image", "label", "known", "labeled", "drawn", "modality")
    )
    return image, Annotation(label, known, labeled, drawn), (modality,), {"drawn": drawn}
