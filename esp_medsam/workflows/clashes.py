"""Find items whose outputs would overwrite each other or an input."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from esp_medsam.errors import EspMedSamError, NameClashError, listed
from esp_medsam.io.item import Item
from esp_medsam.io.output_path import output_stem
from esp_medsam.workflows.input_files import InputFiles, would_replace
from esp_medsam.workflows.refusal import Refusal


OUTPUT_ENDING = re.compile(r"_seg(?=[._])")
"""End of the part that the names of an item's outputs have in common."""


def without_clashes(items: Sequence[Item]) -> tuple[list[Item], list[Refusal]]:
    """Split items into those whose outputs have unique names, and the rest."""
    by_output: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_output[f"{item.relative_dir}/{item.name}".casefold()].append(item)
    kept = [group[0] for group in by_output.values() if len(group) == 1]
    refused: list[Refusal] = []
    for group in by_output.values():
        for item in group if len(group) > 1 else ():
            rivals = [other.label for other in group if other is not item]
            refused.append(Refusal.of(item, shared_name(item.label, f"{item.name}_seg", rivals)))
    return kept, refused


def shared_name(label: str, name: str, rivals: Sequence[str]) -> NameClashError:
    """Return the error for an input whose outputs would have the same names as those of others.

    Args:
        label: Name of the input in messages.
        name: Name that its outputs would have.
        rivals: Names of the other inputs in messages.
    """
    msg = f"Images must have different output names; {label} shares {name} with {listed(rivals)}."
    return NameClashError(msg)


def without_replacing(
    items: Sequence[Item], files: InputFiles, output_dir: Path
) -> tuple[list[Item], list[Refusal]]:
    """Split items into those whose outputs replace no input, and the rest."""
    kept: list[Item] = []
    refused: list[Refusal] = []
    for item in items:
        try:
            stem = output_stem(output_dir, item.relative_dir, item.name)
        except EspMedSamError as error:
            refused.append(Refusal.of(item, error))
            continue
        if (path := files.replaced_by(stem)) is None:
            kept.append(item)
        else:
            refused.append(Refusal.of(item, would_replace(item.label, stem, path)))
    return kept, refused
