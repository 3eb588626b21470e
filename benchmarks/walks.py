"""How often a reader who follows one image through the code returns to a file.

    python benchmarks/walks.py [--input FOLDER --modality NAME] [--functions]

Runs the bundle on one image, a small NIfTI of its own unless a folder is given, and records the
order in which functions of the package are first entered while the image is loaded and while its
result is saved. A stay is a sequence of functions of one file; a return is a stay in a file that
was left before. Put another checkout into ``PYTHONPATH`` to count that one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
from monai.bundle import run

import esp_medsam
from esp_medsam.io import LoadMedicalImaged, SaveSegmentationd
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.nifti_header import geometry_of


PACKAGE = Path(esp_medsam.__file__).parent

Walk = dict[CodeType, tuple[str, str]]
"""File and name of each function, in the order in which they are first entered."""


def walk_of(call: Callable[..., Any], walk: Walk) -> Callable[..., Any]:
    """Return a function that records in ``walk`` the functions that its first call enters."""

    def noted(*arguments: Any, **options: Any) -> Any:
        if walk:
            return call(*arguments, **options)

        def note(frame: FrameType, event: str, _: object) -> None:
            code = frame.f_code
            path = Path(code.co_filename)
            # A name with "<" is that of a lambda or a comprehension, read along with its function.
            is_ours = path.is_relative_to(PACKAGE) and not code.co_name.startswith("<")
            if event == "call" and code not in walk and is_ours:
                walk[code] = path.relative_to(PACKAGE).as_posix(), code.co_name

        sys.setprofile(note)
        try:
            return call(*arguments, **options)
        finally:
            sys.setprofile(None)

    return noted


def stays_of(walk: Walk) -> list[str]:
    """Return the files that a walk stays in, in order."""
    files = [file for file, _ in walk.values()]
    return [file for place, file in enumerate(files) if place == 0 or files[place - 1] != file]


def segment(folder: Path, modality: str, output: Path) -> dict[str, Walk]:
    """Segment the image in a folder with the bundle; return the walks of loading and saving."""
    loading: Walk = {}
    saving: Walk = {}
    for transform, walk in ((LoadMedicalImaged, loading), (SaveSegmentationd, saving)):
        transform.__call__ = walk_of(transform.__call__, walk)  # type: ignore[method-assign]  # that is how it is followed
    bundle = PACKAGE.parent / "bundle"
    run(
        config_file=str(bundle / "configs/inference.yaml"),
        bundle_root=str(bundle),
        dataset_dir=str(folder),
        output_dir=str(output),
        modality=modality,
        device="cpu",
    )
    return {"loading": loading, "saving": saving}


def main() -> None:
    """Print stays and returns of both walks, and the functions if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--input", type=Path, help="folder of one image, in place of a small CT")
    parser.add_argument("--modality", default="ct")
    parser.add_argument("--functions", action="store_true", help="also list them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = given.input or Path(aside, "in")
        if given.input is None:
            array = np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3)
            geometry = geometry_of(np.diag([1.0, 1.0, 3.0, 1.0]))
            write_nifti(folder / "a.nii.gz", array, geometry=geometry)
        walks = segment(folder, given.modality, Path(aside, "out"))
    for name, walk in walks.items():
        stays = stays_of(walk)
        files = len(set(stays))
        print(f"{name}: {len(stays)} stays in {files} files, {len(stays) - files} returns")
        for file, function in walk.values() if given.functions else ():
            print(f"    {file} {function}")


if __name__ == "__main__":
    main()
