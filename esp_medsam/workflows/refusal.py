"""Inputs that a run cannot process, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass

from esp_medsam.io.item import Item, label_of
from esp_medsam.workflows.results import ItemResult, failure


@dataclass(frozen=True)
class Refusal:
    """A file, folder or DICOM volume that cannot be processed.

    Attributes:
        path: The file or folder.
        error: The reason.
        volume_name: Name of the DICOM volume in the folder; None for other formats.
    """

    path: str
    error: Exception
    volume_name: str | None = None

    @classmethod
    def of(cls, item: Item, error: Exception) -> Refusal:
        """Return the refusal of an item for an error."""
        return cls(item.path, error, item.volume_name)

    @property
    def label(self) -> str:
        """Name used in messages."""
        return label_of(self.path, self.volume_name)

    @property
    def result(self) -> ItemResult:
        """The refusal as a failed result, with its code and what to do."""
        return failure(self.label, self.error)
