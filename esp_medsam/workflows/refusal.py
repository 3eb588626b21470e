"""What a run cannot take, and why."""

from __future__ import annotations

from dataclasses import dataclass

from esp_medsam.io.item import Item, label_of
from esp_medsam.workflows.results import ItemResult, failure


@dataclass(frozen=True)
class Refusal:
    """A file, a folder or a DICOM volume that cannot be taken.

    Attributes:
        path: The file, or the folder.
        error: Why not.
        volume_name: Name of the DICOM volume in the folder; None for other formats.
    """

    path: str
    error: Exception
    volume_name: str | None = None

    @classmethod
    def of(cls, item: Item, error: Exception) -> Refusal:
        """Return the refusal of an item."""
        return cls(item.path, error, item.volume_name)

    @property
    def label(self) -> str:
        """What messages call it."""
        return label_of(self.path, self.volume_name)

    @property
    def result(self) -> ItemResult:
        """The failure that it is, with its code and what to do."""
        return failure(self.label, self.error)
