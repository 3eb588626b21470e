"""Training from a client, as MONAI Label's server runs it: in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask as MonaiLabelTask

from esp_medsam.errors import OptionError, check_one_of
from esp_medsam.integrations.monai_label.final_labels import final_label, labeled_images
from esp_medsam.integrations.monai_label.labels import item_of
from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.integrations.monai_label.training import (
    EPOCHS,
    LEARNING_RATE,
    LEAST_IMAGES,
    Training,
    usable_items,
)
from esp_medsam.integrations.monai_label.versions import Versions
from esp_medsam.modality import ModalityTable
from esp_medsam.training_settings import TrainSettings


TRAINING = "training"
"""Name of the folder of runs in the app's folder; one of each modality, the newest."""


class TrainTask(MonaiLabelTask):  # type: ignore[misc]  # MONAI Label has no types
    """Training of one modality's parameters on the final labels of its images.

    Args:
        modality: The modality.
        table: Available modalities and targets.
        versions: Versions of the weights.
        segmenters: Segmenters of all versions.
        served: Modalities that the server offers.
        folder: The app's folder.
        most_voxels: Limit of an image.
    """

    def __init__(
        self,
        modality: str,
        *,
        table: ModalityTable,
        versions: Versions,
        segmenters: Segmenters,
        served: Sequence[str],
        folder: Path,
        most_voxels: int,
    ) -> None:
        super().__init__(f"Trains what serves {modality} alone, on its final labels.")
        self.modality = modality
        self.table = table
        self.versions = versions
        self.segmenters = segmenters
        self.served = served
        self.folder = folder
        self.most_voxels = most_voxels

    def config(self) -> dict[str, Any]:
        """Return the options, as clients show them."""
        devices = list(self.segmenters.devices)
        return {"epochs": EPOCHS, "learning_rate": LEARNING_RATE, "device": devices}

    def stats(self) -> dict[str, Any]:
        """Return what is known of each version, and which is served by default."""
        versions = self.versions.all(self.modality)
        return {
            "current": self.versions.current(self.modality).name,
            "versions": {version.name: dict(version.stated) for version in versions},
        }

    def checked(self, params: Mapping[str, Any], store: Datastore) -> dict[str, Any]:
        """Return the options of a request, after all checks that need no image.

        Raises:
            OptionError: If one is invalid, or there are too few labels.
        """
        own = {name: params.get(name, default) for name, default in self.config().items()}
        device = own.pop("device")
        if isinstance(device, list) or device not in self.segmenters.devices:
            device = self.segmenters.devices[0]
        check_one_of("device", device, self.segmenters.devices)
        options = TrainSettings.given(own)
        labeled = labeled_images(store, self.modality, self.served)
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
        runs = self.folder / TRAINING
        runs.mkdir(exist_ok=True)
        training = Training(
            modality=self.modality,
            table=self.table,
            versions=self.versions,
            segmenters=self.segmenters,
            folder=runs / self.modality,
            most_voxels=self.most_voxels,
            **options,
        )
        try:
            with FileLock(runs / ".lock", timeout=0):
                images = labeled_images(datastore, self.modality, self.served)
                items = usable_items(
                    images,
                    lambda one: item_of(final_label(datastore, one), self.modality, self.table),
                )
                return dict(training.run(items).stated)
        except Timeout:
            msg = "Training must be the only one on this server; another one is under way."
            raise OptionError(msg) from None
