"""Fixtures for the whole suite. Unit tests are synthetic, small and seeded."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings
from PIL import Image as PILImage

from esp_medsam.modality import ModalityTable
from tests.support import shipped_dicom
from tests.support.nifti import save_nifti


ROOT = Path(__file__).parents[1]

# Tests run the commands in their own process; those of workers ask for them.
os.environ["ESP_MEDSAM_WORKERS"] = "0"
# What was measured on this machine decides no test.
os.environ["ESP_MEDSAM_RUNTIME"] = "eager"

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a failure is a change's; `--hypothesis-profile=search`
# looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def levels_of_loggers() -> Iterator[None]:
    """Give loggers no level of their own again: commands that train set one for their process."""
    yield
    for name in ("esp_medsam", "ignite.engine.engine"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def table() -> ModalityTable:
    """The shipped table of modalities and targets."""
    return ModalityTable.read(ROOT / "bundle" / "configs" / "targets.yaml")


@pytest.fixture
def shared() -> Path:
    """The folder of real images beside the repository, which is not part of it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the test images in {folder}, which are not in the repository")
    return folder


@pytest.fixture(scope="session")
def shipped() -> Callable[[str], Path]:
    """Return a function that finds a file of pydicom's own test data; nothing is downloaded."""
    return shipped_dicom.shipped


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A path below an empty folder of more folders than Python recurses; where it is made it goes.

    Python before 3.13, and with it pytest, cannot remove so many.
    """
    (tmp_path / "deep").mkdir()
    yield tmp_path / "deep" / Path(*["d"] * (sys.getrecursionlimit() + 500))
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)


@pytest.fixture
def write_volume(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an array as NIfTI and returns the path."""

    def write(
        array: npt.NDArray[np.generic],
        affine: npt.NDArray[np.float64] | None = None,
        name: str = "volume.nii.gz",
    ) -> Path:
        return save_nifti(tmp_path / name, array, affine)

    return write


@pytest.fixture
def bounded() -> Callable[..., Any]:
    """Return a function that calls another, and holds it to 20 s and 300 MB however it ends.

    What it is for takes minutes or gigabytes, and slow machines ten times what fast ones take.
    """

    def call(function: Callable[..., Any], *arguments: Any, megabytes: int = 300) -> Any:
        before, start = _peak_memory(), time.process_time()
        try:
            return function(*arguments)
        finally:
            seconds, taken = time.process_time() - start, _peak_memory(since=before)
            assert seconds < 20
            assert taken < megabytes * 2**20

    return call


def _peak_memory(since: int | None = None) -> int:
    """Return the memory in use and begin anew to keep its peak, or what that is above ``since``."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return 0  # only Linux tells
    if since is None:
        clear.write_text("5")
    field = "VmRSS" if since is None else "VmHWM"
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", status.read_text())
    return int(kilobytes) * 1024 - (since or 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is none; the suite must pass on a CPU."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs CUDA")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures in a folder, three in a tar file as SA-1B has them, with their JSON."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(6):
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        PILImage.fromarray(pixels).save(folder / "deep" / f"sa_{number}.jpg")
    with tarfile.open(folder / "sa_000000.tar", "w") as archive:
        for number in range(3):
            path = folder / "deep" / f"sa_{number}.jpg"
            archive.add(path, path.name)
            path.with_suffix(".json").write_text("{}")
            archive.add(path.with_suffix(".json"), path.with_suffix(".json").name)
            path.unlink()
    return folder
