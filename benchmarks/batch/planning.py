"""Time and memory of planning a large folder, and the time until its first item is known.

    python benchmarks/batch/planning.py [--files 100000] [--folders 1000] [--part 3/8]

Makes empty pictures in a temporary folder and plans them as `esp-medsam segment` does, in a process
of its own, whose memory beyond the imports is told. `--folders 1` puts all files into one folder,
which cannot be planned in parts. Needs Linux.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


PLAN = """
import re, sys, time
from pathlib import Path
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.items import plan_parts

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

root, out, part = sys.argv[1:4]
table = ModalityTable.read(find_bundle() / TABLE)
before = memory("VmRSS")
began = time.perf_counter()
plans = plan_parts(root, out, table=table, modality="fundus", part=part or None)
first = None
count = 0
for _ in plans.steps:
    first = first or time.perf_counter() - began
    count += 1
seconds = time.perf_counter() - began
print(f"{count:,} items: the first after {first:.1f} s, all after {seconds:.1f} s, "
      f"peak memory {memory('VmHWM') - before:.0f} MB above the imports")
"""


def make_files(folder: Path, files: int, folders: int) -> None:
    """Make empty files, as evenly as possible in as many folders."""
    for number in range(folders):
        (folder / f"{number:06}").mkdir(parents=True)
    for number in range(files):
        (folder / f"{number % folders:06}" / f"{number}.png").touch()


def main() -> None:
    """Make the files and plan them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--part", default="", help="Only plan this share, such as 3/8.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "in"
        make_files(root, asked.files, asked.folders)
        arguments = [str(root), str(Path(made) / "out"), asked.part]
        subprocess.run([sys.executable, "-c", PLAN, *arguments], check=True)


if __name__ == "__main__":
    main()
