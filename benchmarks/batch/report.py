"""Time, memory and size of a report on many results.

    python benchmarks/batch/report.py [--results 10000] [--open]

Writes records and previews of results that were never made, runs `esp-medsam report` over them
twice, since the second run keeps thumbnails, and prints processor time, peak memory and size on
disk. --open also opens the page in Chromium (playwright), and times how long it takes to open, to
sort and to filter. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image


def write_results(folder: Path, count: int) -> None:
    """Write results of noise, in folders of a hundred."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(10):
        noise = PIL.Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8))
        path = folder / f"picture{number}.jpg"
        noise.resize((1024, 768)).save(path)
        pictures.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        stem = folder / f"{number // 100:04}" / f"{number:06}_seg"
        stem.parent.mkdir(exist_ok=True)
        files = {".png": b"mask", "_preview.jpg": pictures[number % 10]}
        for ending, content in files.items():
            stem.with_name(f"{stem.name}{ending}").write_bytes(content)
        stem.with_name(f"{stem.name}.json").write_text(json.dumps(record(number, stem, files)))


def record(number: int, stem: Path, files: dict[str, bytes]) -> dict[str, Any]:
    """Return the record of a result."""
    target = {
        "name": "vessels",
        "label": 1,
        "confidence": 0.5 + number % 50 / 100,
        "expected_dice": None,
        "voxels": number * 7 % 5000,
        "ml": None,
    }
    return {
        "software": "esp-medsam 0.1.0",
        "schema": 2,
        "source": {"path": f"{stem.parent.name}/{number:06}.png", "sha256": f"{number:064x}"},
        "modality": "fundus",
        "targets": [target],
        "formats": ["png"],
        "files": [
            {"name": f"{stem.name}{name}", "bytes": len(held), "modified_ns": 1, "sha256": "0"}
            for name, held in files.items()
        ],
        "weights_sha256": "31" * 32,
        "settings": {},
        "warnings": ["An odd picture."] if number % 97 == 0 else [],
    }


def run(folder: Path) -> str:
    """Run the command, and return what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = str(Path(sys.executable).with_name("esp-medsam"))
    began = time.perf_counter()
    subprocess.run([program, "report", str(folder), "--quiet"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    megabytes = after.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)
    wall = time.perf_counter() - began
    return f"{seconds:.0f} s of a core, {wall:.0f} s, {megabytes:.0f} MB of memory"


def opened(page_file: Path) -> str:
    """Return how long a browser takes to open, sort and filter the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        began = time.perf_counter()
        page.goto(page_file.as_uri())
        page.locator("#row-0").wait_for()
        took = [("opened", time.perf_counter() - began)]
        began = time.perf_counter()
        page.get_by_role("button", name="vessels (px)").click()
        page.locator("th[aria-sort=ascending]").wait_for()
        took.append(("sorted", time.perf_counter() - began))
        began = time.perf_counter()
        page.locator("#search").fill("0042")
        took.append(("filtered", time.perf_counter() - began))
        browser.close()
    return ", ".join(f"{what} in {seconds:.2f} s" for what, seconds in took)


def main() -> None:
    """Write results, and report on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--open", action="store_true", help="Also time the page in Chromium.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "out"
        folder.mkdir()
        write_results(folder, asked.results)
        before = set(folder.rglob("*"))
        for name in ("first", "again"):
            print(f"{name}: {run(folder)}")
        files = [path for path in set(folder.rglob("*")) - before if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        print(f"{len(files):,} files of {size:.0f} MB")
        if asked.open:
            (page,) = [path for path in files if path.suffix == ".html"]
            print(opened(page))


if __name__ == "__main__":
    main()
