"""What ten million volumes take on 1 to 1,000 GPUs, and what limits them.

    python benchmarks/batch/cost_model.py [--volumes 1e7] [--gpu_seconds 3] ...

Measures how fast this machine plans files and writes the journal, and computes the rest from
assumptions, which are options and are printed: nothing here has been run on a thousand GPUs. Prints
the tables of docs/explanation/scale.md.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.journal import Journal
from esp_medsam.workflows.results import ItemResult


GPUS = (1, 8, 64, 256, 1000)


@dataclass(frozen=True)
class Model:
    """Assumptions and measurements.

    Attributes:
        volumes: Number of volumes.
        gpu_seconds: Seconds of a GPU for each volume, reading and writing overlapped or not.
        megabytes: Size of a volume's file.
        dollars: Price of a GPU with its host for an hour.
        storage: Gigabytes that the shared storage delivers in a second.
        dispatch: Items that one driver hands out in a second.
        journal: Items that one journal notes in a second, begin and end.
        planned: Files that are planned in a second.
    """

    volumes: float
    gpu_seconds: float
    megabytes: float
    dollars: float
    storage: float
    dispatch: float
    journal: float
    planned: float

    def rate(self, gpus: int) -> float:
        """Return the volumes in a second that the GPUs could segment."""
        return gpus / self.gpu_seconds

    def limits(self) -> dict[str, float]:
        """Return the volumes in a second that each other part allows."""
        return {
            "storage": self.storage * 1000 / self.megabytes,
            "one driver": self.dispatch,
            "one journal": self.journal,
        }

    def rows(self) -> list[str]:
        """Return a row of Markdown for each number of GPUs."""
        rows = []
        for gpus in GPUS:
            wanted = self.rate(gpus)
            name, least = min(self.limits().items(), key=lambda limit: limit[1])
            got = min(wanted, least)
            hours = self.volumes / got / 3600
            cost = hours * gpus * self.dollars
            limit = "the GPUs" if wanted <= least else name
            rows.append(
                f"| {gpus:,} | {got * 3600:,.0f} | {hours / 24:,.1f} | {cost:,.0f} | "
                f"{100 * cost / self.volumes:.2f} | "
                f"{wanted * self.megabytes / 1000:.2f} | {limit} |"
            )
        return rows

    def saturation(self) -> list[str]:
        """Return a row of Markdown for each part: the number of GPUs that it can feed."""
        return [
            f"| {name} | {limit:,.0f} | {limit * self.gpu_seconds:,.0f} |"
            for name, limit in self.limits().items()
        ]


def journal_rate(folder: Path, items: int = 3000) -> float:
    """Return the items in a second that a journal notes."""
    began = time.perf_counter()
    with Journal(folder / "journal.sqlite", folder, {}) as journal:
        for number in range(items):
            journal.begin(f"{number}.nii.gz", "tried")
            failed = ItemResult(path=f"{number}.nii.gz", status="failed", code="E_X", message="x")
            journal.end(failed)
    assert sqlite3.connect(folder / "journal.sqlite").execute(
        "SELECT count(*) FROM item WHERE status = 'failed'"
    ).fetchone() == (items,)
    return items / (time.perf_counter() - began)


def planning_rate(folder: Path, files: int = 10_000) -> float:
    """Return the files in a second that are planned."""
    for number in range(files):
        place = folder / f"{number % 100}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.nii.gz").touch()
    table = ModalityTable.read(find_bundle() / TABLE)
    began = time.perf_counter()
    plans = plan_parts(folder, None, table=table, modality="ct")
    assert sum(1 for _ in plans.steps) == files
    return files / (time.perf_counter() - began)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=float, default=1e7)
    parser.add_argument("--gpu_seconds", type=float, default=3.0)
    parser.add_argument("--megabytes", type=float, default=80.0)
    parser.add_argument("--dollars", type=float, default=2.0)
    parser.add_argument("--storage", type=float, default=10.0)
    parser.add_argument("--dispatch", type=float, default=200.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        journal, planned = Path(made) / "journal", Path(made) / "planned"
        journal.mkdir()
        planned.mkdir()
        rates = {"journal": journal_rate(journal), "planned": planning_rate(planned)}
    model = Model(**vars(asked), **rates)
    print(", ".join(f"{name} {value:,.0f}" for name, value in vars(model).items()))
    print("\n| GPUs | volumes/h | days | dollars | cents/volume | GB/s read | limited by |")
    print("|---|---|---|---|---|---|---|", *model.rows(), sep="\n")
    print("\n| part | volumes/s | GPUs that it feeds |\n|---|---|---|", end="")
    print("", *model.saturation(), sep="\n")
    print(f"\nPlanning {model.volumes:,.0f} files takes {model.volumes / model.planned:,.0f} s.")


if __name__ == "__main__":
    main()
