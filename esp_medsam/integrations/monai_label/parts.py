"""What the app's tasks share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.integrations.monai_label.settings import BUNDLE, TEMPORARY, LabelSettings
from esp_medsam.integrations.monai_label.versions import Versions
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE


class Parts(NamedTuple):
    """Parts of an app; none of them holds what one request asked for.

    Attributes:
        folder: The app's folder.
        settings: Settings of the app.
        table: Available modalities and targets.
        versions: Versions of the weights.
        segmenters: Segmenters of all versions.
    """

    folder: Path
    settings: LabelSettings
    table: ModalityTable
    versions: Versions
    segmenters: Segmenters

    @classmethod
    def of_app(cls, folder: Path) -> Parts:
        """Return the parts of an app that was prepared.

        Raises:
            OptionError: If the folder is no app's.
        """
        settings = LabelSettings.read(folder)
        return cls(
            folder=folder,
            settings=settings,
            table=ModalityTable.read(folder / BUNDLE / TABLE),
            versions=Versions(folder),
            segmenters=Segmenters(settings.device),
        )

    @property
    def temporary(self) -> Path:
        """Folder of uploads, and of results until they are sent."""
        return self.folder / TEMPORARY

    def ready(self, modality: str) -> list[str]:
        """Return the names of a modality's targets that are ready; there may be none."""
        return [target.name for target in self.table[modality].targets if target.tier == "ready"]
