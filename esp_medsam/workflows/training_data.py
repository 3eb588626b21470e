"""Training views: balanced sampling and seeded augmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from esp_medsam.errors import OptionError
from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.prompt_generator import PATCH
from esp_medsam.transforms.augmentation import augmentation
from esp_medsam.workflows.kept_slices import SliceSequence


class Draw(NamedTuple):
    """A slice to show, and the seed of its view.

    Attributes:
        place: Position of the slice.
        seed: Seed of everything random about the view.
    """

    place: int
    seed: int


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices as training or validation views.

    Args:
        slices: The slices, see :class:`~esp_medsam.workflows.read_slices.SliceReader`.
        table: Modalities and targets; also the index of each modality.
        input_size: ``(H, W)`` of the network's input.
        pixel_mean: Mean per channel, for values in 0..1.
        pixel_std: Standard deviation per channel.
        random: Whether views are augmented.
        absent_masks: Chance, 0 to 1, that the mask of a target known to be absent is drawn and
            trained, if views are augmented; otherwise all such masks are.
        simulated_clicks: Chance, 0 to 1, that a target of an augmented view comes with some
            patches of its annotation, as a user's clicks give them.
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
        simulated_clicks: float = 0.0,
    ) -> None:
        self.slices = slices
        self.absent_masks = absent_masks if random else 1.0
        self.simulated_clicks = simulated_clicks if random else 0.0
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
        """Return a view, under the keys of a batch.

        ``image (3, H, W)`` float, ``label (T, H, W)`` uint8, ``known (T,)``, ``drawn (T,)``,
        ``labeled (1, H, W)`` and ``content (1, H, W)`` bool, if clicks are simulated ``clicked (T,
        H / 32, W / 32)`` bool, ``modality``, an index, ``slice``,
        the slice's position, and ``dataset``, the name of its set. Content excludes the margin. T
        is the largest number of targets of any modality; rows beyond the slice's own are unknown.

        Args:
            drawn: A slice and the seed of its view, or just a slice, whose random view is then
                arbitrary.
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
        clicked = {"clicked": self._clicked(seed)} if self.simulated_clicks else {}
        return {
            **clicked,
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

    def _clicked(self, seed: int | None) -> Tensor:
        """Return which patches are clicked, ``(T, H / 32, W / 32)`` bool: a share of each target's.

        The share itself is drawn, so that few patches are clicked as well as many.
        """
        random = np.random.default_rng(None if seed is None else [seed, 1])
        height, width = (side // PATCH for side in self.input_size)
        chosen = random.random((self.rows, 1, 1)) < self.simulated_clicks
        share = random.random((self.rows, 1, 1)) ** 3
        patches = chosen & (random.random((self.rows, height, width)) < share)
        return torch.from_numpy(patches)

    def _shown_absent(self, seed: int | None) -> Tensor:
        """Return which targets' masks are drawn even if the target is absent, ``(T,)`` bool."""
        if self.absent_masks >= 1:
            return torch.ones(self.rows, dtype=torch.bool)
        drawn = np.random.default_rng(seed).random(self.rows)
        return torch.from_numpy(drawn < self.absent_masks)


class ModalityBatches(Sampler[list[Draw]]):
    """Sampler of batches in which modalities take turns, so that none is underrepresented.

    If the batch size is a multiple of a round, all batches have the same composition and thus the
    same tensor shapes, which CPU kernels and compilers handle fastest. Within a modality, a set of
    n slices is drawn in proportion to the fourth root of n, so that a set of eight slices is
    neither lost nor memorized.

    Draws depend only on the seed, the epoch and the position in the epoch, so an epoch can start
    anywhere.

    Args:
        dataset: Slices to draw from, with replacement.
        batch_size: Slices per batch, over all processes together.
        samples: Slices per epoch, rounded down to whole batches.
        turns: Turns of a modality in a round, 1 if it is not named; more for modalities with
            several targets, of which a slice shows one or two.
        seed: Seed of the draws.
        views: Number of views of a slice to draw from, identified by :attr:`Draw.seed`; 0 for a
            new view every time.
        rank: Rank of this process; of ``n`` processes, each gets every n-th slice of each batch.
        processes: Number of processes that share a batch.

    Raises:
        OptionError: If an epoch would have no batch, or the processes cannot share a batch evenly;
            a modality without slices is skipped.
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
        self.groups = _groups(dataset.slices, {} if turns is None else turns)

    def __len__(self) -> int:
        return self.batches

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Continue drawing at a batch, counted from 0, of an epoch, counted from 1."""
        self.epoch, self.first = epoch, batch

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches of the current epoch, the first time from the chosen start."""
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
    """Handler that makes an epoch's draws depend only on its number, wherever it starts.

    Args:
        batches: Batch sampler of the trainer's loader.
    """

    def __init__(self, batches: ModalityBatches) -> None:
        self.batches = batches

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the sampler to the trainer's epoch and step."""
        self.batches.start_at(engine.state.epoch, engine.state.iteration % len(self.batches))


def _groups(
    slices: SliceSequence, turns: Mapping[str, int]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Return, for each turn, the slices to draw from and their cumulative probabilities."""
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
    """Return a tensor without its metadata."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def prepare_batch(
    batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False
) -> tuple[Tensor, Annotation, tuple[Tensor], dict[str, Any]]:
    """Return a batch for MONAI's engines: image, annotation, modality and the drawn targets."""
    image, label, known, labeled, drawn, modality = (
        batch[key].to(device, non_blocking=non_blocking)
        for key in ("image", "label", "known", "labeled", "drawn", "modality")
    )
    options = {"drawn": drawn}
    if "clicked" in batch:
        clicked = batch["clicked"].to(device, non_blocking=non_blocking)
        options["patch_prompt"] = clicked_patches(clicked, label, known, labeled)
    return image, Annotation(label, known, labeled, drawn), (modality,), options


def clicked_patches(clicked: Tensor, label: Tensor, known: Tensor, labeled: Tensor) -> Tensor:
    """Return what clicks say of patches, ``(B, T, h, w)`` float: 0 or 1, NaN where nothing is said.

    Args:
        clicked: Patches that are clicked, ``(B, T, h, w)`` bool.
        label: Masks, ``(B, T, H, W)`` of 0 and 1.
        known: Annotated targets, ``(B, T)`` bool.
        labeled: Annotated pixels, ``(B, 1, H, W)`` bool.
    """
    holds = F.max_pool2d(label.float(), PATCH)
    unlabeled = F.max_pool2d((~labeled).float(), PATCH) > 0
    said = clicked & known[:, :, None, None] & ~unlabeled
    return holds.masked_fill(~said, torch.nan)
