"""Merge new targets into the modality table of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from esp_medsam.errors import TableError, listed, quoted
from esp_medsam.modality import RELEASED_INDICES, ModalityTable, read_table


FIRST_INDEX = max(RELEASED_INDICES.values()) + 1

PALETTE = (
    (230, 160, 0),
    (90, 180, 235),
    (0, 160, 115),
    (240, 230, 65),
    (0, 110, 180),
    (215, 95, 0),
    (205, 120, 170),
    (110, 60, 160),
)
"""Colors that most people can tell apart (Okabe and Ito), for targets without a color."""

_HEAD = "# Modalities and targets; the targets.yaml of esp_medsam says what each key means.\n"


@dataclass(frozen=True)
class Additions:
    """Additions to a bundle.

    Attributes:
        table: The whole table, with old and new targets.
        text: The table as YAML.
        targets: Modality and name of each new target.
        trained: Patterns that match the names of the new parameters.
    """

    table: ModalityTable
    text: str
    targets: tuple[tuple[str, str], ...]
    trained: tuple[str, ...]


def read_additions(path: str | Path, old: str | Path) -> Additions:
    """Read new modalities and targets, and merge them into a table.

    A modality may omit its index (default: the next free one). A target may omit its label (the
    next free one), its color (one distinct from the others), ``tier`` (experimental) and
    ``adapter`` (true for a target of an old modality).

    Args:
        path: YAML in the form of ``targets.yaml``, with only new modalities and targets.
        old: The table to add to.

    Raises:
        TableError: If a file cannot be read, or an addition already exists or breaks a rule.
    """
    ModalityTable.read(old)  # validates the table, so its keys need no checks
    content, added = read_table(old), read_table(path)
    rows = _rows(added, "modalities", path)
    if unknown := [str(key) for key in added if key != "modalities"]:
        msg = f"{path} must only have the key modalities; got also {listed(unknown)}."
        raise TableError(msg)
    targets: list[tuple[str, str]] = []
    trained: list[str] = []
    for name, row in rows.items():
        is_new = name not in content["modalities"]
        names = _add(content["modalities"], str(name), row, path)
        targets += [(str(name), target) for target in names]
        trained += [f"image_encoder.*.controllers.{name}.*"] if is_new else []
    if not targets:
        msg = f"{path} must name at least one target that is new; got none."
        raise TableError(msg)
    table = ModalityTable.of(content, str(path))
    for modality, target in targets:
        parts = ["modality_query.targets", "prompt_generator.heads"]
        parts += ["presence.heads"] if table.presence else []
        has_adapter = target in table.adapted.get(modality, ())
        parts += ["target_adapters.adapters"] if has_adapter else []
        trained += [f"{part}.{modality}.{target}.*" for part in parts]
    text = _HEAD + yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    return Additions(table, text, tuple(targets), tuple(trained))


def _rows(content: object, key: str, path: str | Path) -> Mapping[str, Any]:
    """Return the mapping under a key, or raise an error if there is none."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        msg = f"{path} must hold a mapping as {key}; got {quoted(found)}."
        raise TableError(msg)
    return found


def _add(modalities: dict[str, Any], name: str, row: Any, path: str | Path) -> list[str]:
    """Add a modality, or add targets to an old one, and return the names of the new targets."""
    given = _rows(row, "targets", f"modalities.{name} of {path}")
    is_new = name not in modalities
    if is_new:
        indices = [m["index"] for m in modalities.values() if isinstance(m.get("index"), int)]
        begun = {"index": max([FIRST_INDEX, *(index + 1 for index in indices)]), **row}
        modalities[name] = {**begun, "targets": {}}
    elif changed := [str(key) for key in row if key != "targets"]:
        msg = f"{path} must only add targets to {name}, which exists already; "
        raise TableError(msg + f"got {listed(changed)}.")
    held = modalities[name]["targets"]
    if known := [str(target) for target in given if target in held]:
        msg = f"{path} must name targets that are new; {name} has {listed(known)} already."
        raise TableError(msg)
    for target, fields in given.items():
        held[target] = _completed_fields(fields, held, adapter=not is_new)
    return [str(target) for target in given]


def _completed_fields(fields: Any, held: Mapping[str, Any], *, adapter: bool) -> Any:
    """Return a target's row with defaults for the fields that it omits."""
    if not isinstance(fields, dict):
        return fields  # reported later, with all other errors
    labels = [row.get("label", 0) for row in held.values() if isinstance(row, dict)]
    colors = [row.get("color") for row in held.values() if isinstance(row, dict)]
    known = [color for color in colors if isinstance(color, list)]
    free = max(
        PALETTE, key=lambda color: min([_color_distance(color, other) for other in known] or [0])
    )
    numbers = [label for label in labels if isinstance(label, int)]
    said = {"label": max([0, *numbers]) + 1, "color": list(free), "tier": "experimental"}
    return {**said, **({"adapter": True} if adapter else {}), **fields}


def _color_distance(one: Any, other: Any) -> int:
    """Return the squared distance between two colors."""
    pairs = zip(one, other, strict=False)
    return sum((a - b) ** 2 for a, b in pairs if isinstance(a, int) and isinstance(b, int))
