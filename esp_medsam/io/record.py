"""The JSON record beside each result, which says how it was made and marks it as done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from esp_medsam.errors import OutputExistsError
from esp_medsam.identity import identify, states_of
from esp_medsam.image import Image, Segmentation
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.output_path import record_path
from esp_medsam.io.recorded_file import (
    file_entry,
    identity_entry,
    is_file_entry,
    is_whole,
    name_of,
)
from esp_medsam.modality import Target
from esp_medsam.plain_data import read_own_json
from esp_medsam.version import __version__


if TYPE_CHECKING:  # loads SciPy, which records alone do not need
    from esp_medsam.transforms.segment_statistics import SegmentStatistics


SCHEMA = 2
"""Schema version of records; version 1 is read too."""

JOURNALS = "esp-medsam-journal"
"""Beginning of the names of all journals of runs into a folder; those of shares name the share."""

JOURNAL = f"{JOURNALS}.sqlite"
"""Name of the journal of runs that take the whole input."""

STAMP = {"software": f"esp-medsam {__version__}", "schema": SCHEMA}
"""Fields that every record begins with, whichever command wrote it."""

_UNSAID = {"clean_up": {}, "threshold": {}, "flips": False, "slice_smoothing": 0.0}
"""Defaults of settings that are missing from older records."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What must agree for a result to count as the requested one.

    Attributes:
        modality: Name of the modality.
        targets: Names of the chosen targets, in table order.
        formats: Kinds of file written, such as ``nifti``, ``split_targets``, ``probabilities``.
        weights_sha256: Hash of the weights; None if they have no file.
        settings: Other settings that the result depends on; compared if a record has them too.
        or_more: Whether a result with more targets is accepted, as when none were named.
    """

    modality: str
    targets: tuple[str, ...]
    formats: tuple[str, ...]
    weights_sha256: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    or_more: bool = False


def is_done(
    stem: Path, recipe: Recipe, files: Sequence[str | Path], *, verify: bool = False
) -> bool:
    """Whether the result that begins with ``stem`` exists, is complete, and is the requested one.

    Args:
        stem: As :func:`esp_medsam.io.output_stem` returns it.
        recipe: What is requested.
        files: The files of the input.
        verify: Whether content is compared even if sizes and times agree.

    Returns:
        False if there is no record, or a file that it lists is missing or empty: do it (again).

    Raises:
        OutputExistsError: If the result differs in any way from the requested one, or one of its
            files was changed since.
        InputNotFoundError: If a file of the input is gone.
        ReadError: If a file of the input cannot be read.
    """
    record = read_record(stem)
    if record is None:
        return False
    check_agreement(record, stem, recipe, files, verify=verify)
    return is_there(record, stem, verify=verify)


def is_there(record: Mapping[str, Any], stem: Path, *, verify: bool = False) -> bool:
    """Whether all files of a record exist; arguments as in :func:`is_done`.

    Raises:
        OutputExistsError: If one was changed since.
    """
    # Check all files, even if one is missing.
    whole = [is_whole(stem.with_name(name_of(e)), e, verify=verify) for e in record["files"]]
    return all(whole)


def check_agreement(
    record: Mapping[str, Any],
    stem: Path,
    recipe: Recipe,
    files: Sequence[str | Path],
    *,
    verify: bool = False,
) -> None:
    """Refuse the record of a result that is not the requested one; arguments as in :func:`is_done`.

    Raises:
        OutputExistsError: If it differs in any way.
        InputNotFoundError: If a file of the input is gone.
        ReadError: If a file of the input cannot be read.
    """
    held = [target.get("name") for target in record.get("targets", [])]
    theirs = {
        "modality": record.get("modality"),
        "targets": held,
        "formats": record.get("formats"),
        "weights": record.get("weights_sha256"),
    }
    has_more = recipe.or_more and set(recipe.targets) < set(held)
    ours = {
        "modality": recipe.modality,
        "targets": held if has_more else list(recipe.targets),
        "formats": list(recipe.formats),
        "weights": recipe.weights_sha256,
    }
    # Converted through JSON like the recorded ones: tuples become lists, paths text.
    settings: dict[str, Any] = json.loads(_as_json(recipe.settings))
    recorded: dict[str, Any] = {**_UNSAID, **record.get("settings", {})}
    for key in ("clean_up", "threshold"):  # only the rules of our targets matter
        if isinstance(rules := recorded[key], dict):
            recorded[key] = {name: rules[name] for name in rules if name in recipe.targets}
    for key in settings:
        if key in recorded:
            theirs[key], ours[key] = recorded[key], settings[key]
    different = [f"{key} {theirs[key]}" for key in ours if theirs[key] != ours[key]]
    if not _is_same_input(record.get("source"), files, verify=verify):
        different.append("another input file")
    refuse_differences(record, record_path(stem), different)


def refuse_differences(
    record: Mapping[str, Any], path: Path, different: Sequence[str] = ()
) -> None:
    """Refuse a record that differs from what is requested, or has a newer schema.

    Args:
        record: The record of an earlier result, of any command.
        path: Path of the record.
        different: What it was made with instead of what is requested.

    Raises:
        OutputExistsError: If the record is refused.
    """
    schema = record.get("schema", 1)
    if schema not in range(1, SCHEMA + 1):
        different = [f"schema {schema}, which this version does not read"]
    if different:
        msg = (
            f"{path} must agree with what is asked for; it was made with "
            f"{'; '.join(different)}. Pass `overwrite` to replace it."
        )
        raise OutputExistsError(msg)


def read_record(stem: Path) -> dict[str, Any] | None:
    """Return the record of the outputs that begin with ``stem``, or None if there is none.

    Raises:
        OutputExistsError: If the file at its path is not a record.
    """
    path = record_path(stem)
    try:
        record = read_own_json(path)
        if not is_own(record):
            raise ValueError
        _check_types(record, stem)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path} must not exist unless this program wrote it; it does. Move it away."
        raise OutputExistsError(msg) from error
    return record


def is_own(record: Mapping[str, Any]) -> bool:
    """Whether this program, of any version, says that it wrote a record."""
    return str(record.get("software")).startswith("esp-medsam")


def has_statistics(stem: Path) -> bool:
    """Whether the record of the outputs that begin with ``stem`` states statistics of all targets.

    Raises:
        OutputExistsError: If the file at its path is not a record.
    """
    record = read_record(stem)
    return record is not None and all(target.get("statistics") for target in record["targets"])


def file_names(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that belong to a record, whatever its schema."""
    return [name_of(entry) for entry in record["files"]]


def write_own_json(path: Path, record: Mapping[str, Any], root: Path | None) -> None:
    """Write a record of any command.

    Raises:
        OutputError: If the record cannot be written.
    """
    with atomic_file(path, root) as file:
        file.write(_as_json(record).encode("ascii") + b"\n")


def record_of(
    recipe: Recipe,
    image: Image,
    segmentation: Segmentation,
    targets: Sequence[Target],
    *,
    empty: bool,
    files: Sequence[Path] = (),
    statistics: Sequence[SegmentStatistics] | None = None,
) -> dict[str, Any]:
    """Return the record of a result.

    It contains no absolute path of this machine: the file, or the folder of a DICOM volume, is
    named relative to the root of the input.

    Args:
        recipe: What was requested.
        image: What was segmented.
        segmentation: What was found, in the order of the targets.
        targets: The chosen targets.
        empty: Whether nothing was found.
        files: The existing files beside the record that belong to it.
        statistics: Statistics of each target's segment, in the same order; None without.

    Raises:
        OutputError: If one of the files no longer exists.
    """
    place = _place(image)
    details = _image_entry(image, segmentation, place)
    found = _target_entries(targets, segmentation, image)
    for entry, one in zip(found, statistics or (), strict=False):
        entry["statistics"] = asdict(one)
    written = [file_entry(path) for path in files]
    return {
        **STAMP,
        "source": {"path": place, **identity_entry(image.identity)},
        "modality": recipe.modality,
        "targets": found,
        "formats": list(recipe.formats),
        "files": written,
        "weights_sha256": recipe.weights_sha256,
        "settings": recipe.settings,
        "runtime": segmentation.runtime,
        "empty": empty,
        **details,
    }


def _place(image: Image) -> str:
    """Return the path of an input relative to its root."""
    is_folder = bool(image.sources) and image.path not in {s.path for s in image.sources}
    return str(PurePosixPath(image.relative_dir, "" if is_folder else Path(image.path).name))


def _image_entry(image: Image, segmentation: Segmentation, place: str) -> dict[str, Any]:
    """Return what a record says about its input at ``place``, except for its path."""
    warnings = [*image.warnings, *segmentation.warnings]
    if Path(image.path).is_absolute():
        warnings = [text.replace(image.path, place) for text in warnings]
    return {
        "modality_origin": image.modality_origin,
        "dicom_modality": image.dicom_modality,
        "volume": image.volume,
        "study_uid": image.study_uid,
        "series_uid": image.series_uid,
        "joined": list(image.joined),
        "unit": image.unit,
        "unit_origin": image.unit_origin,
        "intensity_range": image.intensity_range,
        "spatial_shape": image.file_shape or image.grid.shape,
        "plane": segmentation.plane,
        "plausibility": _rounded(segmentation.plausibility),
        "warnings": warnings,
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)


def _target_entries(
    targets: Sequence[Target], segmentation: Segmentation, image: Image
) -> list[dict[str, Any]]:
    """Return what a record says about each target."""
    unknown = [None] * len(targets)
    sizes = segmentation.voxels or unknown
    expected = segmentation.expected_dice or unknown
    jumps = segmentation.jumps or unknown
    return [
        {
            "name": target.name,
            "label": target.label,
            "confidence": confidence,
            "expected_dice": _rounded(dice),
            "voxels": voxels,
            "ml": None if voxels is None else image.grid.ml_of(voxels),
            "slice_jump": None if jump is None else _rounded(jump.share),
            "slice_jump_at": None if jump is None else jump.index,
        }
        for target, confidence, dice, voxels, jump in zip(
            targets, segmentation.confidence, expected, sizes, jumps, strict=True
        )
    ]


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str)


def _check_types(record: Mapping[str, Any], stem: Path) -> None:
    """Raise ValueError if a value read back is not of the type it was written as."""
    targets, files = record.get("targets"), record.get("files")
    if not isinstance(targets, list) or not all(isinstance(t, dict) for t in targets):
        raise ValueError
    if not isinstance(record.get("settings", {}), dict):
        raise ValueError
    if not isinstance(files, list) or not all(is_file_entry(e) for e in files):
        raise ValueError
    # Others may be able to write to the folder: the record must name only its own files.
    if not all(name_of(e).startswith((f"{stem.name}.", f"{stem.name}_")) for e in files):
        raise ValueError


def _is_same_input(recorded: Any, files: Sequence[str | Path], *, verify: bool) -> bool:
    """Whether the input is the recorded one, whatever its path is now."""
    if not isinstance(recorded, dict):
        return False
    states = states_of(files)
    # Schema 1 counts files only if there are several, and has no hash.
    found = (len(states), sum(state.size for state in states))
    if found != (recorded.get("files", 1), recorded.get("bytes")):
        return False
    same_time = max(state.modified_ns for state in states) == recorded.get("modified_ns")
    if recorded.get("sha256") is None:
        return same_time
    return (same_time and not verify) or identify(files).sha256 == recorded["sha256"]
