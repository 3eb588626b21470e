"""Trainings that are compared: each is run once, broken off and given again as one likes."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def run(*arguments: object) -> float:
    """Run ``esp-medsam`` and return the seconds of the processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [Path(sys.executable).with_name("esp-medsam"), *map(str, arguments)]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed(folder: Path, *arguments: object) -> float:
    """Return the processor seconds of a run into ``folder``, which begins anew if broken off."""
    kept = folder.with_suffix(".seconds.json")
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        kept.write_text(json.dumps(run(*arguments)), encoding="utf-8")
    taken: float = json.loads(kept.read_text(encoding="utf-8"))
    return taken


def written(path: Path, **settings: Any) -> Path:
    """Write settings as an overlay, and return its path."""
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def scores_of(summary: Path) -> list[dict[str, Any]]:
    """Return the scores in what ``evaluate --summary`` wrote, one of each target of each set."""
    scores: list[dict[str, Any]] = json.loads(summary.read_text(encoding="utf-8"))["scores"]
    return scores
