"""Find what a run segments: one file, or all images and volumes in a folder, part by part."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
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
    ReadError,
    not_found,
)
from esp_medsam.io.formats import is_image, name_of
from esp_medsam.io.item import Item
from esp_medsam.modality import ONLY_DICOM, ModalityTable, modality_needed
from esp_medsam.run_share import RunShare
from esp_medsam.workflows.archives import check_no_archive
from esp_medsam.workflows.clashes import OUTPUT_ENDING, without_clashes, without_replacing
from esp_medsam.workflows.input_files import InputFiles
from esp_medsam.workflows.left_alone import LeftAlone, nothing_taken, volumes_of_others
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.readable_names import READABLE, readable_name, with_names
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.search import Search, is_output
from esp_medsam.workflows.walk import Part, files_below, is_regular, is_there, parts_below


FILES_AT_ONCE = 20_000
"""Maximum number of files from several folders that are planned together."""


JOINED_IN_PARTS = "images of different folders are not joined, because there are too many files"

IN_TWO_PARTS = (
    "Other images of this series lie in another folder, which was planned separately because "
    "there are many files; this volume may be incomplete. Segment a folder that holds only "
    "this series."
)


def plan_parts(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] | None,
    include: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    *,
    part: str | None = None,
    table: ModalityTable,
    modality: str | Sequence[str],
    force_modality: bool = False,
    series: str | None = None,
    join: Sequence[str] | None = None,
    leave_alone: bool | None = None,
    names: str = "uid",
    files_at_once: int = FILES_AT_ONCE,
) -> Plans:
    """Find the images to segment, part by part of the input.

    The plan leaves out our own outputs, an output folder inside the input, hidden files, and files
    that ``include`` and ``exclude`` rule out; they must accept every file of a DICOM volume. It
    refuses images that would share an output name, ignoring case, each with the names of the
    others; images whose outputs would replace an input; and DICOM volumes with unreadable headers
    or an unsettled modality. The remaining images are processed.

    DICOM volumes of a folder whose modality differs from the given one are left alone and
    counted, unless ``series`` names them.

    An input of at most ``files_at_once`` files is one part. In a larger input, each folder is a
    part with all its subfolders or, if that is too much, with its own files only. Images of one
    DICOM series in several parts stay separate, with a warning on those in later parts.

    Args:
        dataset_dir: Folder, searched recursively, or one file; a DICOMDIR stands for its folder.
        output_dir: Folder for outputs; None if there will be none.
        include: Patterns (``*``, ``?``) of paths relative to the folder, one of which must match;
            None means all.
        exclude: Patterns of paths to leave out.
        part: Share of the input to take, such as ``3/8``; None takes all of it.
        table: Available modalities.
        modality: Name of the images' modality; a list, such as all names, leaves it to DICOM.
        force_modality: Whether ``modality`` overrides what DICOM says.
        series: Name or Series Instance UID of the only DICOM volume to take; None takes all.
        join: Joins to apply to what DICOM files keep apart, of ``esp_medsam.dicom.joining.JOINS``.
        leave_alone: Whether volumes of other modalities are left alone rather than refused; None
            leaves them alone unless the modality is forced.
        names: Naming of DICOM results: ``uid`` or ``readable``, see
            :func:`~esp_medsam.workflows.readable_names.readable_name`.
        files_at_once: Number of files of several folders that are planned together.

    Raises:
        InputNotFoundError: If ``dataset_dir`` does not exist.
        FormatError: If ``dataset_dir`` is an archive.
        EmptyInputError: If nothing is left to segment.
        ModalityConflictError: If everything in the input is left alone.
        ModalityError: If no modality is given, and no file is of a kind that states it.
    """
    root, output = Path(dataset_dir), None if output_dir is None else Path(output_dir)
    if not is_there(root):
        raise not_found(root, "file or folder")
    if is_regular(root) and is_dicomdir(root):
        root = root.parent
    elif is_regular(root) and not is_image(root) and not is_dicom(root):
        check_no_archive(root)
    planner = _Planner(
        root=root,
        output=output,
        include=include,
        exclude=exclude,
        share=None if part is None else RunShare.of(part),
        table=table,
        given=modality if isinstance(modality, str) else None,
        force=force_modality,
        series=series,
        join=tuple(join or ()),
        leaves=not force_modality if leave_alone is None else leave_alone,
        # A readable name is needed if results may exist already, or to name new ones.
        reads_names=names == READABLE or (output is not None and is_there(output)),
        readable=names == READABLE,
    )
    return planner.plans(parts_below(root, files_at_once, without=output))


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Planner of an input's parts; its attributes are the arguments of :func:`plan_parts`."""

    root: Path
    output: Path | None
    include: Sequence[str] | str | None
    exclude: Sequence[str] | str | None
    share: RunShare | None
    table: ModalityTable
    given: str | None
    force: bool
    series: str | None
    join: tuple[str, ...]
    leaves: bool
    reads_names: bool
    readable: bool

    def plans(self, parts: Iterator[Part]) -> Plans:
        """Return the plans of the parts, made up to the first that holds anything."""
        first, second = next(parts), next(parts, None)
        before: list[Plan] = []
        if second is None:
            plan = self.plan(first)
            if plan.holds_any:
                return Plans(plan)
            before.append(plan)
        else:
            before += [Plan((), notes=(JOINED_IN_PARTS,))] if self.join else []
            chosen = Search(self.root, self.include, self.exclude, self.series, self.join).chosen
            inputs = filter(chosen, files_below(self.root, [], without=self.output))
            across = _Across(InputFiles(inputs, OUTPUT_ENDING, is_output), set())
            rest = (self.plan_or_refuse(part, across) for part in chain((first, second), parts))
            for plan in rest:
                if plan.holds_any:
                    return Plans(plan, before, rest)
                before.append(plan)
        left_alone = LeftAlone.of(*before)
        if left_alone.other_modalities:
            raise _none_of(self.given, self.root, left_alone.other_modalities)
        raise nothing_taken(self.root, left_alone, self.series)

    def plan_or_refuse(self, part: Part, across: _Across) -> Plan:
        """Plan one of several parts; a part that cannot be planned is refused."""
        try:
            return self.plan(part, across)
        except Exception as error:  # handled as for an item
            return Plan((), (Refusal(str(part.folder), error),))

    def plan(self, part: Part, across: _Across | None = None) -> Plan:
        """Plan the content of a part; ``across`` holds the state shared by several parts."""
        search = Search(self.root, self.include, self.exclude, self.series, self.join)
        search.walk(part, self.output)
        if across is not None:
            search.volumes = across.with_warnings(search.volumes)
        elif self.given is None and search.images and not (search.volumes or search.refused):
            raise modality_needed(self.table.names)
        settled = _Settled([], [], Counter())
        for path in search.images:
            item = Item.of_file(path, search.relative_dir(path), self.given)
            if self.given is None:
                error = modality_needed(self.table.names, str(path), ONLY_DICOM)
                settled.refused.append(Refusal.of(item, error))
            else:
                settled.items.append((item, ""))
        for folder, volume in search.volumes:
            self._settle_volume(search, folder, volume, settled)
        kept, clashing = without_clashes(
            with_names(settled.items, self.output, readable=self.readable)
        )
        if self.output is not None:
            files = InputFiles(search.inputs, OUTPUT_ENDING) if across is None else across.inputs
            kept, replacing = without_replacing(kept, files, self.output)
            clashing += replacing
        plan = Plan(
            tuple(kept),
            (*clashing, *settled.refused, *search.refused),
            tuple(search.others),
            tuple(search.outputs),
            tuple(search.notes),
            settled.others,
            tuple(search.not_named),
        )
        return self._of_share(plan)

    def _of_share(self, plan: Plan) -> Plan:
        """Return what is in the run's share of a plan.

        What is refused is in a share as the item would be. But what this machine alone may be
        unable to read is told in every share: it may hide items of this one.
        """
        if (share := self.share) is None:
            return plan
        items = tuple(
            item
            for item in plan.items
            if share.has(item.relative_dir, item.volume_name or item.name)
        )
        of_machine = ReadError, InputNotFoundError
        refused = tuple(
            refusal
            for refusal in plan.refused
            if isinstance(refusal.error, of_machine) or share.has(*self._key_of(refusal))
        )
        of_others = len(plan) - len(items) - len(refused)
        return replace(plan, items=items, refused=refused, of_other_shares=of_others)

    def _key_of(self, refusal: Refusal) -> tuple[str, str]:
        """Return folder and name of an item that is refused, as if it were taken."""
        name = refusal.volume_name
        path = Path(refusal.path) if name is None else Path(refusal.path, name)
        root = self.root.parent if is_regular(self.root) else self.root
        is_below = path.parent.is_relative_to(root) and not is_regular(self.root)
        folder = path.parent.relative_to(root).as_posix() if is_below else ""
        return "" if folder == os.curdir else folder, name or name_of(path)

    def _settle_volume(
        self, search: Search, folder: Path, volume: DicomVolume, settled: _Settled
    ) -> None:
        """Settle the modality of a DICOM volume, from the user's choice or its own headers."""
        given, table = self.given, self.table
        if given is not None and self.leaves and search.is_of_other(volume, given, table):
            settled.others[_modality_said(volume, table)] += 1
            return
        try:
            modality, _ = resolve_modality(
                volume.dicom_modality,
                volume.sop_class_uid,
                given,
                table,
                force=self.force,
                source=f"{folder} ({volume.name})",
            )
            readable = readable_name(volume, modality, table) if self.reads_names else ""
        except EspMedSamError as error:
            settled.refused.append(Refusal(str(folder), error, volume.name))
            return
        item = Item(
            path=str(folder),
            name=volume.name,
            relative_dir=search.relative_dir(folder / volume.name),
            modality=modality,
            volume=volume,
            other_names=(volume.former_name,) if volume.former_name else (),
        )
        settled.items.append((item, readable))


class _Across(NamedTuple):
    """State shared by several parts.

    Attributes:
        inputs: Finds inputs of any part that outputs would replace.
        series: Hashes of the Series Instance UIDs of the parts planned so far.
    """

    inputs: InputFiles
    series: set[int]

    def with_warnings(
        self, volumes: Sequence[tuple[Path, DicomVolume]]
    ) -> list[tuple[Path, DicomVolume]]:
        """Return a part's volumes, with a warning if their series also lies in another part."""
        found = [
            (folder, replace(volume, warnings=(*volume.warnings, IN_TWO_PARTS)))
            if volume.series_uid and hash(volume.series_uid) in self.series
            else (folder, volume)
            for folder, volume in volumes
        ]
        self.series.update(hash(volume.series_uid) for _, volume in volumes if volume.series_uid)
        return found


class _Settled(NamedTuple):
    """Items with a modality, refusals without one, and the count of volumes of other modalities.

    Each item comes with its readable name, which is empty if none is needed.
    """

    items: list[tuple[Item, str]]
    refused: list[Refusal]
    others: Counter[str]


def _modality_said(volume: DicomVolume, table: ModalityTable) -> str:
    """Return the Modality that a volume states, or that its SOP class stands for.

    Unknown values are not reported, because some writers put names there.
    """
    value = (volume.dicom_modality or "").strip().upper()
    known = {
        *SOP_CLASS_MODALITIES.values(),
        *(v for m in table.modalities for v in m.dicom_modalities),
    }
    return value if value in known else SOP_CLASS_MODALITIES.get(volume.sop_class_uid, "unknown")


def _none_of(given: str | None, root: Path, others: Mapping[str, int]) -> ModalityConflictError:
    """Return the error that all images of a folder are of other modalities."""
    told = volumes_of_others(others)
    msg = f"{root} must hold an image of the given modality, {given}; got {told}. "
    msg += "Pass the right `modality`, or also `force_modality` if the files are wrong."
    return ModalityConflictError(msg)
