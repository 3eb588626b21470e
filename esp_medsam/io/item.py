"""An image or volume that a run processes, and what planning found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.io.formats import files_of, is_volume, name_of


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or volume of a run, as planning found it.

    Attributes:
        path: The file, as the user wrote it; for a DICOM volume its folder, or its only file.
        name: Name of its outputs, before ``_seg``.
        relative_dir: Folder of its outputs below the output folder.
        modality: Name of its modality; None if it is not settled.
        volume: What the headers of a DICOM volume say; None for other formats.
        other_names: Names that earlier versions, or other options, give its outputs.
    """

    path: str
    name: str
    relative_dir: str = ""
    modality: str | None = None
    volume: DicomVolume | None = None
    other_names: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, path: str | Path, relative_dir: str = "", modality: str | None = None) -> Item:
        """Return the item of one file, or of a folder whose content is not read yet."""
        return cls(path=str(path), name=name_of(path), relative_dir=relative_dir, modality=modality)

    @property
    def label(self) -> str:
        """Label for messages: its path, and the name of a DICOM volume."""
        return label_of(self.path, self.volume_name)

    @property
    def volume_name(self) -> str | None:
        """Name of the DICOM volume; None for other formats."""
        return self.volume.name if self.volume else None

    @property
    def is_dicom(self) -> bool:
        """Whether the item is read from DICOM files."""
        return self.volume is not None

    @property
    def is_volume(self) -> bool:
        """Whether the item has three axes."""
        return self.volume.grid.is_volume if self.volume else is_volume(self.path)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the item is read from.

        Raises:
            EspMedSamError: If the header that names them cannot be read.
        """
        if self.volume:
            return tuple(path for path, _ in self.volume.states)
        return tuple(map(str, files_of(self.path)))


def label_of(path: str | Path, volume: str | None) -> str:
    """Return the label of an input for messages: its path, and the name of a DICOM volume."""
    return f"{path} ({volume})" if volume else str(path)
