"""What distillation adds, beside a student that has none for the same time: one table.

    python benchmarks/accuracy/distillation_gain.py DATALIST OUT --teacher model.pt --unseen OTHER

DATALIST has the sections training and validation; OTHER a section ``test`` of another source.
Of each seed, all from random weights, at ``--input_size``:

    a  masks alone, ``--steps`` steps
    b  the encoder from the teacher's embeddings, ``--distill_steps`` steps, then masks as in a
    c  masks alone, for as long as the whole of b took, its embeddings included

Times are of the processor, so that what else the machine does counts less; the teacher's own
training is not among them, in favor of b. Batches are of ``--batch_size``; the best weights of each
run are scored by ``esp-medsam evaluate``. Runs that are done are kept in OUT, so that the command
may be broken off and given again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

from trial import run, scores_of, timed, written


def options(asked: argparse.Namespace, folder: Path, steps: int, seed: int) -> list[object]:
    """Return the options that all runs share; an epoch is a quarter of the steps."""
    config = written(
        folder.with_suffix(".yaml"),
        samples_per_epoch=max(1, steps // 4) * asked.batch_size,
        cache_dir=str(asked.out / "slices"),
    )
    return [
        *("--input_size", asked.input_size, "--batch_size", asked.batch_size),
        *("--epochs", 4, "--seed", seed, "--config", config),
    ]


def masks(
    asked: argparse.Namespace, name: str, steps: int, seed: int, *further: object
) -> tuple[float, Path]:
    """Train on masks; return the time and the weights."""
    folder = asked.out / f"{name}-{seed}"
    shared = options(asked, folder, steps, seed)
    taken = timed(folder, "train", asked.datalist, folder, *shared, *further)
    return taken, folder / "model.pt"


def scores(asked: argparse.Namespace, weights: Path) -> dict[str, float]:
    """Return the mean Dice of each set and target."""
    found: dict[str, float] = {}
    for datalist, section in ((asked.datalist, "validation"), (asked.unseen, "test")):
        if datalist is None:
            continue
        summary = weights.parent / f"{section}.json"
        shared = [
            "--ckpt_path",
            weights,
            "--input_size",
            asked.input_size,
            "--summary",
            summary,
            "--overwrite",
        ]
        run("evaluate", datalist, "--section", section, *shared)
        for score in scores_of(summary):
            found[f"{section} {score['dataset']} {score['target']}"] = score["dice"] or 0.0
    return found


def arms(asked: argparse.Namespace, seed: int) -> dict[str, tuple[float, dict[str, float]]]:
    """Return time and scores of each arm, computed once."""
    kept = asked.out / f"seed-{seed}.json"
    if not kept.exists():
        kept.write_text(json.dumps(compute_arms(asked, seed)), encoding="utf-8")
    found: dict[str, tuple[float, dict[str, float]]] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def compute_arms(asked: argparse.Namespace, seed: int) -> dict[str, tuple[float, dict[str, float]]]:
    """Train the arms of a seed and return time and scores of each."""
    alone, of_a = masks(asked, "a", asked.steps, seed)
    folder = asked.out / f"distilled-{seed}"
    embeddings = asked.out / f"embeddings-{seed}"
    if not folder.with_suffix(".seconds.json").exists():
        shutil.rmtree(embeddings, ignore_errors=True)  # their time counts
    distilling = timed(
        folder,
        *("distill", asked.datalist, folder, "--teacher", "network"),
        *("--teacher_weights", asked.teacher, "--teacher_input_size", asked.teacher_input_size),
        *("--trained", "image_encoder.*", "--embeddings", embeddings),
        *("--views", asked.views, "--compare_steps", 0),
        *options(asked, folder, asked.distill_steps, seed),
    )
    further, of_b = masks(asked, "b", asked.steps, seed, "--pretrained", folder / "model.pt")
    longer = round(asked.steps * (distilling + further) / alone)
    long, of_c = masks(asked, "c", longer, seed)
    times = {"a": alone, "b": distilling + further, "c": long}
    weights = {"a": of_a, "b": of_b, "c": of_c}
    return {arm: (times[arm], scores(asked, weights[arm])) for arm in times}


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--teacher_input_size", type=int, default=448)
    parser.add_argument("--unseen", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--distill_steps", type=int, default=200)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found = [arms(asked, seed) for seed in range(asked.seeds)]
    for arm in ("a", "b", "c"):
        minutes = [one[arm][0] / 60 for one in found]
        print(f"{arm}: {statistics.mean(minutes):.1f} processor minutes")
        for name in found[0][arm][1]:
            dice = [one[arm][1][name] for one in found]
            shown = " ".join(f"{value:.3f}" for value in dice)
            print(f"   {name}: mean {statistics.mean(dice):.3f} of {shown}")


if __name__ == "__main__":
    main()
