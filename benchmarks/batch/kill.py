"""Kill a run again and again, resume it, and compare with one that nobody killed.

    python benchmarks/batch/kill.py [--items 200] [--kills 50] [--workers 2] [--seed 0]

Segments small pictures with `esp-medsam segment`. Each time, after a random moment, SIGKILL ends
the command, or one of its workers, and the command is started again. Prints how many items were
done when, and checks that in the end each is done once, that files and records equal those of an
uninterrupted run, that the journal says the same, and that nothing half-written is left. The exit
status is 1 if not. Needs Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from esp_medsam.io.record import JOURNAL


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures of noise into a few folders."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (64, 60, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(place / f"{number}.png")


def begin(folder: Path, out: str, workers: int) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    program = Path(sys.executable).with_name("esp-medsam")
    command = [str(program), "segment", "in", out, "--modality", "fundus", "--device", "cpu"]
    command += ["--input_size", "64", "--preview", "--workers", str(workers), "--quiet"]
    log = (folder / "log").open("ab")
    return subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the process ids of a command's workers."""
    found = []
    for path in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for pid in path.read_text().split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def done(out: Path) -> dict[str, int]:
    """Return the records and when each was written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*_seg.json")}


def contents(out: Path) -> dict[str, Any]:
    """Return all files but the journal: by their hashes, of records what they say but the times."""
    found: dict[str, Any] = {}
    for path in out.rglob("*"):
        if not path.is_file() or path.name == JOURNAL:
            continue
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text())
            for file in found[name]["files"]:
                del file["modified_ns"]
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def kill_once(process: subprocess.Popen[bytes], moments: random.Random) -> str:
    """Kill the command or one of its workers, and return which."""
    workers = children(process)
    if workers and moments.random() < 0.5:
        os.kill(moments.choice(workers), signal.SIGKILL)
        return "worker"
    process.kill()
    return "command"


def faults(folder: Path, items: int) -> list[str]:
    """Return what is wrong in the end."""
    out, whole = folder / "out", folder / "whole"
    told = []
    if contents(out) != contents(whole):
        told.append("the results differ from those of an uninterrupted run")
    if left := list(out.rglob(".esp-medsam-*")):
        told.append(f"{len(left)} half-written files are left")
    database = sqlite3.connect(out / JOURNAL)
    rows = database.execute("SELECT item, status, outputs FROM item").fetchall()
    database.close()
    if len(rows) != items or {status for _, status, _ in rows} != {"done"}:
        told.append(f"the journal has {len(rows)} items, not all of them done")
    for item, _, outputs in rows:
        for name, sha256 in json.loads(outputs).items():
            content = (out / Path(item).parent / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                told.append(f"the journal has another hash of {name}")
    return told


def main() -> int:
    """Kill, resume, compare and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "in", asked.items)
        start = time.monotonic()
        process = begin(folder, "whole", asked.workers)
        while not done(folder / "whole") and process.poll() is None:
            time.sleep(0.05)
        first = time.monotonic() - start
        assert process.wait() == 0
        seconds = time.monotonic() - start
        each = (seconds - first) / asked.items
        counts, redone, kills = {"command": 0, "worker": 0}, 0, 0
        process = begin(folder, "out", asked.workers)
        while kills < asked.kills:
            if moments.random() < 0.3:  # while it starts
                time.sleep(moments.uniform(0.0, first))
            else:
                some = len(done(folder / "out"))
                while len(done(folder / "out")) == some and process.poll() is None:
                    time.sleep(0.02)
                time.sleep(moments.uniform(0.0, 8 * each))
            if process.poll() is not None:
                break
            before = done(folder / "out")
            killed = kill_once(process, moments)
            counts[killed] += 1
            kills += 1
            if killed == "command":
                process.wait()
                process = begin(folder, "out", asked.workers)
            now = done(folder / "out")
            redone += sum(now.get(item) != when for item, when in before.items())
        status = process.wait()
        if status:  # an item whose workers were killed again and again is tried again
            status = begin(folder, "out", asked.workers).wait()
        told = faults(folder, asked.items)
        if not kills:
            told.append("nothing was killed")
        if redone:
            told.append(f"{redone} items were done twice")
        if status:
            told.append(f"the last run ended with status {status}")
    print(f"{asked.items} items, {seconds:.0f} s uninterrupted; killed {counts}: ", end="")
    print("; ".join(told) or "each item done once, all files equal, nothing left")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
