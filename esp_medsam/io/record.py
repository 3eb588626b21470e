"""The record beside each result: how it was made, and the one sign that it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esp_medsam import __version__
from esp_medsam.errors import OutputError, OutputExistsError
from esp_medsam.image import Image
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.json_file import read_json


_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What must agree for a result to count as the one asked for.

    Attributes:
        modality: Name of the modality.
        targets: Names of the chosen targets, in table order.
        formats: Kinds of file written, such as ``nifti``, ``split_targets``, ``probabilities``.
        weights_sha256: Hash of the weights; None where they have no file.
        settings: What else the result depends on; compared where a record has it too.
    """

    modality: str
    targets: tuple[str, ...]
    formats: tuple[str, ...]
    weights_sha256: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where an input lies.

    Attributes:
        path: The file, or the folder that holds the files.
        files: The files themselves; ``path`` alone where none are named.
    """

    path: Path
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take the path for the one file where none are named."""
        if not self.files:
            object.__setattr__(self, "files", (str(self.path),))

    @classmethod
    def of(cls, image: Image) -> Source:
        """Return where an image lies."""
        return cls(Path(image.path), tuple(sorted({source.path for source in image.sources})))


def output_stem(output_dir: str | Path, relative_dir: str, name: str) -> Path:
    """Return ``<output_dir>/<relative_dir>/<name>_seg``, to which endings are added.

    Raises:
        OutputError: If that would lie outside ``output_dir``.
    """
    root = Path(output_dir)
    folder = root / relative_dir
    inside = not Path(relative_dir).is_absolute() and ".." not in Path(relative_dir).parts
    if not inside or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        msg = f"Outputs must lie inside {root}; got folder {relative_dir!r} and name {name!r}."
        raise OutputError(msg)
    return folder / f"{name}_seg"


def record_path(stem: Path) -> Path:
    """Return the path of the record of the outputs that begin with ``stem``."""
    return stem.with_name(f"{stem.name}.json")


def is_done(stem: Path, recipe: Recipe, source: Source) -> bool:
    """Whether the result that begins with ``stem`` is there, whole, and the one asked for.

    Args:
        stem: As :func:`output_stem` returns it.
        recipe: What is asked for.
        source: The input; a result of files of another number, size or time is not its result.

    Returns:
        False where there is no record, or a file that it lists is missing: do it (again).

    Raises:
        OutputExistsError: If the result differs in anything from what is asked for.
    """
    record = read_record(stem)
    if record is None:
        return False
    theirs = {
        "modality": record.get("modality"),
        "targets": [target.get("name") for target in record.get("targets", [])],
        "formats": record.get("formats"),
        "weights": record.get("weights_sha256"),
    }
    ours = {
        "modality": recipe.modality,
        "targets": list(recipe.targets),
        "formats": list(recipe.formats),
        "weights": recipe.weights_sha256,
    }
    # Through JSON, as theirs went: tuples become lists, paths text.
    settings: dict[str, Any] = json.loads(_as_json(recipe.settings))
    recorded: dict[str, Any] = record.get("settings", {})
    for key in settings:
        if key in recorded:
            theirs[key], ours[key] = recorded[key], settings[key]
    different = [f"{key} {theirs[key]}" for key in ours if theirs[key] != ours[key]]
    if not _same_source(record.get("source"), source):
        different.append("another input file")
    if different:
        msg = (
            f"{record_path(stem)} must agree with what is asked for; it was made with "
            f"{'; '.join(different)}. Pass --overwrite to replace it."
        )
        raise OutputExistsError(msg)
    return all(stem.with_name(str(name)).is_file() for name in record.get("files", []))


def read_record(stem: Path) -> dict[str, Any] | None:
    """Return the record of the outputs that begin with ``stem``, or None where there is none.

    Raises:
        OutputExistsError: If a file stands in its place that is not a record.
    """
    path = record_path(stem)
    try:
        record = read_json(path)
        if not str(record.get("software")).startswith("esp-medsam"):
            raise ValueError
        _check_types(record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path} must be free, or our own record; it is something else. Move it away."
        raise OutputExistsError(msg) from error
    return record


def write_record(
    stem: Path,
    recipe: Recipe,
    *,
    source: Source,
    files: Sequence[str],
    targets: Sequence[Mapping[str, Any]],
    details: Mapping[str, Any],
) -> None:
    """Write the record, last of all files of a result.

    Args:
        stem: As :func:`output_stem` returns it.
        recipe: What was asked for.
        source: The input.
        files: Names of the files beside the record that belong to it.
        targets: For each target name, label and confidence.
        details: What else a reader may want to know: unit, warnings.

    Raises:
        OutputError: If it cannot be written.
    """
    record = {
        "software": f"esp-medsam {__version__}",
        "schema": _SCHEMA,
        "source": _source(source),
        "modality": recipe.modality,
        "targets": list(targets),
        "formats": list(recipe.formats),
        "files": list(files),
        "weights_sha256": recipe.weights_sha256,
        "settings": recipe.settings,
        **details,
    }
    with atomic_file(record_path(stem)) as file:
        file.write(_as_json(record).encode("ascii") + b"\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str)


def _check_types(record: Mapping[str, Any]) -> None:
    """Raise ValueError where what is read back is not of the type it was written as."""
    targets, files = record.get("targets"), record.get("files")
    if not isinstance(targets, list) or not all(isinstance(t, dict) for t in targets):
        raise ValueError
    if not isinstance(record.get("settings", {}), dict):
        raise ValueError
    # A record comes from a folder that others may write to: its names must not lead elsewhere.
    if not isinstance(files, list) or any(Path(str(f)).name != f for f in files):
        raise ValueError


def _source(source: Source) -> dict[str, Any]:
    """Return what tells this input from another of the same name."""
    stated: dict[str, Any] = {"path": str(source.path.absolute())}
    if len(source.files) > 1:
        stated["files"] = len(source.files)
    try:
        status = [Path(path).stat() for path in source.files]
    except OSError:  # gone since it was read: its result is still good
        return {**stated, "bytes": None, "modified_ns": None}
    return {
        **stated,
        "bytes": sum(s.st_size for s in status),
        "modified_ns": max(s.st_mtime_ns for s in status),
    }


def _same_source(recorded: Any, source: Source) -> bool:
    """Whether the input is the recorded one: of its size and its time, wherever it lies now."""
    current = _source(source)
    return isinstance(recorded, dict) and all(
        recorded.get(key) == current.get(key) for key in ("files", "bytes", "modified_ns")
    )
