"""What a run leaves alone, counted in one line; and that nothing else was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esp_medsam import io
from esp_medsam.errors import EmptyInputError, one_line
from esp_medsam.workflows.archives import archive_kind


_NAMED = 5
"""Files, or volumes, that are named; the rest is counted."""


def nothing_taken(
    root: Path,
    others: Sequence[str],
    outputs: Sequence[str],
    series: str | None,
    not_named: Sequence[str],
) -> EmptyInputError:
    """Say that nothing is there to take.

    Args:
        root: The input.
        others: Files that are no images.
        outputs: Outputs of earlier runs.
        series: The DICOM volume to take alone; None takes all.
        not_named: Names of the volumes that are there instead.
    """
    if series is not None:
        held = ", ".join(not_named[:_NAMED]) or "none"
        more = ", ..." if len(not_named) > _NAMED else ""
        return EmptyInputError(f"{root} must hold DICOM series {series}; got {held}{more}.")
    archives = [path for path in others if archive_kind(Path(path))]
    return EmptyInputError(
        f"{root} must hold at least one readable image ({', '.join(io.SUFFIXES)} or DICOM); "
        f"got {count_left_alone(others, outputs)}."
        + (f" Unpack the archives first: {_some(archives)}." if archives else "")
    )


def count_others(others: Sequence[str | Path]) -> str:
    """Return how many files are left alone, naming the first, in one line."""
    said = f"{len(others)} other file{'' if len(others) == 1 else 's'}"
    return f"{said} ({_some(others)})" if others else said


def _some(paths: Sequence[str | Path]) -> str:
    """Return the names of the first files, in one line."""
    named = ", ".join(Path(path).name for path in paths[:_NAMED])
    return one_line(named + (", ..." if len(paths) > _NAMED else ""))


def count_left_alone(others: Sequence[str], outputs: Sequence[str]) -> str:
    """Return how many files are left out, outputs of ours apart."""
    results = f"{len(outputs)} output{'' if len(outputs) == 1 else 's'} of earlier runs"
    return f"{count_others(others)}, {results}"
