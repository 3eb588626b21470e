"""Hashes of the commands' outputs for fixed inputs: equal before and after a refactoring.

    python benchmarks/outputs.py [FOLDER ...] > before.txt

Without folders, the inputs are files that pydicom and scikit-image ship. Each folder is inspected,
then segmented with MRI as the forced modality at 64 x 64 with every kind of output, once in the
format of its inputs and once as NIfTI. Its DICOM Segmentations, old and new, are converted to
NIfTI. One line per file gives its SHA-256; times, which differ on every run, are left out of
records. Further lines say what was refused, and why. Compare two runs with ``diff``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pydicom.data
import skimage


COMMAND = Path(sys.executable).with_name("esp-medsam")

OPTIONS = (
    *("--modality", "mri", "--force_modality", "--targets", "all", "--input_size", "64"),
    *("--device", "cpu", "--preview", "--split_targets", "--probabilities", "--write_empty"),
)

TIMES = re.compile(rb'"(modified_ns|bytes)": \d+')
"""Fields of records with modification times, and sizes, which compressed times change."""


def shipped() -> list[Path]:
    """Return folders of inputs that dependencies ship."""
    mr = Path(str(pydicom.data.get_testdata_file("MR_small.dcm"))).parent
    return [mr, Path(skimage.__path__[0]) / "data"]


def told(*arguments: object, aside: Path) -> Iterator[str]:
    """Run the command; yield its exit status and each line of its output, without times."""
    ran = subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    yield f"{arguments[0]}: status {ran.returncode}"
    for line in sorted({*ran.stdout.splitlines(), *ran.stderr.splitlines()}):
        said = re.sub(r"\d+(\.\d+)? s\b", "", line.replace(str(aside), "OUT"))
        if said.strip(" \u2500-"):
            yield f"  {said}"


def hashes(folder: Path) -> Iterator[str]:
    """Yield hash and path of every file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".json":
                content = TIMES.sub(b"", content)
            yield f"{sha256(content).hexdigest()[:32]} {path.relative_to(folder).as_posix()}"


def outputs(folder: Path, aside: Path) -> Iterator[str]:
    """Yield the output lines and hashes of one folder."""
    yield from told(
        "inspect", folder, "--modality", "mri", "--force_modality", "--json", aside=aside
    )
    for kind in ("auto", "nifti"):
        fixed = ("--output_format", kind, "--fixed_uids")
        yield from told("segment", folder, aside / kind, *OPTIONS, *fixed, aside=aside)
    like = ("--like", folder)
    yield from told("seg2nifti", aside / "auto", aside / "like", *like, aside=aside)
    yield from told("seg2nifti", aside / "auto", aside / "back", aside=aside)
    yield from told("seg2nifti", folder, aside / "own", "--split_segments", aside=aside)
    yield from hashes(aside)


def main() -> None:
    """Print the lines of all folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    for folder in parser.parse_args().folders or shipped():
        print(f"# {folder}")
        with tempfile.TemporaryDirectory() as aside:
            for line in outputs(folder, Path(aside)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
