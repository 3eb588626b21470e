"""Trainings that are compared: each is run once, broken off and given again as one likes."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from esp_medsam.inferers.precision import has_bfloat16_units


def run(*arguments: object) -> float:
    """Run ``esp-medsam`` and return the seconds of the processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [Path(sys.executable).with_name("esp-medsam"), *map(str, arguments)]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed(folder: Path, *arguments: object) -> float:
    """Return the processor seconds of a run into ``folder``, which is resumed if broken off.

    A resumed run is timed by its last part: seconds per epoch there, times all epochs.
    """
    kept = folder.with_suffix(".seconds.json")
    if not kept.exists():
        before = _epochs(folder)
        seconds = run(*arguments)
        done = _epochs(folder)
        kept.write_text(json.dumps(seconds * done / max(1, done - before)), encoding="utf-8")
    taken: float = json.loads(kept.read_text(encoding="utf-8"))
    return taken


def _epochs(folder: Path) -> int:
    """Return how many epochs of a run are done."""
    history = folder / "history.json"
    return len(json.loads(history.read_text(encoding="utf-8"))) if history.exists() else 0


def written(path: Path, **settings: Any) -> Path:
    """Write settings as an overlay, and return its path."""
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def scores_of(summary: Path) -> list[dict[str, Any]]:
    """Return the scores in what ``evaluate --summary`` wrote, one of each target of each set."""
    scores: list[dict[str, Any]] = json.loads(summary.read_text(encoding="utf-8"))["scores"]
    return scores


def step_seconds(
    networks: Mapping[str, torch.nn.Module], side: int, batch: int, rounds: int = 6
) -> dict[str, float]:
    """Return the processor seconds of a step of each network, as training takes it, in turns.

    A step is a forward and a backward pass of a batch of square images of mixed modalities, in
    bfloat16 where the processor has units for it; of each the median counts, the first left out.
    """
    amp = has_bfloat16_units(torch.device("cpu"))
    image = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for _ in range(rounds):
        for name, network in networks.items():
            began = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                logits = network.predict(image, torch.arange(batch) % 8).low_res_logits  # type: ignore[operator]
            logits.float().square().mean().backward()
            taken[name].append(time.process_time() - began)
    seconds = {name: statistics.median(each[1:]) for name, each in taken.items()}
    print("processor seconds of a step:", seconds)
    return seconds
