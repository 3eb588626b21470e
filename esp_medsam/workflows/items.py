"""What a run takes: one file, or every readable image and DICOM volume below a folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from esp_medsam.dicom.dicomdir import compared, is_dicomdir, place_of
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES, settle
from esp_medsam.dicom.scan import Found, find_in_folders, find_volumes, is_dicom
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import (
    EspMedSamError,
    InputNotFoundError,
    ModalityConflictError,
    ModalityError,
)
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.raster import PNG_MARK
from esp_medsam.io.read import is_image, is_volume, name_of
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.archives import check_no_archive
from esp_medsam.workflows.clashes import without_clashes, without_replacing
from esp_medsam.workflows.item import Item
from esp_medsam.workflows.left_alone import (
    count_left_alone,
    is_left_alone,
    nothing_taken,
    volumes_of_others,
)
from esp_medsam.workflows.readable_names import READABLE, readable_name, with_names
from esp_medsam.workflows.walk import cannot_be_listed, files_below, is_regular, is_there


@dataclass(frozen=True)
class Plan:
    """The items of a run, and what it leaves alone.

    Attributes:
        items: What is to be segmented, sorted by path.
        refused: Items, and folders, that cannot be taken, each with the reason.
        others: Files that are no images.
        outputs: Our own outputs of this or an earlier run.
        notes: What is to be known of the input as a whole, without full stops.
        other_modalities: Number of DICOM volumes of other modalities than that of the run, by
            theirs.
    """

    items: tuple[Item, ...]
    refused: tuple[tuple[Item, EspMedSamError], ...] = ()
    others: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_modalities: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_alone(self) -> str:
        """What is no item, in one line; empty where there is nothing else."""
        files = count_left_alone(self.others, self.outputs) if self.others or self.outputs else ""
        volumes = volumes_of_others(self.other_modalities) if self.other_modalities else ""
        return "; ".join(filter(None, (files, volumes, *self.notes)))


def plan_items(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] | None,
    include: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    *,
    table: ModalityTable,
    modality: str | Sequence[str],
    force_modality: bool = False,
    series: str | None = None,
    join: Sequence[str] | None = None,
    leave_alone: bool | None = None,
    names: str = "uid",
) -> Plan:
    """Find the images to segment.

    Left out are our own outputs, the output folder where it lies inside the input, hidden files,
    and what ``include`` and ``exclude`` say; of a DICOM volume they must take every file. Images
    that would share an output's name, case ignored, are refused, each with the others' names, and
    so are those whose outputs would replace an input, and DICOM volumes whose headers cannot be
    read or whose modality is not settled; the rest goes on.

    DICOM volumes of a folder that are of another modality than the one given are left alone and
    counted, unless ``series`` names them.

    Args:
        dataset_dir: Folder, searched in depth, or one file; a DICOMDIR stands for its folder.
        output_dir: Where outputs go; None where there will be none.
        include: Patterns (``*``, ``?``) of paths below the folder, one of which must match; None
            means all.
        exclude: Patterns of paths to leave out.
        table: Modalities at hand.
        modality: Name of the images' modality; a list, as of all names, leaves it to DICOM.
        force_modality: Whether ``modality`` counts against what DICOM says.
        series: Name or Series Instance UID of the DICOM volume to take alone; None takes all.
        join: What to join that DICOM files keep apart, of ``esp_medsam.dicom.joining.JOINS``.
        leave_alone: Whether volumes of other modalities are left alone, not refused; None leaves
            them alone unless the modality is forced.
        names: What results of DICOM are called: ``uid``, or ``readable``, see
            :func:`~esp_medsam.workflows.readable_names.readable_name`.

    Raises:
        InputNotFoundError: If ``dataset_dir`` does not exist.
        FormatError: If it is an archive.
        EmptyInputError: If nothing is left to segment.
        ModalityConflictError: If all that it holds is left alone.
        ModalityError: If no modality is given, and no file is of a kind that says it.
    """
    root, output = Path(dataset_dir), None if output_dir is None else Path(output_dir)
    if not is_there(root):
        msg = f"{root} must be an existing file or folder; there is none."
        raise InputNotFoundError(msg)
    if is_regular(root) and is_dicomdir(root):
        root = root.parent
    elif is_regular(root) and not is_image(root) and not is_dicom(root):
        check_no_archive(root)
    given = modality if isinstance(modality, str) else None
    search = _Search(root, include, exclude, series, tuple(join or ()))
    search.walk(output)
    if given is None and search.images and not (search.volumes or search.refused):
        msg = f"modality must be given; it is one of {', '.join(table.names)}."
        raise ModalityError(msg)
    if not (search.images or search.volumes or search.refused):
        raise nothing_taken(search.root, search.others, search.outputs, series, search.not_named)
    items = [_item(path, search.relative_dir(path), given) for path in search.images]
    refused: list[tuple[Item, EspMedSamError]] = [
        (item, _no_modality(item, table)) for item in items if given is None
    ]
    items = [item for item in items if given is not None]
    may_leave = not force_modality if leave_alone is None else leave_alone
    others = Counter[str]()
    # By what name it may be known is asked where there may be results, or where it is to be given.
    reads_names = names == READABLE or (output is not None and is_there(output))
    for folder, volume in search.volumes:
        if given is not None and may_leave and search.is_of_other(volume, given, table):
            others[_modality_said(volume, table)] += 1
            continue
        item = _volume_item(folder, volume, search.relative_dir(folder / volume.name))
        try:
            item["modality"], _ = settle(
                volume.dicom_modality,
                volume.sop_class_uid,
                given,
                table,
                force=force_modality,
                source=f"{folder} ({volume.name})",
            )
            if reads_names:
                item["readable"] = readable_name(volume, item["modality"], table)
        except EspMedSamError as error:
            refused.append((item, error))
        else:
            items.append(item)
    if others and not (items or refused or search.refused):
        raise _none_of(given, root, others)
    kept, clashing = without_clashes(with_names(items, output, readable=names == READABLE))
    if output is not None:
        kept, replacing = without_replacing(kept, search.inputs, output)
        clashing += replacing
    return Plan(
        kept,
        (*clashing, *refused, *search.refused),
        tuple(search.others),
        tuple(search.outputs),
        tuple(search.notes),
        others,
    )


class _Search:
    """What lies below a folder, kind by kind.

    Args:
        root: The folder, or one file.
        include: Patterns that take.
        exclude: Patterns that leave out.
        series: DICOM volume to take alone.
        join: What to join that DICOM files keep apart.
    """

    def __init__(
        self,
        root: Path,
        include: Sequence[str] | str | None,
        exclude: Sequence[str] | str | None,
        series: str | None,
        join: tuple[str, ...],
    ) -> None:
        self.root = root
        self.include = include
        self.exclude = exclude
        self.series = series
        self.join = join
        self.inputs: list[Path] = []
        self.images: list[Path] = []
        self.volumes: list[tuple[Path, DicomVolume]] = []
        self.refused: list[tuple[Item, EspMedSamError]] = []
        self.others: list[str] = []
        self.outputs: list[str] = []
        self.not_named: list[str] = []
        self.notes: list[str] = []

    def is_of_other(self, volume: DicomVolume, modality: str, table: ModalityTable) -> bool:
        """Whether a volume of a folder is of another modality, and nobody named it."""
        return (
            self.series is None
            and not self.root.is_file()
            and is_left_alone(
                volume.dicom_modality, volume.sop_class_uid, modality, table, takes_open=True
            )
        )

    def relative_dir(self, path: str | Path) -> str:
        """Return the folder of a file below the root; empty for the root itself."""
        if self.root.is_file():
            return ""
        relative = Path(path).parent.relative_to(self.root).as_posix()
        return "" if relative == os.curdir else relative

    def walk(self, output_dir: Path | None) -> None:
        """Sort every file; ``output_dir`` is left out."""
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
        for path in files_below(self.root, unreadable, without=output_dir):
            every.append(path)
            if not self._chosen(path):
                continue
            if path.name.startswith(".") or not is_regular(path):
                self.others.append(str(path))
            elif _is_output(path):
                self.outputs.append(str(path))
            elif is_dicom(path):
                self.inputs.append(path)
                dicom_folders[path.parent] = None
            elif is_image(path):
                self.inputs.append(path)
                self.images += [path] if not self.series else []
            else:
                self.others.append(str(path))
        for folder, found in find_in_folders(list(dicom_folders), self._chosen, self.join):
            self._take_dicom(folder, found)
        self._compare_dicomdirs(every)
        for folder, error in unreadable:
            self.refused.append((_item(folder, "", None), cannot_be_listed(folder, error)))

    def _take_dicom(self, folder: Path, found: Found) -> None:
        """Take the volumes that were found in a folder, or one file."""
        for volume in found.volumes:
            paths = {Path(piece.source.path) for piece in volume.slices}
            is_former = volume.former_name and self.series == volume.former_name
            is_named = is_former or self._named(volume.name)
            if is_named and all(self._chosen(path) for path in paths):
                self.volumes.append((folder, volume))
        for name, error in found.refused:
            if self._named(name):
                item = _item(folder, self.relative_dir(folder / name), None)
                self.refused.append(({**item, "name": name, "volume": name}, error))
        # Reports, segmentations and the like; what is no DICOM at all was sorted before.
        for other in found.others:
            path = Path(other)
            if self._chosen(path) and is_dicom(path) and not _is_output(path):
                self.others.append(other)

    def _compare_dicomdirs(self, every: Sequence[Path]) -> None:
        """Note which files are missing that a medium's own list names."""
        for path in map(Path, self.others):
            if path.stem.casefold() != "dicomdir" or not is_dicomdir(path):
                continue
            folder = path.parent
            below = [file for file in every if file.is_relative_to(folder)]
            note = compared(path, {place_of(file.relative_to(folder)) for file in below})
            self.notes += [note] if note else []

    def _named(self, name: str) -> bool:
        if self.series is None or name == self.series or name.startswith(f"{self.series}_"):
            return True
        self.not_named.append(name)
        return False

    def _chosen(self, path: Path) -> bool:
        relative = path.name if self.root.is_file() else path.relative_to(self.root).as_posix()
        return _chosen(relative, self.include, self.exclude)


def _chosen(
    path: str, include: Sequence[str] | str | None, exclude: Sequence[str] | str | None
) -> bool:
    """Whether the patterns take a path."""
    wanted = [include] if isinstance(include, str) else include
    unwanted = [exclude] if isinstance(exclude, str) else exclude
    return (not wanted or any(fnmatch(path, pattern) for pattern in wanted)) and not any(
        fnmatch(path, pattern) for pattern in unwanted or ()
    )


def _is_output(path: Path) -> bool:
    """Whether a file is one of ours: by its name, and its own mark or its record's.

    A picture that was written here is, whatever its name: inspect's goes where the user says.
    """
    if path.suffix.lower() == ".png" and is_ours(path, PNG_MARK):
        return True
    stems = [path.name[: end.start()] for end in re.finditer(r"_seg(?=[._])", path.name)]
    if not stems:
        return False
    # A killed run leaves no record; an image that a viewer saved anew has lost its mark.
    return is_ours(path) or any(is_ours(path.with_name(f"{s}_seg.json")) for s in stems)


def _item(path: Path, relative_dir: str, modality: str | None) -> Item:
    """Describe one file, for the loader and the saver."""
    return {
        "image": str(path),
        "name": name_of(path),
        "relative_dir": relative_dir,
        "modality": modality,
        "is_volume": is_volume(path),
    }


def _volume_item(folder: Path, volume: DicomVolume, relative_dir: str) -> Item:
    """Describe one DICOM volume, for the loader and the saver; its modality is not settled."""
    return {
        "image": str(folder),
        "name": volume.name,
        "relative_dir": relative_dir,
        "modality": None,
        "is_volume": len(volume.spatial_shape) == 3,
        "volume": volume.name,
        "former_name": volume.former_name,
        "files": sorted({piece.source.path for piece in volume.slices}),
        "warnings": volume.warnings,
    }


def _modality_said(volume: DicomVolume, table: ModalityTable) -> str:
    """Return the Modality that a volume states, or that its SOP class stands for.

    What is no known one is not told: some write names there.
    """
    value = (volume.dicom_modality or "").strip().upper()
    known = {
        *SOP_CLASS_MODALITIES.values(),
        *(v for m in table.modalities for v in m.dicom_modalities),
    }
    return value if value in known else SOP_CLASS_MODALITIES.get(volume.sop_class_uid, "unknown")


def _none_of(given: str | None, root: Path, others: Mapping[str, int]) -> ModalityConflictError:
    """Say that all of a folder is of other modalities."""
    told = volumes_of_others(others)
    msg = f"{root} must hold an image of the modality given, {given}; got {told}. "
    msg += "Give the right one, or pass --force_modality if the files are wrong."
    return ModalityConflictError(msg)


def _no_modality(item: Item, table: ModalityTable) -> ModalityError:
    """Say that the file's format does not know its modality."""
    msg = f"modality must be given for {item['image']}, one of {', '.join(table.names)}. "
    return ModalityError(msg + "Pass --modality.")
