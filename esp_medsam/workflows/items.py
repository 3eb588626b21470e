"""Find what a run segments: one file, or all images and volumes in a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from esp_medsam.dicom.dicomdir import is_dicomdir
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES, resolve_modality
from esp_medsam.dicom.scan import is_dicom
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import (
    EspMedSamError,
    InputNotFoundError,
    ModalityConflictError,
    ModalityError,
)
from esp_medsam.io.formats import is_image
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.archives import check_no_archive
from esp_medsam.workflows.clashes import without_clashes, without_replacing
from esp_medsam.workflows.left_alone import (
    count_left_alone,
    nothing_taken,
    volumes_of_others,
)
from esp_medsam.workflows.readable_names import READABLE, readable_name, with_names
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.search import Search
from esp_medsam.workflows.walk import is_regular, is_there


@dataclass(frozen=True)
class Plan:
    """The items of a run, and what it leaves alone.

    Attributes:
        items: What is to be segmented, sorted by path.
        refused: What cannot be taken, each with the reason.
        others: Files that are no images.
        outputs: Our own outputs of this or an earlier run.
        notes: What is to be known of the input as a whole, without full stops.
        other_modalities: Number of DICOM volumes of other modalities than that of the run, by
            theirs.
    """

    items: tuple[Item, ...]
    refused: tuple[Refusal, ...] = ()
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
    search = Search(root, include, exclude, series, tuple(join or ()))
    search.walk(output)
    if given is None and search.images and not (search.volumes or search.refused):
        msg = f"modality must be given; it is one of {', '.join(table.names)}."
        raise ModalityError(msg)
    if not (search.images or search.volumes or search.refused):
        raise nothing_taken(search.root, search.others, search.outputs, series, search.not_named)
    settled = _Settled([], [], Counter())
    for path in search.images:
        item = Item.of_file(path, search.relative_dir(path), given)
        if given is None:
            settled.refused.append(Refusal.of(item, _no_modality(path, table)))
        else:
            settled.items.append((item, ""))
    _settle_volumes(
        search,
        table,
        given,
        settled,
        force=force_modality,
        leaves=not force_modality if leave_alone is None else leave_alone,
        # By what name it may be known is asked where there may be results, or is to be given.
        reads_names=names == READABLE or (output is not None and is_there(output)),
    )
    if settled.others and not (settled.items or settled.refused or search.refused):
        raise _none_of(given, root, settled.others)
    named = with_names(settled.items, output, readable=names == READABLE)
    kept, clashing = without_clashes(named)
    if output is not None:
        kept, replacing = without_replacing(kept, search.inputs, output)
        clashing += replacing
    return Plan(
        tuple(kept),
        (*clashing, *settled.refused, *search.refused),
        tuple(search.others),
        tuple(search.outputs),
        tuple(search.notes),
        settled.others,
    )


class _Settled(NamedTuple):
    """Items that have a modality, what has none, and how many DICOM volumes are of others.

    Of each item it holds the readable name, which is empty where it is not asked for.
    """

    items: list[tuple[Item, str]]
    refused: list[Refusal]
    others: Counter[str]


def _settle_volumes(
    search: Search,
    table: ModalityTable,
    given: str | None,
    settled: _Settled,
    *,
    force: bool,
    leaves: bool,
    reads_names: bool,
) -> None:
    """Settle the modality of each DICOM volume, by the user's word or by its own."""
    for folder, volume in search.volumes:
        if given is not None and leaves and search.is_of_other(volume, given, table):
            settled.others[_modality_said(volume, table)] += 1
            continue
        try:
            modality, _ = resolve_modality(
                volume.dicom_modality,
                volume.sop_class_uid,
                given,
                table,
                force=force,
                source=f"{folder} ({volume.name})",
            )
            readable = readable_name(volume, modality, table) if reads_names else ""
        except EspMedSamError as error:
            settled.refused.append(Refusal(str(folder), error, volume.name))
            continue
        item = Item(
            path=str(folder),
            name=volume.name,
            relative_dir=search.relative_dir(folder / volume.name),
            modality=modality,
            volume=volume,
            other_names=(volume.former_name,) if volume.former_name else (),
        )
        settled.items.append((item, readable))


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


def _no_modality(path: Path, table: ModalityTable) -> ModalityError:
    """Say that the file's format does not know its modality."""
    msg = f"modality must be given for {path}, one of {', '.join(table.names)}. "
    return ModalityError(msg + "Pass --modality.")
