"""Memory of the process that hands out the items, while its workers segment many of them.

    python benchmarks/batch/parent_memory.py [--items 10000] [--workers 2] [--steps 10]

Segments tiny pictures with `esp-medsam segment --json`, which writes one line when an item is done,
and prints the command's memory after each of so many steps. The shipped network takes pictures of
32 pixels, so that reading, writing and the journal are most of the work. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image


PER_FOLDER = 100


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures of noise into folders of PER_FOLDER each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // PER_FOLDER:05}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(place / f"{number}.png")


def memory(process: int) -> float:
    """Return the memory that a process uses, in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def main() -> None:
    """Run the command, and print its memory as it goes on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    asked = parser.parse_args()
    program = str(Path(sys.executable).with_name("esp-medsam"))
    with tempfile.TemporaryDirectory() as made:
        make_pictures(Path(made, "in"), asked.items)
        command = [program, "segment", "in", "out", "--modality", "fundus", "--device", "cpu"]
        command += ["--input_size", "32", "--workers", str(asked.workers), "--json", "--quiet"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=made, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None, "it is piped"
            print("| items done | memory of the command, MB |\n| --- | --- |")
            for done, _ in enumerate(process.stdout, start=1):
                if done == 1 or done % (asked.items // asked.steps) == 0:
                    print(f"| {done:,} | {memory(process.pid):.0f} |", flush=True)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
