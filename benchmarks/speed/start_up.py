"""Processor time of the first mask of a picture from a cold process, beyond torch and MONAI.

    python benchmarks/speed/start_up.py [--rounds 5]

Each round starts a process that segments the photograph of a retina that scikit-image ships, one
that imports torch, and one that imports MONAI as well, and takes the difference.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage


PICTURE = Path(skimage.__path__[0], "data", "retina.jpg")


def seconds(*command: str) -> float:
    """Return the processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            run = "from esp_medsam.cli.main import main; raise SystemExit(main())"
            asked = ("segment", str(PICTURE), out, "--modality", "fundus", "--device", "cpu")
            rows.append(
                (
                    seconds(sys.executable, "-c", "import torch"),
                    seconds(sys.executable, "-c", "import torch, monai.bundle"),
                    seconds(sys.executable, "-c", run, *asked),
                )
            )
    torch, monai, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    beyond = statistics.median(row[2] - row[1] for row in rows)
    print(
        f"{whole:.1f} s of processor time: torch {torch:.1f}, MONAI {monai - torch:.1f}, and "
        f"{beyond:.1f} for the rest"
    )


if __name__ == "__main__":
    main()
