"""Training slices: read as at inference, kept in memory as uint8, augmented view by view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from esp_medsam.errors import EmptyInputError, OptionError
from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.augmentation import augmentation
from esp_medsam.transforms.by_modality import ModalityTransforms, check_overrides
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.training_slices import slices_of


class SliceDataset(Dataset[dict[str, Any]]):
    """The slices of a datalist, in memory, as training or validation views.

    Args:
        datalist: JSON file, see :func:`read_datalist`.
        section: Section of it.
        table: Modalities and targets; also the index of each modality.
        input_size: ``(H, W)`` of the network's input.
        pixel_mean: Mean per channel, of values in 0..1.
        pixel_std: Standard deviation per channel.
        random: Whether views are augmented.
        workers: Threads that read files.
        transforms: Transforms by modality, in place of the defaults.
    """

    def __init__(
        self,
        *,
        datalist: str | Path,
        section: str,
        table: ModalityTable,
        input_size: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        random: bool,
        workers: int = 2,
        transforms: Mapping[str, ModalityTransforms] | None = None,
    ) -> None:
        check_overrides(transforms, table.names)
        self.table = table
        self.rows = max(len(modality.targets) for modality in table.modalities)
        height, width = input_size
        items = read_datalist(datalist, section)
        with ThreadPoolExecutor(workers) as pool:
            read_item = pool.map(
                lambda item: slices_of(item, table, (height, width), transforms), items
            )
            self.slices = [piece for pieces in read_item for piece in pieces]
        if not self.slices:
            msg = f"datalist must hold at least one item under {section!r}; {datalist} holds none."
            raise EmptyInputError(msg)
        self.views: dict[str, Compose] = {
            name: augmentation(name, (height, width), pixel_mean, pixel_std, random=random)
            for name in {piece.modality for piece in self.slices}
        }

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a view, by the names that a batch has them by.

        ``image (3, H, W)`` float, ``label (T, H, W)`` uint8, ``known (T,)`` and ``labeled
        (1, H, W)`` bool, and ``modality``, an index. T is the largest number of targets of any
        modality; rows beyond the slice's own are not known.
        """
        piece = self.slices[index]
        image = piece.image.expand(3, -1, -1).float() / 255.0
        masks = torch.cat([piece.label, piece.unlabeled])
        view = self.views[piece.modality]({"image": image, "label": masks})
        masks = _plain(view["label"]).to(torch.uint8)
        label = torch.zeros((self.rows, *masks.shape[-2:]), dtype=torch.uint8)
        label[: len(piece.label)] = masks[:-1]
        known = torch.zeros(self.rows, dtype=torch.bool)
        known[: len(piece.known)] = piece.known
        return {
            "image": _plain(view["image"]).float(),
            "label": label,
            "known": known,
            "labeled": masks[-1:] == 0,
            "modality": self.table[piece.modality].index,
        }


class ModalityBatches(Sampler[list[int]]):
    """Draw batches in which the modalities take turns, so that none is lost among the others.

    Batch sizes that are multiples of a round give every batch the same make-up, and so the same
    tensor shapes, which is what CPU kernels and compilers are fast on. Within a modality a set of
    n slices is drawn in proportion to the fourth root of n: a set of eight slices is neither lost
    nor learned by heart.

    Args:
        dataset: Slices to draw from, with replacement.
        batch_size: Slices of a batch.
        samples: Slices that make an epoch, rounded down to whole batches.
        turns: Turns of a modality in a round, 1 where it is not named; more for those with
            several targets, of which a slice shows one or two.
        seed: Seed of the draws; each epoch goes on with them.

    Raises:
        OptionError: If ``turns`` names an unknown modality; one without slices is passed over.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        *,
        batch_size: int,
        samples: int,
        turns: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.batch_size = batch_size
        self.batches = samples // batch_size
        self.generator = torch.Generator().manual_seed(seed)
        places: dict[str, list[int]] = {}
        for place, piece in enumerate(dataset.slices):
            places.setdefault(piece.modality, []).append(place)
        count = Counter((piece.modality, piece.dataset) for piece in dataset.slices)
        turns = {} if turns is None else turns
        if not turns.keys() <= set(dataset.table.names):
            msg = f"turns must name modalities, of {', '.join(dataset.table.names)}; "
            raise OptionError(msg + f"got {', '.join(turns)}.")
        self.groups: list[tuple[Tensor, Tensor]] = []
        for modality, group in places.items():
            pieces = [dataset.slices[place] for place in group]
            weights = [count[(piece.modality, piece.dataset)] ** -0.75 for piece in pieces]
            drawn_from = (torch.tensor(group), torch.tensor(weights))
            self.groups += [drawn_from] * turns.get(modality, 1)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        turn = 0
        for _ in range(self.batches):
            batch = []
            for _ in range(self.batch_size):
                places, weights = self.groups[turn % len(self.groups)]
                drawn = torch.multinomial(weights, 1, generator=self.generator)
                batch.append(int(places[drawn]))
                turn += 1
            yield batch


def _plain(image: Tensor) -> Tensor:
    """Return a MetaTensor's values alone."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def prepare_batch(
    batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False
) -> tuple[Tensor, Annotation, tuple[Tensor], dict[str, Any]]:
    """Hand a batch to MONAI's engines: image, annotation, and the modality as an argument."""
    image, label, known, labeled, modality = (
        batch[key].to(device, non_blocking=non_blocking)
        for key in ("image", "label", "known", "labeled", "modality")
    )
    return image, Annotation(label, known, labeled), (modality,), {}
