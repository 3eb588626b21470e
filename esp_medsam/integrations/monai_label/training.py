"""Train a modality's own parameters on labels that users approved."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esp_medsam.errors import EspMedSamError, OptionError
from esp_medsam.identity import sha256_of
from esp_medsam.image import Image
from esp_medsam.integrations.monai_label.checked_image import check_image
from esp_medsam.integrations.monai_label.label_file import write_label_file
from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.integrations.monai_label.versions import Version, Versions
from esp_medsam.io.atomic import atomic_file
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.add_targets import ADD_CONFIG
from esp_medsam.workflows.bundle import WEIGHTS
from esp_medsam.workflows.datalist import parse_items
from esp_medsam.workflows.datalist_images import MaskReader
from esp_medsam.workflows.evaluation import plan_request
from esp_medsam.workflows.evaluation_run import evaluate_request
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.train_request import read_training
from esp_medsam.workflows.training_run import run_training
from esp_medsam.workflows.unmoved import check_unmoved
from esp_medsam.workflows.weights import place_weights


logger = logging.getLogger(__name__)

LEAST_IMAGES = 2
"""Number of images that are needed: one to train on, one to measure on."""

HELD_OUT = 5
"""One patient in so many is only measured on, at least one."""

SECTIONS = ("training", "validation", "kept")
"""Sections of the datalist: ``validation`` has the labels of the patients that are held out, and
``kept`` the masks, before the training, of the targets that those labels do not show, as far as
they do not claim what users drew as something else."""

SHOWN = "shown"
"""Key, in what is stated about a version, of the marks of the patients that it was shown."""

LEAST_AGREEMENT = 0.9
"""Dice with their earlier masks that targets without labels must keep on average."""

EPOCHS, LEARNING_RATE = 12, 5e-4
"""Defaults: a short run, at an eighth of the rate for new parameters, since these are trained."""

Item = dict[str, Any]


@dataclass(kw_only=True)
class Training:
    """A training of one modality.

    Args:
        modality: The modality, whose parameters alone change.
        table: Available modalities and targets.
        versions: The versions, to one of which a better one is added.
        segmenters: Segmenters, for the masks of targets that have no labels.
        folder: Folder of the run, which is replaced.
        device: Device to train on.
        epochs: Number of epochs.
        learning_rate: Peak learning rate.
        most_voxels: Limit of an image.
    """

    modality: str
    table: ModalityTable
    versions: Versions
    segmenters: Segmenters
    folder: Path
    device: str
    epochs: int = EPOCHS
    learning_rate: float = LEARNING_RATE
    most_voxels: int = 2**30

    def run(self, items: Sequence[Item]) -> Version:
        """Train from the current version on, measure, and add the result as a version.

        Targets without labels are held where they are: the current version's masks stand in for
        their labels.

        Args:
            items: Items of a datalist, from :func:`~.labels.item_of`.

        Raises:
            OptionError: If there are too few images or patients.
            EspMedSamError: If training fails.
        """
        began, source = time.monotonic(), self.versions.current(self.modality)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        datalist, counts = self._written(items, source)
        self._train(datalist, source)
        new = self._bundle(source)
        before, after = (
            self._scores(bundle, datalist, "validation") for bundle in (source.bundle, new)
        )
        targets = {name: {"before": before.get(name), "after": after[name]} for name in after}
        kept = self._scores(new, datalist, "kept") if counts.pop("kept") else {}
        stated = {
            "modality": self.modality,
            "from": source.name,
            "images": counts,
            "targets": targets,
            "kept": kept,
            "is_better": is_better(targets, kept),
            "weights_sha256": sha256_of(new / WEIGHTS),
            SHOWN: self._shown(datalist, source),
            "seconds": round(time.monotonic() - began),
        }
        return self.versions.add(self.modality, new, stated)

    def _stood_in(self, item: Item, number: int, source: Version) -> Item:
        """Return an item with the current masks of the targets that its labels do not show."""
        check_image(Path(item["image"]), self.most_voxels)
        said = {*item["labels"], *item["absent"]}
        ready = [
            target.name
            for target in self.table[self.modality].targets
            if target.tier == "ready" and target.name not in said
        ]
        if not ready:
            return {**item, "labels": {}, "absent": []}
        made = self.segmenters.segment(
            Path(item["image"]),
            bundle=source.bundle,
            device=self.device,
            most_seconds=float("inf"),
            modality=self.modality,
            targets=ready,
        )
        folder = self.folder / "masks" / str(number)
        folder.mkdir(parents=True)
        labelmap = made.labelmap.clone()
        labelmap[:, self._labeled(item, made.image)] = 0  # there, users know better
        file = write_label_file(labelmap, made.image, made.targets, folder)
        masks = {
            target.name: {"path": str(file), "values": [target.label]}
            for target in made.targets
            if (labelmap == target.label).any()
        }
        return {**item, "labels": masks, "absent": [name for name in ready if name not in masks]}

    def _labeled(self, item: Item, image: Image) -> Tensor:
        """Return where the labels of an item show anything, ``(*spatial)``."""
        parsed, _ = parse_items([item], "training", self.folder)
        masks = [mask for masks in parsed[0].labels.values() for mask in masks]
        return torch.from_numpy(MaskReader(image, self.table).united(masks))

    def _written(self, items: Sequence[Item], source: Version) -> tuple[Path, dict[str, int]]:
        """Write the datalist, and return it and how many images are in each of its sections."""
        held = held_out([item["patient"] for item in items], source.stated.get(SHOWN, ()))
        content: dict[str, list[Item]] = {name: [] for name in SECTIONS}
        for number, item in enumerate(items):
            others = self._stood_in(item, number, source)
            if item["patient"] not in held:
                labels = {**item["labels"], **others["labels"]}
                absent = [*item["absent"], *others["absent"]]
                content["training"].append({**item, "labels": labels, "absent": absent})
                continue
            content["validation"].append(item)
            if others["labels"]:
                drawn = [mask for masks in item["labels"].values() for mask in _listed(masks)]
                content["kept"].append({**others, "unknown": drawn})
        path = self.folder / "datalist.json"
        with atomic_file(path) as file:
            file.write(json.dumps(content, indent=1).encode())
        return path, {name: len(part) for name, part in content.items()}

    def _shown(self, datalist: Path, source: Version) -> list[str]:
        """Return the marks of the patients that this training and those before were shown."""
        trained = json.loads(datalist.read_text(encoding="utf-8"))["training"]
        own = {mark_of(item["patient"]) for item in trained}
        return sorted(own.union(source.stated.get(SHOWN, ())))

    def _train(self, datalist: Path, source: Version) -> None:
        request = read_training(
            source.bundle,
            [source.bundle / "configs" / ADD_CONFIG],
            trust_config=True,  # checked when the app was prepared
            datalist=str(datalist),
            output_dir=str(self.folder / "run"),
            pretrained=str(source.bundle / WEIGHTS),
            trained=[own_parameters(self.modality)],
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            device=self.device,
        )
        run_training(request)

    def _bundle(self, source: Version) -> Path:
        """Return a new bundle with the trained weights."""
        # The last weights: the best ones were chosen on the images that are measured on.
        trained, new = self.folder / "run" / "model_last.pt", self.folder / "bundle"
        check_unmoved(trained, source.bundle / WEIGHTS, but=own_parameters(self.modality))
        shutil.copytree(source.bundle, new)
        place_weights(new, trained, overwrite=True)
        return new

    def _scores(self, bundle: Path, datalist: Path, section: str) -> dict[str, float | None]:
        """Return the mean Dice of each target over the images of a section."""
        request = read_request(bundle, trust_config=True, device=self.device)
        request, plan = plan_request(request, datalist=str(datalist), section=section)
        return {score.target: score.dice for score in evaluate_request(request, plan).scores}


def _listed(masks: Any) -> list[Any]:
    """Return the masks of a target, of which there may be one or several."""
    return masks if isinstance(masks, list) else [masks]


def own_parameters(modality: str) -> str:
    """Return the pattern of the names of the parameters that serve one modality alone."""
    return f"*.{modality}.*"


def mark_of(patient: str) -> str:
    """Return what is kept of a patient that a training was shown: a hash, not the name."""
    return sha256(patient.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def held_out(patients: Sequence[str], shown: Collection[str] = ()) -> set[str]:
    """Return the patients that are only measured on, none of whom an earlier training was shown.

    Args:
        patients: Patient of each image.
        shown: Marks of the patients that earlier trainings were shown.

    Raises:
        OptionError: If there are too few.
    """
    marks = {mark_of(name): name for name in set(patients)}
    if len(marks) < LEAST_IMAGES:
        msg = f"Training needs final labels of {LEAST_IMAGES} patients at least, of which one is "
        raise OptionError(msg + f"only measured on; there are labels of {len(marks)}.")
    new = sorted(set(marks) - set(shown))
    if not new:
        msg = "Training needs a patient whom no earlier training was shown, to be measured on; "
        raise OptionError(msg + "there is none. Label another one.")
    held = [mark for mark in new if int(mark, 16) % HELD_OUT == 0]
    if len(held) in (0, len(marks)):
        held = new[:1]
    return {marks[mark] for mark in held}


def is_better(
    targets: Mapping[str, Mapping[str, float | None]], kept: Mapping[str, float | None]
) -> bool:
    """Whether a version may serve: labeled targets gained on average, the others stayed.

    Args:
        targets: Dice before and after, of labeled targets; None if no image shows them.
        kept: Dice of others with their masks before the training.
    """
    pairs = [(one["before"], one["after"]) for one in targets.values()]
    gains = [after - before for before, after in pairs if before is not None and after is not None]
    stayed = [dice for dice in kept.values() if dice is not None]
    has_gained = bool(gains) and sum(gains) > 0
    return has_gained and (not stayed or sum(stayed) / len(stayed) >= LEAST_AGREEMENT)


def usable_items(images: Sequence[str], item_of: Callable[[str], Item]) -> list[Item]:
    """Return the items of the images whose labels can be used, and log how many cannot.

    Args:
        images: Ids of images.
        item_of: Returns the item of one.
    """
    items = []
    for image in images:
        try:
            item = item_of(image)
        except EspMedSamError as error:
            logger.warning("A label is left out: %s", error.code)
            continue
        if item["labels"] or item["absent"]:
            items.append(item)
    return items
