"""Damage the files of each reader, and check that it fails only with errors of ours.

    python benchmarks/reliability/fuzz.py [--reader nifti|raster|itk|dicom|seg|checkpoint|yaml|json]
        [--seeds 20] [--mutations 200] [--most_seconds 10] [--most_megabytes 1000]

Prints one line per reader: the number of files, how many were read, the longest time, the most
memory beyond that of the imports, and how many were refused with each code; then each file that
ended in anything but an error of `esp_medsam.errors`, or took too much time or memory. Such files
are kept. Each reader runs in a process of its own, which is restarted if a file ends it. The exit
status is 1 if there was any such file. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).parent))
from mutations import mutations  # a file beside this one, in no package
from seeds import SEEDS, TABLE

from esp_medsam import io
from esp_medsam.dicom import read_segmentation
from esp_medsam.errors import EspMedSamError, one_line
from esp_medsam.io import settle_modality
from esp_medsam.io.record import read_record
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.checkpoints import load_checkpoint
from esp_medsam.workflows.datalist import read_datalist


@dataclass
class Outcome:
    """Result of reading the files of one reader.

    Attributes:
        refused: Number of files that were refused, by code.
        read: Number of files that were read.
        seconds: Longest time for one file.
        megabytes: Most memory beyond that of the imports.
        wrong: Files with any other result, and where each is kept.
    """

    refused: Counter[str] = field(default_factory=Counter)
    read: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0
    wrong: list[str] = field(default_factory=list)


def read(reader: str, path: Path) -> None:
    """Read a file as the commands do for a user."""
    if reader == "seg":
        segmentation = read_segmentation(path)
        for segment in segmentation.segments[:3]:
            segmentation.mask(segment.number)
    elif reader == "checkpoint":
        load_checkpoint(path)
    elif reader == "yaml":
        ModalityTable.read(path)
    elif reader == "json" and path.stem.endswith("_seg"):
        read_record(path.with_suffix(""))
    elif reader == "json":
        read_datalist(path, "training")
    else:
        table = ModalityTable.read(TABLE)
        settle_modality(io.read(path), "xray", table, force=True)


def damaged(reader: str, folder: Path, seeds: int, count: int) -> Iterator[Path]:
    """Write damaged files one after another, each replacing the last, and yield their paths."""
    (folder / "whole").mkdir(exist_ok=True)
    for number, whole in enumerate(SEEDS[reader](folder / "whole")[:seeds]):
        path = folder / "whole" / f"damaged{number}{''.join(whole.suffixes)}"
        path = path.with_name(f"{path.stem}_seg.json") if whole.stem.endswith("_seg") else path
        for content in mutations(whole.read_bytes(), count, number):
            path.write_bytes(content)
            yield path
        path.unlink()


def fuzz(reader: str, folder: Path, seeds: int, count: int, skip: int = 0) -> Iterator[Any]:
    """Read damaged files; for each, yield its path before, then its code and seconds."""
    for number, path in enumerate(damaged(reader, folder, seeds, count)):
        if number < skip:
            continue
        yield str(path)
        start = time.perf_counter()
        try:
            read(reader, path)
            code = "read"
        except EspMedSamError as error:
            code = error.code
        except Exception as error:  # such errors are what the fuzzing looks for
            code = f"undeclared {type(error).__name__}: {error}"
        yield code, time.perf_counter() - start


def work(reader: str, folder: Path, seeds: int, count: int, skip: int) -> None:
    """Fuzz, and print the result of each file, one per line."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # codecs print to stderr
    base = _megabytes()
    for step in fuzz(reader, folder, seeds, count, skip):
        sys.stdout.write(json.dumps([step, _megabytes() - base]) + "\n")
        sys.stdout.flush()


def _megabytes() -> float:
    """Return the peak memory of this process; ``getrusage`` would include its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def watched(
    reader: str, folder: Path, seeds: int, count: int, most_seconds: float, most_megabytes: float
) -> Outcome:
    """Fuzz in a process of its own, restarted if a file ends it or takes too long."""
    outcome, done, path = Outcome(), 0, ""
    while True:
        command = [sys.executable, __file__, "--reader", reader, "--work", str(folder)]
        command += ["--seeds", str(seeds), "--mutations", str(count), "--skip", str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None, "it was asked for"
            for line in _lines(process, 120 + most_seconds):
                step, megabytes = json.loads(line)
                if isinstance(step, str):
                    path = step
                    continue
                done += 1
                code, seconds = step
                wrong = _wrong(code, seconds, megabytes, outcome, most_seconds, most_megabytes)
                if wrong:
                    outcome.wrong.append(f"{wrong}: {_kept(folder, path, done)}")
                elif code == "read":
                    outcome.read += 1
                else:
                    outcome.refused[code] += 1
        if process.returncode == 0:
            return outcome
        done += 1
        outcome.wrong.append(f"ended with {process.returncode}: {_kept(folder, path, done)}")


def _lines(process: subprocess.Popen[str], most_seconds: float) -> Iterator[str]:
    """Yield lines as they arrive; end the process if none does for too long."""
    assert process.stdout is not None, "it was asked for"
    while select.select([process.stdout], [], [], most_seconds)[0]:
        line = process.stdout.readline()
        if not line:
            return
        yield line
    process.kill()


def _wrong(
    code: str,
    seconds: float,
    megabytes: float,
    outcome: Outcome,
    most_seconds: float,
    most_megabytes: float,
) -> str:
    """Return what was wrong about reading a file; empty if nothing."""
    outcome.seconds = max(outcome.seconds, seconds)
    grew = megabytes > max(outcome.megabytes, most_megabytes)
    outcome.megabytes = max(outcome.megabytes, megabytes)
    if " " in code:
        return one_line(code)
    if seconds > most_seconds:
        return f"took {seconds:.0f} s"
    return f"took {megabytes:.0f} MB" if grew else ""


def _kept(folder: Path, path: str, number: int) -> Path:
    """Keep a file that was not handled as it should be, and return its path."""
    kept = folder / f"{number}_{Path(path).name}"
    if Path(path).exists():
        kept.write_bytes(Path(path).read_bytes())
    return kept


def main() -> int:
    """Fuzz the requested readers; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", choices=SEEDS, nargs="*", default=list(SEEDS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--mutations", type=int, default=200)
    parser.add_argument("--most_seconds", type=float, default=10)
    parser.add_argument("--most_megabytes", type=float, default=1000)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.reader[0], options.work, options.seeds, options.mutations, options.skip)
        return 0
    failed = False
    print(f"{'reader':<11}{'files':>6}{'read':>6}{'slowest':>10}{'memory':>9}  refused")
    for reader in options.reader:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{reader}_"))
        outcome = watched(
            reader, folder, options.seeds, options.mutations,
            options.most_seconds, options.most_megabytes,
        )  # fmt: skip
        files = outcome.read + outcome.refused.total() + len(outcome.wrong)
        codes = ", ".join(f"{code} {count}" for code, count in outcome.refused.most_common())
        print(
            f"{reader:<11}{files:>6}{outcome.read:>6}{outcome.seconds:>8.2f} s"
            f"{outcome.megabytes:>6.0f} MB  {codes}",
            flush=True,
        )
        for wrong in outcome.wrong:
            print(f"    {wrong}")
        failed |= bool(outcome.wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
