"""Presence heads and ways of the patch prompt, before and after: the tables of training.md.

    python benchmarks/accuracy/presence_and_prompt.py DATALIST OUT --unseen OTHER

DATALIST has the sections training and validation, as ``shipped_datalist.py`` writes them, or
a part of it; OTHER a section ``test`` of other sources. Two trainings set out from the weights of
the bundle:

    presence  heads alone, ``--epochs`` times ``--samples`` slices; the masks of both sections are
              scored whole, and emptied where the heads say that a target is absent
    prompt    the whole network, ``--prompt_steps`` steps with each of the three ways that a prompt
              is made of patches; the masks of the section validation are scored

What is done is kept in OUT, so that the command may be broken off and given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trial import run, scores_of, timed, written

from esp_medsam.workflows.bundle import default_root


PROMPTS = ("hard", "straight_through", "soft")


def main() -> None:
    """Train, score and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--unseen", type=Path, help="datalist with a section test")
    parser.add_argument("--weights", type=Path, default=Path(default_root(), "models", "model.pt"))
    parser.add_argument("--epochs", type=int, default=6, help="of the heads")
    parser.add_argument("--samples", type=int, default=400, help="slices of each")
    parser.add_argument("--prompt_steps", type=int, default=200)
    parser.add_argument("--input_size", type=int, default=448, help="of the heads")
    parser.add_argument("--prompt_input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    print_presence(asked)
    print_prompt(asked)


def print_presence(asked: argparse.Namespace) -> None:
    """Train the heads; print what they empty, and what that costs."""
    bundle = bundle_of(asked, "presence: true")
    weights = trained(
        asked,
        bundle,
        asked.input_size,
        epochs=asked.epochs,
        samples_per_epoch=asked.samples,
        learning_rate=0.01,
        frozen=["*"],
        trained=["presence.*"],
    )
    print("absent targets left empty, before and after; Dice of present targets, before and after")
    asks = [("validation", asked.datalist), *([("test", asked.unseen)] if asked.unseen else [])]
    for section, datalist in asks:
        before, after = (
            scored(bundle, weights, asked.input_size, datalist, section, threshold)
            for threshold in (0.0, 0.5)
        )
        sets = sorted({score["dataset"] for score in before})
        for name in (None, *sets):
            pairs = [
                [score for score in scores if name in (None, score["dataset"])]
                for scores in (before, after)
            ]
            told = [*(left_empty(scores) for scores in pairs), *(dice(scores) for scores in pairs)]
            print(section, name or "all", *told, sep="  ", flush=True)


def print_prompt(asked: argparse.Namespace) -> None:
    """Train with each way of the prompt, and print the Dice of its masks."""
    print("mean Dice by the way of the prompt")
    for prompt in PROMPTS:
        bundle = bundle_of(asked, f"prompt: {prompt}")
        size, samples = asked.prompt_input_size, asked.prompt_steps * asked.batch_size
        weights = trained(asked, bundle, size, epochs=1, samples_per_epoch=samples)
        scores = scored(bundle, weights, size, asked.datalist, "validation", 0.0)
        print(prompt, dice(scores), flush=True)


def bundle_of(asked: argparse.Namespace, said: str) -> Path:
    """Return a bundle of the shipped targets whose table says something at its top, made once."""
    bundle: Path = asked.out / said.replace(": ", "-")
    if not bundle.exists():
        shipped = Path(default_root(), "configs", "targets.yaml").read_text(encoding="utf-8")
        table = bundle.with_suffix(".targets.yaml")
        table.write_text(f"{said}\n{shipped}", encoding="utf-8")
        run("new-bundle", bundle, "--targets", table)
    return bundle


def trained(asked: argparse.Namespace, bundle: Path, size: int, **settings: Any) -> Path:
    """Train from the weights given, once, and return the weights after the last step.

    Not those that validated best: heads change no mask, by which that is judged.
    """
    folder = bundle.with_name(f"{bundle.name}-run")
    timed(
        folder,
        *("train", asked.datalist, folder, "--bundle", bundle, "--pretrained", asked.weights),
        *("--config", written(bundle.with_suffix(".settings.yaml"), **settings)),
        *("--input_size", size, "--batch_size", asked.batch_size, "--seed", asked.seed),
    )
    return folder / "model_last.pt"


def scored(
    bundle: Path, weights: Path, size: int, datalist: Path, section: str, threshold: float
) -> list[dict[str, Any]]:
    """Return the scores of masks, emptied below a probability of presence."""
    summary = weights.with_name(f"{section}-{threshold:g}.json")
    if not summary.exists():
        gate = written(bundle.with_suffix(f".{threshold:g}.yaml"), presence_threshold=threshold)
        run(
            *("evaluate", datalist, "--section", section, "--bundle", bundle, "--targets", "all"),
            *("--ckpt_path", weights, "--config", gate, "--input_size", size),
            *("--summary", summary),
        )
    return scores_of(summary)


def left_empty(scores: Sequence[dict[str, Any]]) -> str:
    """Return the share of absent targets in which nothing was found, and their number."""
    absent = sum(score["absent"] for score in scores)
    alarms = sum(score["false_alarms"] for score in scores)
    return f"{1 - alarms / absent:.3f} of {absent}" if absent else "-"


def dice(scores: Sequence[dict[str, Any]]) -> str:
    """Return the mean Dice over the cases that hold their target, and their number."""
    held = [score for score in scores if score["dice"] is not None]
    cases = sum(score["present"] for score in held)
    total = sum(score["dice"] * score["present"] for score in held)
    return f"{total / cases:.3f} of {cases}" if cases else "-"


if __name__ == "__main__":
    main()
