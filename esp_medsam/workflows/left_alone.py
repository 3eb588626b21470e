"""Report what a run skips: other files, and images of other modalities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.errors import EmptyInputError, one_line
from esp_medsam.io.formats import SUFFIXES
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.archives import archive_kind


if TYPE_CHECKING:
    from esp_medsam.workflows.plan import Plan


_NAMED = 5
"""Number of files or volumes that are named; the rest are counted."""

_REMEMBERED = 1000
"""Number of files that are examined again if nothing is taken; the rest are counted."""


class Counted:
    """Counted files, the first of which are remembered.

    Args:
        paths: The first of them.
    """

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self.first: list[str] = []
        self.count = 0
        self.add(paths)

    def add(self, paths: Iterable[str | Path]) -> None:
        """Count further files."""
        for path in paths:
            self.count += 1
            if len(self.first) < _REMEMBERED:
                self.first.append(str(path))

    @property
    def text(self) -> str:
        """Number of files and the names of some, in one line."""
        said = f"{self.count} other file{'' if self.count == 1 else 's'}"
        return f"{said} ({_some(self.first)})" if self.count else said


@dataclass
class LeftAlone:
    """Everything that a run leaves alone, part by part of its input.

    Attributes:
        others: Files that are not images.
        outputs: Number of outputs of earlier runs.
        other_modalities: Number of DICOM volumes of modalities other than the run's, by modality.
        notes: Facts about the input as a whole, without full stops.
        not_named: Names of the first DICOM volumes that are not the requested one.
        of_other_shares: Number of images and volumes that are left to the runs of other shares.
    """

    others: Counted = field(default_factory=Counted)
    outputs: int = 0
    other_modalities: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    not_named: list[str] = field(default_factory=list)
    of_other_shares: int = 0

    @classmethod
    def of(cls, *plans: Plan) -> LeftAlone:
        """Return what some parts leave alone."""
        found = cls()
        for plan in plans:
            found.add(plan)
        return found

    def add(self, plan: Plan) -> None:
        """Count what a further part leaves alone."""
        self.others.add(plan.others)
        self.outputs += len(plan.outputs)
        self.other_modalities.update(plan.other_modalities)
        self.notes += plan.notes
        self.not_named += plan.not_named[: _REMEMBERED - len(self.not_named)]
        self.of_other_shares += plan.of_other_shares

    @property
    def files(self) -> str:
        """Number of files that are left alone, not counting our own outputs."""
        results = f"{self.outputs} output{'' if self.outputs == 1 else 's'} of earlier runs"
        return f"{self.others.text}, {results}"

    @property
    def text(self) -> str:
        """Everything that is left alone, in one line; empty if there is nothing."""
        files = self.files if self.others.count or self.outputs else ""
        shares = f"{self.of_other_shares} of other shares" if self.of_other_shares else ""
        return "; ".join(filter(None, (files, self.volumes, shares, *self.notes)))

    @property
    def volumes(self) -> str:
        """DICOM volumes of other modalities, in one line; empty if there are none."""
        return volumes_of_others(self.other_modalities) if self.other_modalities else ""


def nothing_taken(root: Path, left_alone: LeftAlone, series: str | None) -> EmptyInputError:
    """Return the error that there is nothing to take.

    Args:
        root: The input.
        left_alone: Files and volumes that are there instead.
        series: The only DICOM volume to take; None takes all.
    """
    if series is not None:
        held = ", ".join(left_alone.not_named[:_NAMED]) or "none"
        more = ", ..." if len(left_alone.not_named) > _NAMED else ""
        return EmptyInputError(f"{root} must hold DICOM series {series}; got {held}{more}.")
    archives = [path for path in left_alone.others.first if archive_kind(Path(path))]
    return EmptyInputError(
        f"{root} must hold at least one readable image ({', '.join(SUFFIXES)} or DICOM); "
        f"got {left_alone.files}."
        + (f" Unpack the archives first: {_some(archives)}." if archives else "")
    )


def _some(paths: Sequence[str | Path]) -> str:
    """Return the names of the first files, in one line."""
    named = ", ".join(Path(path).name for path in paths[:_NAMED])
    return one_line(named + (", ..." if len(paths) > _NAMED else ""))


def is_left_alone(
    dicom_modality: str | None,
    sop_class_uid: str | None,
    modality: str,
    table: ModalityTable,
    *,
    takes_open: bool,
) -> bool:
    """Whether DICOM images that nobody named are left alone, by the one rule of all commands.

    They are left alone if everything they state about their modality means another one. Images
    that contradict themselves are taken, so that they fail and the failure is reported.

    Args:
        dicom_modality: Modality (0008,0060); None or empty if there is none.
        sop_class_uid: SOP Class UID (0008,0016); None if it is unknown.
        modality: Name of the run's modality.
        table: Available modalities.
        takes_open: Whether images that leave their modality open are taken: a user chose a folder
            of them, but nobody requested the screenshots among the series of a CT study, unless
            DICOM has no other value for the modality.
    """
    value = (dicom_modality or "").strip().upper()
    said = {value, SOP_CLASS_MODALITIES.get((sop_class_uid or "").strip(), "")}
    said -= {"", *table.neutral_dicom_modalities}
    own = table[modality].dicom_modalities
    if said or takes_open:
        return bool(said) and said.isdisjoint(own)
    return bool(own) or value not in table.neutral_dicom_modalities


def series_text(counts: Mapping[str, int]) -> str:
    """Return the number of series and their modalities; empty without any.

    For example ``2 series (1 KO, 1 MR)``.

    Args:
        counts: Number of series by their Modality (0008,0060).
    """
    return f"{sum(counts.values())} series ({_kinds(counts)})" if counts else ""


def volumes_of_others(counts: Mapping[str, int]) -> str:
    """Return the number of DICOM volumes of modalities other than the run's, and those modalities.

    For example ``1 DICOM volume of another modality (1 MR)``.

    Args:
        counts: Number of volumes by their Modality (0008,0060).
    """
    number = sum(counts.values())
    what = "volume of another modality" if number == 1 else "volumes of other modalities"
    return f"{number} DICOM {what} ({_kinds(counts)})"


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
