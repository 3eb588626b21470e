"""Search a folder, or a part of one, for images, DICOM volumes and earlier results."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from esp_medsam.dicom.dicomdir import is_dicomdir, note_on_missing, place_of
from esp_medsam.dicom.scan import Found, find_in_folders, find_volumes, is_dicom
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.formats import is_image
from esp_medsam.io.picture_file import PNG_MARK
from esp_medsam.io.record import JOURNALS
from esp_medsam.io.report_files import is_report_file
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.left_alone import is_left_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.walk import Part, cannot_be_listed, files_of_part, is_regular


@dataclass(eq=False)
class Search:
    """Contents of a folder, sorted by kind.

    Args:
        root: The folder, or a single file.
        include: Patterns of files to take.
        exclude: Patterns of files to leave out.
        series: The only DICOM volume to take.
        join: What to join although the DICOM files keep it apart.
    """

    root: Path
    include: Sequence[str] | str | None
    exclude: Sequence[str] | str | None
    series: str | None
    join: tuple[str, ...]
    inputs: list[Path] = field(default_factory=list, init=False)
    images: list[Path] = field(default_factory=list, init=False)
    volumes: list[tuple[Path, DicomVolume]] = field(default_factory=list, init=False)
    refused: list[Refusal] = field(default_factory=list, init=False)
    others: list[str] = field(default_factory=list, init=False)
    outputs: list[str] = field(default_factory=list, init=False)
    not_named: list[str] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def is_of_other(self, volume: DicomVolume, modality: str, table: ModalityTable) -> bool:
        """Whether a volume of a folder has another modality and was not named by the user."""
        return (
            self.series is None
            and not self.root.is_file()
            and is_left_alone(
                volume.dicom_modality, volume.sop_class_uid, modality, table, takes_open=True
            )
        )

    def relative_dir(self, path: str | Path) -> str:
        """Return a file's folder relative to the root; empty for the root itself."""
        if self.root.is_file():
            return ""
        relative = Path(path).parent.relative_to(self.root).as_posix()
        return "" if relative == os.curdir else relative

    def walk(self, part: Part, output_dir: Path | None) -> None:
        """Sort every file of a part of the root, except those in ``output_dir``."""
        if self.root.is_file():
            self.inputs.append(self.root)
            if is_dicom(self.root):
                self._take_dicom(self.root, find_volumes(self.root, join=self.join))
            else:
                self.images.append(self.root)
            return
        unreadable: list[tuple[Path, OSError]] = []
        dicom_folders: dict[Path, None] = {}
        every: list[Path] = []
        for path in files_of_part(part, unreadable, without=output_dir):
            every.append(path)
            if not self.chosen(path):
                continue
            if path.name.startswith(".") or not is_regular(path):
                self.others.append(str(path))
            elif is_output(path):
                self.outputs.append(str(path))
            elif is_dicom(path):
                self.inputs.append(path)
                dicom_folders[path.parent] = None
            elif is_image(path):
                self.inputs.append(path)
                self.images += [path] if not self.series else []
            else:
                self.others.append(str(path))
        for folder, found in find_in_folders(list(dicom_folders), self.chosen, self.join):
            self._take_dicom(folder, found)
        if part.is_whole:  # otherwise the DICOMDIR names files of other parts
            self._compare_dicomdirs(every)
        for folder, error in unreadable:
            self.refused.append(Refusal(str(folder), cannot_be_listed(folder, error)))

    def _take_dicom(self, folder: Path, found: Found) -> None:
        """Take the volumes that were found in a folder or a single file."""
        for volume in found.volumes:
            paths = [Path(path) for path, _ in volume.states]
            is_former = volume.former_name and self.series == volume.former_name
            is_named = is_former or self._is_named(volume.name)
            if is_named and all(map(self.chosen, paths)):
                self.volumes.append((folder, volume))
        self.refused += [
            Refusal(str(folder), error, name)
            for name, error in found.refused
            if self._is_named(name)
        ]
        # Reports, segmentations and the like; files that are not DICOM were sorted before.
        for other in found.others:
            path = Path(other)
            if self.chosen(path) and is_dicom(path) and not is_output(path):
                self.others.append(other)

    def _compare_dicomdirs(self, every: Sequence[Path]) -> None:
        """Note files that a DICOMDIR lists but that are missing."""
        for path in map(Path, self.others):
            if path.stem.casefold() != "dicomdir" or not is_dicomdir(path):
                continue
            folder = path.parent
            below = [file for file in every if file.is_relative_to(folder)]
            note = note_on_missing(path, {place_of(file.relative_to(folder)) for file in below})
            self.notes += [note] if note else []

    def _is_named(self, name: str) -> bool:
        if self.series is None or name == self.series or name.startswith(f"{self.series}_"):
            return True
        self.not_named.append(name)
        return False

    def chosen(self, path: Path) -> bool:
        """Whether the patterns select a file."""
        relative = path.name if self.root.is_file() else path.relative_to(self.root).as_posix()
        return _chosen(relative, self.include, self.exclude)


def _chosen(
    path: str, include: Sequence[str] | str | None, exclude: Sequence[str] | str | None
) -> bool:
    """Whether the patterns select a path."""
    wanted = [include] if isinstance(include, str) else include
    unwanted = [exclude] if isinstance(exclude, str) else exclude
    return (not wanted or any(fnmatch(path, pattern) for pattern in wanted)) and not any(
        fnmatch(path, pattern) for pattern in unwanted or ()
    )


def is_output(path: Path) -> bool:
    """Whether this package wrote a file, judged by its name and by its own or its record's mark.

    A marked picture counts whatever its name, because inspect writes where the user says.
    """
    if path.suffix.lower() == ".png" and is_ours(path, PNG_MARK):
        return True
    if path.name.startswith(JOURNALS):  # and files beside it that a killed run leaves
        return True
    if is_report_file(path):
        return True
    stems = [path.name[: end.start()] for end in re.finditer(r"_seg(?=[._])", path.name)]
    if not stems:
        return False
    # A killed run leaves no record; an image that a viewer saved again has lost its mark.
    return is_ours(path) or any(is_ours(path.with_name(f"{s}_seg.json")) for s in stems)
