"""The product's network beside others: same data, same augmentation and loss, same time.

    python benchmarks/accuracy/arms.py DATALIST BUNDLE OUT --minutes 60

DATALIST is what ``datalist.py`` wrote, BUNDLE what ``bundle.py`` made. Each arm trains for as many
steps as take so many minutes of the processor, by steps timed before in turns:

    ours                 the product's network, from random weights
    ours_from_shipped    the same, from the shipped weights, whose own training comes on top
    without_controllers  the same from random weights, its controllers silent
    unet                 one DynUNet for all modalities, of as many parameters
    unets                one DynUNet for each modality, which share the time evenly

The best weights of each on the validation images are scored on a section, case by case, and
compared with ``ours``. What is done is kept in OUT; the command may be broken off and given again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from peers import UNetPeer, without_controllers
from trial import run, step_seconds, written

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.workflows.bundle import default_root


HERE = Path(__file__).parent

NETWORKS: dict[str, str | None] = {
    "ours": None,
    "ours_from_shipped": None,
    "without_controllers": "peers.without_controllers",
    "unet": "peers.UNetPeer",
    "unets": "peers.UNetPeer",
}
"""What builds the network of each arm; None is the bundle's own."""

EPOCHS = 8


def main() -> None:
    """Train, score and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("datalist", "bundle", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--arms", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--section", default="test")
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    steps = steps_of(asked)
    print("steps:", steps)
    for arm in asked.arms:
        for modality in modalities(asked) if arm == "unets" else [None]:
            train_and_score(asked, arm, modality, steps)


def table_of(asked: argparse.Namespace) -> ModalityTable:
    """Return the bundle's table."""
    return ModalityTable.read(asked.bundle / "configs" / "targets.yaml")


def modalities(asked: argparse.Namespace) -> list[str]:
    """Return the modalities that have training images."""
    content = json.loads(asked.datalist.read_text(encoding="utf-8"))
    return list(dict.fromkeys(item["modality"] for item in content["training"]))


def steps_of(asked: argparse.Namespace) -> dict[str, int]:
    """Return the steps of each network that take the time, measured once, in turns."""
    kept = asked.out / "steps.json"
    if not kept.exists():
        table = table_of(asked)
        held = table.indices, table.target_names
        networks = {
            "ours": build_product(*held, presence=table.presence),
            "without_controllers": without_controllers(*held),
            "unet": UNetPeer(*held),
        }
        seconds = step_seconds(networks, asked.input_size, asked.batch_size)
        steps = {name: round(60 * asked.minutes / each) for name, each in seconds.items()}
        kept.write_text(json.dumps(steps), encoding="utf-8")
    found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def train_and_score(
    asked: argparse.Namespace, arm: str, modality: str | None, steps: dict[str, int]
) -> None:
    """Train an arm, or one U-Net of one modality, and score it; what is done is kept."""
    name = arm if modality is None else f"{arm}-{modality}"
    folder = asked.out / name
    datalist = asked.datalist if modality is None else part_of(asked, modality)
    count = steps["unet" if arm == "unets" else arm.removesuffix("_from_shipped")]
    if modality is not None:
        count = round(count / len(modalities(asked)))
    overlay = network_overlay(asked, arm)
    if not (folder / "model_last.pt").exists():
        config = written(
            folder.with_suffix(".yaml"),
            samples_per_epoch=max(1, count // EPOCHS) * asked.batch_size,
            cache_dir=str((asked.out / "slices").resolve()),
            checkpoint_steps=100,
        )
        start = ["--pretrained", Path(default_root(), "models", "model.pt")]
        run(
            *("train", datalist, folder, "--bundle", asked.bundle, *overlay, "--config", config),
            *("--epochs", EPOCHS, "--seed", asked.seed, "--input_size", asked.input_size),
            *("--batch_size", asked.batch_size, *(start if arm == "ours_from_shipped" else [])),
        )
    cases = asked.out / f"{name}-{asked.section}.csv"
    if not cases.exists():
        ours = asked.out / f"ours-{asked.section}.csv"
        compare = ["--compare", ours] if ours.exists() else []
        run(
            *("evaluate", datalist, "--section", asked.section, "--bundle", asked.bundle),
            *(*overlay, "--ckpt_path", folder / "model.pt", "--input_size", asked.input_size),
            *("--cases", cases, "--summary", cases.with_suffix(".json"), *compare),
        )


def network_overlay(asked: argparse.Namespace, arm: str) -> list[object]:
    """Return the options that put an arm's network in the product's place."""
    built_by = NETWORKS[arm]
    if built_by is None:
        return []
    network = {
        "_target_": built_by,
        "modalities": "$@table.indices",
        "targets": "$@table.target_names",
    }
    path = written(asked.out / f"{arm}.network.yaml", network_def=network)
    return ["--config", path, "--trust_config"]


def part_of(asked: argparse.Namespace, modality: str) -> Path:
    """Return a datalist of one modality's images, beside the whole one."""
    content: dict[str, list[dict[str, Any]]] = json.loads(asked.datalist.read_text("utf-8"))
    part = {
        section: [item for item in items if item["modality"] == modality]
        for section, items in content.items()
    }
    path: Path = asked.datalist.with_name(f"{asked.datalist.stem}-{modality}.json")
    path.write_text(json.dumps(part), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
