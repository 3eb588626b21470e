"""Make the bundle that the next weights are trained in: all targets, presence said of each.

python benchmarks/accuracy/bundle.py FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from esp_medsam.workflows.additions import read_additions
from esp_medsam.workflows.bundle import default_root
from esp_medsam.workflows.new_bundle import new_bundle


def main() -> None:
    """Write the table, and the bundle around it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    shipped = Path(default_root(), "configs", "targets.yaml")
    added = read_additions(Path(__file__).with_name("new_targets.yaml"), shipped)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "targets.yaml")
        table.write_text(f"presence: true\n{added.text}", encoding="utf-8")
        made = new_bundle(asked.folder, table)
    for modality in made.modalities:
        print(modality.name, ", ".join(target.name for target in modality.targets))


if __name__ == "__main__":
    main()
