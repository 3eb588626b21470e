"""Calibrate trained weights: plausibility of images, and expected Dice by confidence."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam.errors import EmptyInputError, InputNotFoundError, OptionError
from esp_medsam.inferers import SliceWiseInferer
from esp_medsam.inferers.calibration import (
    Calibration,
    calibration_path,
    input_settings,
    write_calibration,
)
from esp_medsam.inferers.plausibility import Plausibility, features_of
from esp_medsam.inferers.preparation import Slices
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.io.output_path import check_outputs
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import MeasureImage
from esp_medsam.workflows.confidence_curves import confidence_curves
from esp_medsam.workflows.datalist import Item, Tracked, check_targets, read_datalist
from esp_medsam.workflows.datalist_images import read_image
from esp_medsam.workflows.evaluate import CaseScorer
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request


IMAGES_OF_A_SET = 100
"""Images used per set, chosen by a hash of their names; more change little."""

SLICES_OF_A_VOLUME = 5
"""Slices used per volume, evenly spaced."""

DIRECTIONS = 24
"""Feature-space directions that separate kinds of images."""

SHRINKAGE = 0.3
"""Shrinkage of the covariance within kinds to isotropic, as dimensions outnumber images."""

FALSE_FLAGS = 0.02
"""Share of a modality's own images beyond the limit, with all modalities weighted equally."""


def calibrate(
    request: Request, datalist: str | Path, tracked: Tracked = iter
) -> tuple[Path, list[str]]:
    """Calibrate the weights of a request on a datalist, and write the result beside them.

    Args:
        request: Network and pipeline; all targets that it names are measured.
        datalist: Datalist with sections ``training`` and ``validation``.
        tracked: Wrapper that yields items one by one, and shows progress.

    Returns:
        The file that was written, and the findings, one line per modality.

    Raises:
        EspMedSamError: If the datalist, an image or the weights are not usable, or the file cannot
            be written.
    """
    table = request.table
    training, validation = (_items(datalist, name, table) for name in ("training", "validation"))
    parsed = read_config(request)
    settings = parsed.get_parsed_content("settings")
    check_outputs([calibration_path(settings.ckpt_path)], Path(settings.ckpt_path).parent)
    inferer, network = (parsed.get_parsed_content(key) for key in ("inferer", "network"))
    look = Look(table, inferer, network, ct_input=settings.ct_input)
    plausibility, scores = measure_plausibility(
        sample_items(training, table), sample_items(validation, table), look, tracked
    )
    scorer = CaseScorer(
        table=table,
        inferer=inferer,
        network=network,
        transforms=settings.transforms,
        ct_input=settings.ct_input,
    )
    masks = (score for item in tracked(validation) for score in scorer.score(item))
    calibration = Calibration(plausibility, confidence_curves(masks))
    path = write_calibration(settings.ckpt_path, calibration, input_settings(settings))
    return path, list(lines_of(scores))


def _items(datalist: str | Path, section: str, table: ModalityTable) -> list[Item]:
    """Return the items of a section; require at least one, known targets and existing files."""
    items = read_datalist(datalist, section)
    if not items:
        msg = f"datalist must hold at least one item under {section!r}; {datalist} holds none."
        raise EmptyInputError(msg)
    for item in items:
        check_targets(item, table)
    missing = [name for item in items for name in item.files if not Path(name).exists()]
    if missing:
        msg = f"datalist must name existing files; there is none at {missing[0]}."
        raise InputNotFoundError(msg)
    return items


class Seen(NamedTuple):
    """Encoder features of an image.

    Attributes:
        dataset: Name of its set.
        modality: Name of its modality.
        features: Features of its slices, ``(S, F)``.
    """

    dataset: str
    modality: str
    features: Tensor


@dataclass(eq=False)
class Look:
    """Callable that runs the encoder on images as inference does.

    Args:
        table: Modalities and targets.
        inferer: Inferer that prepares slices.
        network: Network that encodes slices.
        ct_input: Meaning of CT values if an item does not state it.
    """

    table: ModalityTable
    inferer: SliceWiseInferer
    network: Any
    ct_input: str | None = None

    def __call__(self, item: Item, modality: str | None = None) -> Seen:
        """Return the encoder features of an item.

        Args:
            item: See :func:`~esp_medsam.workflows.datalist.read_datalist`.
            modality: Modality whose controllers are used; None for the item's own.
        """
        record = read_image(item, self.table, ct_input=self.ct_input)
        assert record.pixels is not None
        record = MeasureImage(self.inferer.transforms)(record.pixels, record)
        slices = Slices(
            as_meta_tensor(record).as_tensor(),
            record,
            transforms=self.inferer.transforms,
            slice_axis=self.inferer.slice_axis,
        )
        count = min(len(slices), SLICES_OF_A_VOLUME)
        places = ((np.arange(count) + 0.5) * len(slices) / count).astype(int)
        device = next(self.network.parameters()).device
        own = self.table[item.modality].name
        index = self.network.modalities[own if modality is None else modality]
        features = []
        with torch.no_grad():
            for place in places:
                image, sizes = self.inferer.input_of([slices[int(place)]], slices.spacing, device)
                encoded = self.network.encode(image, torch.tensor([index], device=device))
                features.append(features_of(encoded, sizes).cpu())
        return Seen(item.set_name, own, torch.cat(features))


def sample_items(items: Sequence[Item], table: ModalityTable) -> list[Item]:
    """Return a sample of items from each set, the same ones every time.

    Raises:
        ModalityError: If the modality of an item is not in the table.
    """
    by_set: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        by_set[table[item.modality].name, item.set_name].append(item)
    return [
        item for each in by_set.values() for item in sorted(each, key=_drawn_by)[:IMAGES_OF_A_SET]
    ]


def _drawn_by(item: Item) -> bytes:
    return hashlib.sha256(item.image.encode("utf-8", "surrogateescape")).digest()


def measure_plausibility(
    training: Sequence[Item],
    validation: Sequence[Item],
    look: Look,
    tracked: Tracked = iter,
) -> tuple[Plausibility, dict[str, npt.NDArray[np.float64]]]:
    """Learn what images of each modality look like, and a limit that few of them exceed.

    Linear discriminants separate the sets of training images; an image's score is its distance to
    the nearest set of its modality. The limit comes from images not used for the discriminants.

    Args:
        training: Items to learn from.
        validation: Items whose distances set the limit.
        look: Callable that encodes the items.
        tracked: Wrapper that yields items one by one, and shows progress.

    Returns:
        The learned plausibility, and the scores of the validation images of each modality.

    Raises:
        OptionError: If there are fewer than two sets to learn from, if a modality has validation
            but no training images, or if the images do not differ.

    Reference:
        Lee et al., "A simple unified framework for detecting out-of-distribution samples and
        adversarial attacks", NeurIPS 2018: distances from class means in feature space.
    """
    learned = _discriminants([look(item) for item in tracked(training)])
    scores: dict[str, list[float]] = defaultdict(list)
    for seen in map(look, tracked(validation)):
        if seen.modality not in learned.centers:
            msg = (
                f"datalist must have training images of {seen.modality}, because it has "
                "validation images; "
            )
            raise OptionError(msg + "got none.")
        scores[seen.modality].append(score_of(learned, seen, seen.modality))
    found = {modality: np.array(each) for modality, each in scores.items()}
    limit = _beyond(list(found.values()), FALSE_FLAGS)
    if not limit > 0:
        msg = (
            "datalist must have validation images that differ from the training images; they "
            "look the same."
        )
        raise OptionError(msg)
    return (
        learned._replace(limit=limit),
        {modality: each / limit for modality, each in found.items()},
    )


def score_of(plausibility: Plausibility, seen: Seen, modality: str) -> float:
    """Return the score of an image for a stated modality: the median over its slices."""
    return float(plausibility.scores(seen.features, modality).median())


def _discriminants(seen: Sequence[Seen]) -> Plausibility:
    """Return directions and centers, with a preliminary limit of 1."""
    kinds: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = defaultdict(list)
    for one in seen:
        kinds[one.modality, one.dataset] += list(one.features.double().numpy())
    if len(kinds) < 2:
        msg = f"datalist must have at least two datasets in training; got {len(kinds)}."
        raise OptionError(msg)
    arrays = {kind: np.stack(rows) for kind, rows in kinds.items()}
    scale = np.concatenate(list(arrays.values())).std(0) + 1e-6
    centers = np.stack([rows.mean(0) for rows in arrays.values()]) / scale
    within = np.concatenate([(rows - rows.mean(0)) / scale for rows in arrays.values()])
    spread = within.T @ within / len(within)
    if not np.trace(spread) > 0:
        msg = (
            "datalist must have at least two different images of a dataset in training; no "
            "dataset has."
        )
        raise OptionError(msg)
    even = np.trace(spread) / len(spread) * np.eye(len(spread))
    whitening = np.linalg.cholesky(np.linalg.inv((1 - SHRINKAGE) * spread + SHRINKAGE * even))
    apart = (centers - centers.mean(0)) @ whitening
    _, _, directions = np.linalg.svd(apart, full_matrices=False)
    projection = whitening @ directions[:DIRECTIONS].T
    by_modality: dict[str, list[npt.NDArray[np.float64]]] = defaultdict(list)
    for (modality, _), center in zip(arrays, centers @ projection, strict=True):
        by_modality[modality].append(center)
    return Plausibility(
        torch.from_numpy(projection / scale[:, None]).float(),
        {name: torch.from_numpy(np.stack(rows)).float() for name, rows in by_modality.items()},
        1.0,
    )


def _beyond(groups: Sequence[npt.NDArray[np.float64]], share: float) -> float:
    """Return the value that a share of all values exceeds, with groups weighted equally."""
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1.0 / len(group)) for group in groups])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, 1.0 - share)])


def lines_of(scores: Mapping[str, npt.NDArray[np.float64]]) -> Iterator[str]:
    """Yield one line per modality: how many validation images lie beyond the limit."""
    for modality, each in scores.items():
        flagged = int((each > 1).sum())
        yield f"{modality}: {flagged} of {len(each)} validation images beyond the limit"
