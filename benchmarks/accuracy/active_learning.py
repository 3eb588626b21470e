"""Dice against the number of labels, if images are chosen by uncertainty and at random.

    python benchmarks/accuracy/active_learning.py DATALIST OUT --modality mri [--step 4]

It does what a user of `esp-medsam label` does: label the chosen images, train, choose again.
Labels come from the section training, Dice is measured on the section validation. OUT, a JSON file,
is written after each round; a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from esp_medsam.inferers.uncertainty import uncertainty_of
from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.integrations.monai_label.settings import BUNDLE
from esp_medsam.integrations.monai_label.training import EPOCHS, LEARNING_RATE, Training
from esp_medsam.integrations.monai_label.versions import Versions
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.evaluation import plan_request
from esp_medsam.workflows.evaluation_run import evaluate_request
from esp_medsam.workflows.request import read_request


STRATEGIES = ("random", "uncertain")


class Simulation:
    """One user, who chooses by one strategy.

    Args:
        asked: Options of the command.
        folder: Folder of the app, which is made.
        pool: Items of the images that can be labeled.
    """

    def __init__(self, asked: argparse.Namespace, folder: Path, pool: list[dict[str, Any]]) -> None:
        self.asked, self.folder = asked, folder.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(find_bundle(asked.bundle), self.folder / BUNDLE)
        self.pool = {item["image"]: item for item in pool}
        self.labeled: list[str] = []
        self.segmenters = Segmenters("cpu")
        self.versions = Versions(self.folder)
        self.table = ModalityTable.read(self.folder / BUNDLE / TABLE)

    def choose(self, strategy: str, random: np.random.Generator) -> None:
        """Label the next images; the first ones are random for everybody."""
        left = sorted(set(self.pool) - set(self.labeled))
        order = [left[place] for place in random.permutation(len(left))]
        if strategy == "uncertain" and self.labeled:
            order.sort(key=self._uncertainty, reverse=True)
        self.labeled += order[: self.asked.step]

    def _uncertainty(self, image: str) -> float:
        made = self.segmenters.segment(
            Path(image),
            bundle=self.versions.current(self.asked.modality).bundle,
            most_seconds=float("inf"),
            modality=self.asked.modality,
        )
        return uncertainty_of(made.probability)

    def train(self) -> bool:
        """Train on all labels so far, and return whether the new version is better."""
        training = Training(
            modality=self.asked.modality,
            table=self.table,
            versions=self.versions,
            segmenters=self.segmenters,
            folder=self.folder / "training",
            device="cpu",
            epochs=self.asked.epochs,
            learning_rate=self.asked.learning_rate,
        )
        stated = training.run([self.pool[image] for image in self.labeled]).stated
        return bool(stated["is_better"])

    def dice(self) -> float:
        """Return the mean Dice over targets of the current version."""
        bundle = self.versions.current(self.asked.modality).bundle
        request = read_request(bundle, trust_config=True, device="cpu")
        request, plan = plan_request(
            request, datalist=str(self.asked.datalist), section="validation"
        )
        found = [score.dice for score in evaluate_request(request, plan).scores]
        return statistics.mean(dice for dice in found if dice is not None)


def items_of(datalist: Path) -> list[dict[str, Any]]:
    """Return the items that can be labeled, with absolute paths."""
    items = json.loads(datalist.read_text(encoding="utf-8"))["training"]
    for item in items:
        item["image"] = str(datalist.parent / item["image"])
        item["absent"] = item.get("absent", [])
        for masks in item["labels"].values():
            for mask in masks:
                mask["path"] = str(datalist.parent / mask["path"])
    return list(items)


def main() -> None:
    """Simulate, and print Dice after each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality", required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE)
    asked = parser.parse_args()
    results: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    for seed in asked.seeds:
        for strategy in asked.strategies:
            name = f"{strategy} {seed} {asked.learning_rate:g}"
            if len(results.get(name, ())) > asked.rounds:
                continue
            simulation = Simulation(asked, asked.out.with_suffix(""), items_of(asked.datalist))
            random = np.random.default_rng(seed)
            results[name] = [[0, simulation.dice(), False]]
            for _ in range(asked.rounds):
                simulation.choose(strategy, random)
                is_better = simulation.train()
                results[name].append([len(simulation.labeled), simulation.dice(), is_better])
                asked.out.write_text(json.dumps(results, indent=1))
                print(name, results[name][-1], flush=True)


if __name__ == "__main__":
    main()
