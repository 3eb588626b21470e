"""``esp-medsam modalities``: list what the weights can segment."""

from __future__ import annotations

import json
from typing import Annotated

from esp_medsam.cli.options import Bundle, option
from esp_medsam.modality import Code, ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle


def modalities(
    *,
    bundle: Bundle = None,
    as_json: Annotated[bool, option("--json", "Print the whole table as JSON.")] = False,
) -> None:
    """List the modalities, targets, label values and codes of the weights."""
    table = ModalityTable.read(find_bundle(bundle) / TABLE)
    if as_json:
        print(json.dumps(table.to_json(), indent=2))
        return
    rows = [("modality", "target", "tier", "label", "category", "type", "region")]
    rows += [
        (
            modality.name,
            target.name,
            target.tier,
            str(target.label),
            _code_text(target.category),
            _code_text(target.type),
            _code_text(target.anatomic_region),
        )
        for modality in table.modalities
        for target in modality.targets
    ]
    # Columns, not a drawn table: grep and awk must be able to read it, at any width.
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _code_text(code: Code | None) -> str:
    """Return a code with its meaning, as text."""
    return "" if code is None else f"{code.meaning} ({code.value}, {code.scheme})"
