"""Weights drawn at random, the blocks of pages, and a real PACS."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import skimage

from esp_medsam.modality import ModalityTable
from tests.support import pages
from tests.support.networks import save_random_weights
from tests.support.orthanc import Orthanc, skip_without_orthanc


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, table: ModalityTable) -> Path:
    """Weights of the product's network, drawn at random: what they find does not matter here."""
    return save_random_weights(tmp_path_factory.mktemp("weights") / "model.pt", table)


@pytest.fixture(scope="session")
def blocks_of() -> Callable[[str], list[pages.Block]]:
    """Return a function that reads the blocks of a page."""
    return pages.blocks_of


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the blocks of a page in a new folder, as they stand, in order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return pages.run_page


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with a fundus photograph of odd size, and a smaller one below."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    with PIL.Image.open(Path(skimage.__path__[0], "data", "retina.jpg")) as picture:
        picture.resize((301, 225)).save(folder / "a.png")
        picture.resize((90, 140)).save(folder / "more/b.jpg")
    return folder


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """Return a function that starts a server; all are stopped at the end."""
    skip_without_orthanc()
    servers: list[Orthanc] = []

    def start(**options: Any) -> Orthanc:
        server = Orthanc(tmp_path / f"orthanc{len(servers)}", **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
