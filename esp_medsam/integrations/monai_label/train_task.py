"""Training from a client, as MONAI Label's server runs it: in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from filelock import FileLock, Timeout
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask as MonaiLabelTask

from esp_medsam.errors import OptionError, check_one_of
from esp_medsam.integrations.monai_label.final_labels import final_label, labeled_images
from esp_medsam.integrations.monai_label.labels import item_of
from esp_medsam.integrations.monai_label.parts import Parts
from esp_medsam.integrations.monai_label.training import (
    EPOCHS,
    LEARNING_RATE,
    LEAST_IMAGES,
    SHOWN,
    Training,
    usable_items,
)
from esp_medsam.training_settings import TrainSettings


TRAINING = "training"
"""Name of the folder of runs in the app's folder; one of each modality, the newest."""


class TrainTask(MonaiLabelTask):  # type: ignore[misc]  # MONAI Label has no types
    """Training of one modality's parameters on the final labels of its images.

    Args:
        modality: The modality.
        parts: What the app's tasks share.
    """

    def __init__(self, modality: str, parts: Parts) -> None:
        super().__init__(f"Trains what serves {modality} alone, on its final labels.")
        self.modality = modality
        self.parts = parts

    def config(self) -> dict[str, Any]:
        """Return the options, as clients show them."""
        devices = list(self.parts.segmenters.devices)
        return {"epochs": EPOCHS, "learning_rate": LEARNING_RATE, "device": devices}

    def stats(self) -> dict[str, Any]:
        """Return what was measured of each version, and which is served by default."""
        stated = {
            version.name: {name: value for name, value in version.stated.items() if name != SHOWN}
            for version in self.parts.versions.all(self.modality)
        }
        return {"current": self.parts.versions.current(self.modality).name, "versions": stated}

    def checked(self, params: Mapping[str, Any], store: Datastore) -> dict[str, Any]:
        """Return the options of a request, after all checks that need no image.

        Raises:
            OptionError: If one is invalid, or there are too few labels.
        """
        own = {name: params.get(name, default) for name, default in self.config().items()}
        device = own.pop("device")
        if isinstance(device, list) or device not in self.parts.segmenters.devices:
            device = self.parts.segmenters.devices[0]
        check_one_of("device", device, self.parts.segmenters.devices)
        options = TrainSettings.given(own)
        labeled = labeled_images(store, self.modality, self.parts.settings.modalities)
        if len(labeled) < LEAST_IMAGES:
            msg = f"Training needs at least {LEAST_IMAGES} final labels of {self.modality}; there "
            raise OptionError(msg + f"are {len(labeled)}.")
        return {**options, "device": device}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and return what is stated about the new version.

        Raises:
            EspMedSamError: If it cannot be trained; the versions stay as they were.
        """
        options = self.checked(request, datastore)
        runs = self.parts.folder / TRAINING
        runs.mkdir(exist_ok=True)
        training = Training(
            modality=self.modality,
            table=self.parts.table,
            versions=self.parts.versions,
            segmenters=self.parts.segmenters,
            folder=runs / self.modality,
            most_voxels=self.parts.settings.most_voxels,
            **options,
        )
        try:
            with FileLock(runs / ".lock", timeout=0):
                images = labeled_images(datastore, self.modality, self.parts.settings.modalities)
                items = usable_items(
                    images,
                    lambda one: item_of(
                        final_label(datastore, one), self.modality, self.parts.table
                    ),
                )
                stated = training.run(items).stated
                return {name: value for name, value in stated.items() if name != SHOWN}
        except Timeout:
            msg = "Training must be the only one on this server; another one is under way."
            raise OptionError(msg) from None
