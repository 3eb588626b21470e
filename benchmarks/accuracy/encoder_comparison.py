"""TinyViT and TiC of as many parameters, trained at one size for the same time, seen at others.

    python benchmarks/accuracy/encoder_comparison.py DATALIST OUT --steps 2200

DATALIST has the sections training and validation. Both encoders begin with random weights and train
at ``--input_size``, TiC for fewer steps: as many as take the time of the processor that ``--steps``
of TinyViT take, by steps timed before in turns. Then the best weights of each are scored on the
validation images at every size of ``--sizes``, native among them. What is done is kept in OUT, so
that the command may be broken off and given again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from trial import run, scores_of, step_seconds, written

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.workflows.bundle import default_root


ENCODERS = ("tiny_vit", "tic")


def main() -> None:
    """Train, score and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--sizes", nargs="+", default=["224", "448", "672", "native"])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    steps = steps_of(asked)
    print("steps:", steps)
    for seed in asked.seeds:
        for encoder in asked.encoders:
            weights = trained(asked, encoder, seed, steps[encoder])
            for size in asked.sizes:
                scores = scored(asked, encoder, weights, size)
                each = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
                mean = statistics.mean(scores.values())
                print(f"{encoder} seed {seed} at {size}: mean {mean:.3f}  {each}", flush=True)


def steps_of(asked: argparse.Namespace) -> dict[str, int]:
    """Return the steps of each encoder that take the same time, measured once."""
    kept = asked.out / "steps.json"
    if not kept.exists():
        networks = {encoder: network_of(encoder) for encoder in ENCODERS}
        seconds = step_seconds(networks, asked.input_size, asked.batch_size)
        steps = {e: round(asked.steps * seconds["tiny_vit"] / seconds[e]) for e in ENCODERS}
        kept.write_text(json.dumps(steps), encoding="utf-8")
    found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def network_of(encoder: str) -> torch.nn.Module:
    """Return a network of the shipped table."""
    table = ModalityTable.read(Path(default_root(), "configs", "targets.yaml"))
    return build_product(table.indices, table.target_names, image_encoder=encoder)  # type: ignore[arg-type]


def bundle_of(asked: argparse.Namespace, encoder: str) -> Path:
    """Return a bundle whose table names the encoder, made once."""
    bundle: Path = asked.out / f"bundle-{encoder}"
    if not bundle.exists():
        table = asked.out / f"{encoder}.yaml"
        shipped = Path(default_root(), "configs", "targets.yaml").read_text(encoding="utf-8")
        table.write_text(f"image_encoder: {encoder}\n{shipped}", encoding="utf-8")
        run("new-bundle", bundle, "--targets", table)
    return bundle


def trained(asked: argparse.Namespace, encoder: str, seed: int, steps: int) -> Path:
    """Train, or go on, and return the best weights."""
    folder: Path = asked.out / f"{encoder}-{seed}"
    if not (folder / "model_last.pt").exists():
        config = written(
            folder.with_suffix(".yaml"),
            samples_per_epoch=max(1, steps // 8) * asked.batch_size,
            checkpoint_steps=100,
            cache_dir=str(asked.out / "slices"),
        )
        run(
            *("train", asked.datalist, folder, "--bundle", bundle_of(asked, encoder)),
            *("--config", config, "--epochs", 8, "--seed", seed),
            *("--input_size", asked.input_size, "--batch_size", asked.batch_size),
        )
    return folder / "model.pt"


def scored(asked: argparse.Namespace, encoder: str, weights: Path, size: str) -> dict[str, float]:
    """Return the mean Dice of each modality on the validation images at a size."""
    summary = weights.parent / f"at-{size}.json"
    if not summary.exists():
        run(
            *("evaluate", asked.datalist, "--section", "validation", "--input_size", size),
            *("--bundle", bundle_of(asked, encoder), "--ckpt_path", weights),
            *("--summary", summary),
        )
    dice: dict[str, list[float]] = {}
    for score in scores_of(summary):
        if score["dice"] is not None:
            dice.setdefault(score["modality"], []).append(score["dice"])
    return {modality: statistics.mean(each) for modality, each in dice.items()}


if __name__ == "__main__":
    main()
