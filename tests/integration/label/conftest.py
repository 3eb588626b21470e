"""A server for all tests here, its studies, and what the command finds in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import esp_medsam
from tests.support.label_server import LabelServer, skip_without_environment
from tests.support.label_studies import CANARY, copy_bundle, make_studies, options


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with studies, and with a bundle for small images."""
    skip_without_environment()
    home = tmp_path_factory.mktemp("label")
    make_studies(home / "studies")
    copy_bundle(home / "bundle", "inference.yaml")
    return home


@pytest.fixture(scope="package")
def server(home: Path) -> Iterator[LabelServer]:
    """A server of these studies."""
    server = LabelServer(home / "app", str(home / "studies"), *options(home))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="package")
def expected(home: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """What the command finds in the same images."""
    with esp_medsam.Segmenter(bundle=home / "bundle", trust_config=True, device="cpu") as segmenter:
        studies = home / "studies"
        found = {
            name: segmenter.segment(studies / f"{name}.nii.gz", modality="mri", targets="all")
            for name in ("RAS", "LPS", "PIR")
        }
        found["eye"] = segmenter.segment(studies / f"{CANARY}_eye.jpg", modality="fundus")
        assert [len(np.unique(found[name].labelmap)) for name in ("RAS", "LPS", "PIR")] == [4] * 3
        return {name: result.labelmap for name, result in found.items()}
