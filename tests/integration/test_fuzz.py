"""A little of what `benchmarks/reliability/fuzz.py` does at full size."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reliability" / "fuzz.py"

READERS = {
    "nifti": 8,
    "raster": 3,
    "itk": 6,
    "dicom": 4,
    "seg": 8,
    "checkpoint": 8,
    "yaml": 3,
    "json": 10,
}
"""Readers, and how many damaged copies of each of their whole files."""


@pytest.fixture(scope="module")
def script() -> Any:
    before = list(sys.path)
    yield runpy.run_path(str(SCRIPT))
    sys.path[:] = before


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_read_or_refused_in_seconds_and_nothing_else(
    reader: str, script: dict[str, Any], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that write the whole files
        steps = list(script["fuzz"](reader, tmp_path, 99, READERS[reader]))

    ends = [step for step in steps if isinstance(step, tuple)]
    codes = Counter(code for code, _ in ends)
    assert [code for code in codes if " " in code] == []
    assert codes["read"] < len(ends)
    assert max(seconds for _, seconds in ends) < 60


def test_damage_is_the_same_for_the_same_seed_and_changes_the_file(script: dict[str, Any]) -> None:
    content = bytes(range(256)) * 4

    first, again, other = (list(script["mutations"](content, 40, seed)) for seed in (1, 1, 2))

    assert first == again != other
    assert sum(damaged != content for damaged in first) > 35
    assert len({len(damaged) for damaged in first}) > 5
    assert list(script["mutations"](b"", 9))
