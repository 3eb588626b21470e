"""What distillation adds, beside students that have none for the same time: one table.

    python benchmarks/accuracy/distillation_gain.py DATALIST OUT --unseen OTHER

DATALIST has the sections training and validation; OTHER a section ``test`` of another source.
The teacher is the product's network at ``--teacher_input_size``, trained on DATALIST from random
weights. The students start from random weights too, at ``--input_size``:

    a  masks alone, ``--steps`` steps
    b  the encoder from the teacher's embeddings, ``--distill_steps`` steps, then masks for
       ``--further_steps``: choose them so that b takes as long as a
    c  masks alone, ``--longer_steps`` steps: as long as b and its teacher together

Times are of the processor, so that what else the machine does counts less. The best weights of
each run on the validation images are scored by ``esp-medsam evaluate``. Each arm of each seed is
a run of its own, given by ``--arms`` and ``--seeds``; what is done is kept in OUT/results, and the
table shows all of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TypedDict

from trial import run, scores_of, timed, written


EPOCHS = 8


class Run(TypedDict):
    """What one arm of one seed came to."""

    minutes: float
    dice: dict[str, float]
    """Mean over the cases, by section, set and target."""


def options(asked: argparse.Namespace, folder: Path, steps: int, seed: int) -> list[object]:
    """Return the options that all runs share; each has the same number of epochs."""
    config = written(
        folder.with_suffix(".yaml"),
        samples_per_epoch=max(1, steps // EPOCHS) * asked.batch_size,
    )
    return [
        *("--batch_size", asked.batch_size, "--epochs", EPOCHS, "--seed", seed),
        *("--config", config),
    ]


def masks(
    asked: argparse.Namespace, name: str, steps: int, seed: int, side: int, *further: object
) -> float:
    """Train on masks into a folder of OUT, and return the processor seconds."""
    folder = asked.out / name
    shared = options(asked, folder, steps, seed)
    return timed(folder, "train", asked.datalist, folder, *shared, "--input_size", side, *further)


def distil(asked: argparse.Namespace, seed: int) -> float:
    """Train the encoder on the teacher's embeddings; return the seconds, embeddings included."""
    folder = asked.out / f"distilled-{seed}"
    teacher = asked.out / "teacher" / "model.pt"
    return timed(
        folder,
        *("distill", asked.datalist, folder, "--teacher", "network"),
        *("--teacher_weights", teacher, "--teacher_input_size", asked.teacher_input_size),
        *("--trained", "image_encoder.*", "--embeddings", asked.out / f"embeddings-{seed}"),
        *("--views", asked.views, "--compare_steps", 0, "--input_size", asked.input_size),
        *options(asked, folder, asked.distill_steps, seed),
    )


def train_arm(asked: argparse.Namespace, arm: str, seed: int) -> float:
    """Train one arm of one seed, and return its processor seconds."""
    name, side = f"{arm}-{seed}", asked.input_size
    if arm == "teacher":
        return masks(asked, "teacher", asked.teacher_steps, 0, asked.teacher_input_size)
    if arm == "a":
        return masks(asked, name, asked.steps, seed, side)
    if arm == "c":
        return masks(asked, name, asked.longer_steps, seed, side)
    distilled = asked.out / f"distilled-{seed}" / "model.pt"
    distilling = distil(asked, seed)
    return distilling + masks(
        asked, name, asked.further_steps, seed, side, "--pretrained", distilled
    )


def score(asked: argparse.Namespace, arm: str, seed: int) -> dict[str, float]:
    """Return the mean Dice of each set and target."""
    weights = asked.out / ("teacher" if arm == "teacher" else f"{arm}-{seed}") / "model.pt"
    side = asked.teacher_input_size if arm == "teacher" else asked.input_size
    found: dict[str, float] = {}
    for datalist, section in ((asked.datalist, "validation"), (asked.unseen, "test")):
        summary = weights.parent / f"{section}.json"
        run(
            *("evaluate", datalist, "--section", section, "--ckpt_path", weights),
            *("--input_size", side, "--summary", summary, "--overwrite"),
        )
        for each in scores_of(summary):
            if each["dice"] is not None:
                found[f"{section} {each['dataset']} {each['target']}"] = each["dice"]
    return found


def complete(asked: argparse.Namespace, arm: str, seed: int) -> None:
    """Train and score an arm of a seed, unless that is done."""
    kept = asked.out / "results" / f"{arm}-{seed}.json"
    if kept.exists():
        return
    minutes = train_arm(asked, arm, seed) / 60
    found = Run(minutes=round(minutes, 1), dice=score(asked, arm, seed))
    kept.write_text(json.dumps(found, indent=1), encoding="utf-8")


def print_table(results: Path) -> None:
    """Print time and Dice of each arm, over the seeds that are done."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for path in sorted(results.glob("*.json")):
        runs[path.stem.rpartition("-")[0]].append(json.loads(path.read_text(encoding="utf-8")))
    for arm, done in sorted(runs.items()):
        minutes = " ".join(f"{one['minutes']:.0f}" for one in done)
        print(f"{arm}: {minutes} processor minutes")
        for name in done[0]["dice"]:
            dice = [one["dice"][name] for one in done]
            shown = " ".join(f"{value:.3f}" for value in dice)
            print(f"   {name}: mean {statistics.mean(dice):.3f} of {shown}")


def main() -> None:
    """Run what is asked for and is not done, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", choices=["a", "b", "c"], default=["a", "b", "c"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--teacher_input_size", type=int, default=448)
    parser.add_argument("--teacher_steps", type=int, default=640)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--distill_steps", type=int, default=400)
    parser.add_argument("--further_steps", type=int, default=1350)
    parser.add_argument("--longer_steps", type=int, default=4500)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    asked = parser.parse_args()
    (asked.out / "results").mkdir(parents=True, exist_ok=True)
    if "b" in asked.arms:
        complete(asked, "teacher", 0)
    for seed in asked.seeds:
        for arm in asked.arms:
            complete(asked, arm, seed)
    print_table(asked.out / "results")


if __name__ == "__main__":
    main()
