"""Wall time of a run over a folder of volumes, against the network alone on preloaded images.

    python benchmarks/batch/overlap.py FOLDER --modality ct [--include PATTERN] [--input_size 448]

First reads and prepares every image of the folder in this process and times the network alone, then
times `esp-medsam segment` over the same folder, from its start to its end, and what of that is not
segmentation. Prints both, and the ratio. Each image is loaded whole, so choose a folder that fits
into the memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from esp_medsam.workflows.pipeline import build_run


def network_alone(settings: dict[str, object]) -> float:
    """Return the seconds that the network needs for all images of a folder, read before."""
    run = build_run(**settings)
    prepared = [run.preprocessing({"image": item}) for item in run.plans.items]
    run.inferer(prepared[0]["image"][None], run.network)  # the first pass allocates
    began = time.perf_counter()
    for data in prepared:
        run.inferer(data["image"][None], run.network)
    seconds = time.perf_counter() - began
    print(f"{len(prepared)} images, network alone: {seconds:.1f} s")
    return seconds


def whole_run(settings: dict[str, object], workers: int) -> float:
    """Return the seconds that the command takes over the same folder."""
    program = str(Path(sys.executable).with_name("esp-medsam"))
    given = {name: value for name, value in settings.items() if not name.endswith("_dir")}
    command = [program, "segment", str(settings["dataset_dir"]), str(settings["output_dir"])]
    for name, value in given.items():
        shown = value[0] if isinstance(value, list) else value
        command += [f"--{name}", str(shown)]
    command += ["--workers", str(workers), "--quiet"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--modality", required=True)
    parser.add_argument("--include")
    parser.add_argument("--input_size", type=int, default=448)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        settings: dict[str, object] = {
            "dataset_dir": str(asked.folder),
            "output_dir": made,
            "modality": asked.modality,
            "input_size": [asked.input_size] * 2,
            "device": "cpu",
        }
        if asked.include:
            settings["include"] = asked.include
        alone = network_alone(settings)
        whole = whole_run(settings, asked.workers)
    print(f"the whole run: {whole:.1f} s, {whole / alone:.2f} of the network alone")
    print(f"cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()
