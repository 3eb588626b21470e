"""Record of weights: their hash, and what the network computes for a test picture.

For the weights of a bundle the record is in the bundle's metadata, under "weights"; for others it
is in a separate file beside them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.errors import (
    CheckpointError,
    CheckpointHashError,
    OptionError,
    OutputExistsError,
)
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_own_json


METADATA = Path("configs", "metadata.json")
"""Path of the metadata within a bundle."""

_KEY = "weights"

_SHOWN = 12
"""Number of digits of a hash that a message shows."""


class TrainedWith(NamedTuple):
    """Properties of the images that weights were trained with.

    Attributes:
        input_size: ``(H, W)`` in pixels.
        pixel_mean: Value per channel, for pixels from 0 to 1, that is subtracted.
        pixel_std: Value per channel that the difference is divided by.
    """

    input_size: tuple[int, ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]


@dataclass(frozen=True)
class WeightsRecord:
    """What is known about weights.

    Attributes:
        path: The file that holds the record.
        sha256: Hash of the weights, in hexadecimal digits.
        self_check: See :func:`esp_medsam.networks.self_check.self_check`; None if their network
            cannot be checked.
        trained_with: Properties of the images they were trained with; None if not known.
    """

    path: Path
    sha256: str
    self_check: Mapping[str, Any] | None
    trained_with: TrainedWith | None = None


def read_weights_record(weights: str | os.PathLike[str]) -> WeightsRecord | None:
    """Return the record of weights; None if there is none.

    Args:
        weights: Their file. If it is in a bundle whose metadata list it, only the metadata count.

    Raises:
        CheckpointError: If the record is not valid.
    """
    root, name = _place_in_bundle(weights)
    metadata, sidecar = root / METADATA, sidecar_of(weights)
    try:
        entry = _listed_entry(metadata, name)
        if entry is not None:
            return _record_of(metadata, entry)
        if sidecar.is_file():
            return _record_of(sidecar, read_own_json(sidecar))
    except (AttributeError, OSError, ValueError) as error:
        msg = f"{metadata} and {sidecar} must be JSON, and readable; one is not."
        raise CheckpointError(msg) from error
    return None


def sidecar_of(weights: str | os.PathLike[str]) -> Path:
    """Return the path of the record file beside weights."""
    path = Path(weights)
    return path.with_name(f"{path.name}.json")


def write_weights_record(
    weights: str | os.PathLike[str],
    self_check: Mapping[str, Any] | None,
    trained_with: TrainedWith | None = None,
) -> None:
    """Write the record of weights that were just written, atomically.

    It goes where it would be read from: the bundle's metadata if they list the weights, else a file
    beside the weights.

    Raises:
        OutputError: If the record cannot be written.
    """
    root, name = _place_in_bundle(weights)
    is_listed = False
    with suppress(AttributeError, OSError, ValueError):  # unreadable metadata list nothing
        is_listed = _listed_entry(root / METADATA, name) is not None
    if is_listed:
        pin_in_bundle(weights, self_check, trained_with)
    else:
        write_sidecar(weights, self_check, trained_with)


def write_sidecar(
    weights: str | os.PathLike[str],
    self_check: Mapping[str, Any] | None,
    trained_with: TrainedWith | None = None,
) -> None:
    """Write the record of weights into a file beside them.

    Raises:
        OutputExistsError: If that file exists and is not such a record.
        OutputError: If it cannot be written.
    """
    check_sidecar(weights)
    with atomic_file(sidecar_of(weights)) as file:
        file.write(_as_json(_entry(weights, self_check, trained_with)))


def check_sidecar(weights: str | os.PathLike[str]) -> None:
    """Refuse to write weights if their record would replace another kind of file.

    Raises:
        OutputExistsError: If the file at the path of their record is not a record.
    """
    sidecar = sidecar_of(weights)
    if not os.path.lexists(sidecar):
        return
    try:
        _record_of(sidecar, read_own_json(sidecar))
    except (AttributeError, OSError, ValueError) as error:
        msg = (
            f"{sidecar} must be missing, or a record of weights; it is something else, and the "
            f"record of {os.fspath(weights)} goes there. Move it, or choose another name."
        )
        raise OutputExistsError(msg) from error


def pin_in_bundle(
    weights: str | os.PathLike[str],
    self_check: Mapping[str, Any] | None,
    trained_with: TrainedWith | None = None,
) -> None:
    """Write the record of weights into the metadata of their bundle.

    Raises:
        OptionError: If the bundle's metadata are missing or invalid.
        OutputError: If the metadata cannot be written.
    """
    root, name = _place_in_bundle(weights)
    metadata = metadata_of_bundle(root)
    entry = _entry(weights, self_check, trained_with)
    metadata[_KEY] = {**metadata.get(_KEY, {}), name: entry}
    with atomic_file(root / METADATA) as file:
        file.write(_as_json(metadata))


def metadata_of_bundle(root: Path) -> dict[str, Any]:
    """Return the metadata of a bundle, to which the records of its weights can be added.

    Raises:
        OptionError: If the metadata are missing or invalid.
    """
    path = root / METADATA
    try:
        metadata = read_own_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"bundle must have metadata in JSON; {path} is not: {reason}."
        raise OptionError(msg) from error
    if not isinstance(metadata.get(_KEY, {}), dict):
        msg = f"bundle must have metadata with an object as {_KEY}; {path} has none."
        raise OptionError(msg)
    return metadata


def check_hash(weights: str | os.PathLike[str], record: WeightsRecord) -> None:
    """Require that weights are the file that their record was written for.

    Raises:
        CheckpointHashError: If they are another file.
    """
    found = hash_of_weights(weights)
    if found == record.sha256:
        return
    if record.path == sidecar_of(weights):
        remedy = f"remove {record.path.name}"
    else:
        remedy = f"call esp_medsam.workflows.weights.pin_weights({str(record.path.parents[1])!r})"
    msg = (
        f"{os.fspath(weights)} must be the file that {record.path} was written for, of SHA-256 "
        f"{record.sha256[:_SHOWN]}; got {found[:_SHOWN]}. Copy it again; if you replaced it "
        f"yourself, {remedy}."
    )
    raise CheckpointHashError(msg)


def hash_of_weights(weights: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, cached until the file changes.

    Raises:
        OSError: If the file cannot be read.
    """
    status = Path(weights).stat()
    state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _hash_of(os.fspath(weights), *state)


@lru_cache(maxsize=8)
def _hash_of(path: str, *state: int) -> str:
    del state  # only part of the cache key
    return sha256_of(Path(path))


def _place_in_bundle(weights: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the folder that may be a bundle, and the path of weights in it."""
    path = Path(os.path.abspath(weights))  # noqa: PTH100  # resolve() follows a link out of it
    return path.parent.parent, f"{path.parent.name}/{path.name}"


def _listed_entry(metadata: Path, name: str) -> Any:
    """Return the entry of weights in a bundle's metadata; None if they are not listed."""
    return read_own_json(metadata).get(_KEY, {}).get(name) if metadata.is_file() else None


def _entry(
    weights: str | os.PathLike[str],
    self_check: Mapping[str, Any] | None,
    trained_with: TrainedWith | None,
) -> dict[str, Any]:
    shown = {} if trained_with is None else {"trained_with": trained_with._asdict()}
    return {"sha256": hash_of_weights(weights), **shown, "self_check": self_check}


def _record_of(path: Path, entry: Any) -> WeightsRecord:
    check = entry.get("self_check")
    is_right = check is None or all(
        isinstance(targets, dict) and all(_are_numbers(row) for row in targets.values())
        for targets in (check.values() if isinstance(check, dict) else [None])
    )
    if not is_right or not re.fullmatch("[0-9a-f]{64}", str(entry.get("sha256"))):
        raise ValueError
    return WeightsRecord(path, entry["sha256"], check, _trained_with(entry.get("trained_with")))


def _trained_with(entry: Any) -> TrainedWith | None:
    if entry is None:
        return None
    held = [entry.get(name) for name in TrainedWith._fields]
    if not all(_are_numbers(row) for row in held) or list(map(len, held)) != [2, 3, 3]:
        raise ValueError
    return TrainedWith(*map(tuple, held))


def _are_numbers(row: Any) -> bool:
    return isinstance(row, list) and all(isinstance(value, int | float) for value in row)


def _as_json(value: Mapping[str, Any]) -> bytes:
    """Return JSON with every row of numbers on one line."""
    text = json.dumps(value, indent=4)
    rows = re.sub(r"\[\s*(-?\d[^\[\]\"]*?)\s*\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return f"{rows}\n".encode("ascii")
