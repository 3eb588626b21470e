"""Create a bundle from the installed configs and a new table of targets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from esp_medsam.errors import OutputExistsError
from esp_medsam.io.atomic import atomic_file
from esp_medsam.modality import Modality, ModalityTable
from esp_medsam.plain_data import read_own_json
from esp_medsam.workflows.bundle import TABLE, find_bundle


_CONFIGS = (
    "inference.yaml",
    "evaluate.yaml",
    "train.yaml",
    "add_modality.yaml",
    "distill_common.yaml",
    "distill_modality.yaml",
    "train_teacher.yaml",
    "multi_gpu_train.yaml",
    "logging.conf",
)
"""Configs that are copied unchanged: only installed configs may run without trust."""

_METADATA = Path("configs", "metadata.json")

_README = """\
# {name}

A bundle for the Python package esp_medsam, which segments without prompts:

{targets}

Research only. Not a medical device: not for diagnosis, treatment or any other clinical decision.

State here what it was trained on, under which terms, and how well it does on images that it was not
trained on: `esp-medsam evaluate DATALIST --bundle .`
"""


def new_bundle(
    folder: str | os.PathLike[str],
    targets: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
) -> ModalityTable:
    """Make a bundle without weights; ``workflows.weights.place_weights`` adds them.

    Args:
        folder: Folder for the bundle, new or empty.
        targets: Table of modalities and targets, in the form of ``targets.yaml``.
        source: Bundle to take the rest from; None is the installed bundle.

    Returns:
        The table of modalities and targets.

    Raises:
        TableError: If the table breaks a rule.
        OutputExistsError: If the folder is not empty.
        OutputError: If the folder cannot be written to.
    """
    table = ModalityTable.read(Path(targets))
    text = Path(targets).read_text(encoding="utf-8")
    make_bundle(
        Path(folder), table, text, origin=find_bundle(source), maker="new-bundle", argument="FOLDER"
    )
    return table


def make_bundle(
    root: Path, table: ModalityTable, text: str, *, origin: Path, maker: str, argument: str
) -> None:
    """Make a bundle of a table, without weights.

    Args:
        root: Folder for the bundle, new or empty.
        table: Modalities and targets of the bundle.
        text: The table as YAML.
        origin: Bundle to take the rest from.
        maker: Command that makes the bundle, for the changelog.
        argument: The command's name for the folder, for messages.

    Raises:
        OutputExistsError: If the folder is not empty.
        OutputError: If the folder cannot be written to.
    """
    if os.path.lexists(root) and not (root.is_dir() and not any(root.iterdir())):
        msg = f"{argument} must be a new or empty folder; {root} is not. Choose another folder."
        raise OutputExistsError(msg)
    files = {Path("configs", name): (origin / "configs" / name).read_bytes() for name in _CONFIGS}
    files[Path("LICENSE")] = (origin / "LICENSE").read_bytes()
    files[TABLE] = text.encode()
    shipped, name = read_own_json(origin / _METADATA), root.resolve().name
    metadata = json.dumps(_metadata(shipped, name, table, maker), indent=4)
    files[_METADATA] = f"{metadata}\n".encode("ascii")
    told = "\n".join(f"- {line}" for line in _target_lines(table))
    files[Path("docs", "README.md")] = _README.format(name=name, targets=told).encode()
    for path, content in files.items():
        with atomic_file(root / path) as file:
            file.write(content)


def _metadata(
    shipped: dict[str, Any], name: str, table: ModalityTable, maker: str
) -> dict[str, Any]:
    """Return the metadata of a bundle of these targets, in place of the shipped metadata."""
    formats = shipped["network_data_format"]
    default = _default(table)
    named = {str(place): target.name for place, target in enumerate(default.targets)}
    inputs, outputs = formats["inputs"]["image"], formats["outputs"]["pred"]
    kind = default.dicom_modalities[0] if default.dicom_modalities else default.name
    return {
        **shipped,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"Made by esp-medsam {maker}"},
        "name": name,
        "task": f"Segmentation of images of {', '.join(table.names)} without prompts",
        "description": f"Segments {'; '.join(_target_lines(table))}, without prompts. Needs the "
        "Python package esp_medsam.",
        "authors": "Unknown; state who trained it",
        "copyright": "Unknown; state whose it is",
        "data_source": "Unknown; state what it was trained on, and under which terms",
        "pred_classes": "One channel of logits per target of the modality; network_data_format "
        f"describes {default.name}, the default modality",
        "network_data_format": {
            "inputs": {"image": {**inputs, "modality": kind}},
            "outputs": {"pred": {**outputs, "num_channels": len(named), "channel_def": named}},
        },
        "weights": {},
    }


def _default(table: ModalityTable) -> Modality:
    """Return the modality that the network assumes if none is given."""
    return next((m for m in table.modalities if m.name == "ct"), table.modalities[0])


def _target_lines(table: ModalityTable) -> list[str]:
    return [f"{m.name}: {', '.join(target.name for target in m.targets)}" for m in table.modalities]
