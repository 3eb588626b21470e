"""What is imported, and what is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

import esp_medsam
from esp_medsam.errors import ModalityError, OptionError
from tests.support.processes import run_python


LIGHT = """
import sys, esp_medsam
assert "ct" in esp_medsam.modalities().names
heavy = ("torch", "monai", "ignite", "itk", "SimpleITK", "skimage", "nibabel")
print(*[name for name in heavy if name in sys.modules])
"""


class TestImport:
    def test_loads_nothing_heavy(self, tmp_path: Path) -> None:
        ended = run_python(LIGHT, cwd=tmp_path)

        assert (ended.returncode, ended.stdout.split()) == (0, [])

    def test_names_are_those_that_are_documented(self) -> None:
        for name in esp_medsam.__all__:
            assert getattr(esp_medsam, name) is not None
        assert dir(esp_medsam) == sorted(esp_medsam.__all__)
        with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
            esp_medsam.segmnt  # noqa: B018


class TestRead:
    def test_gives_an_image_with_what_its_file_says(
        self, shipped: Callable[[str], Path], scan: Path
    ) -> None:
        image = esp_medsam.read(shipped("CT_small.dcm"))
        assert (image.modality, image.modality_origin, image.unit) == ("ct", "dicom", "HU")
        with pytest.raises(ModalityError, match="modality must be given"):
            esp_medsam.read(scan)
        assert esp_medsam.read(scan, modality="ct").grid.shape == (42, 48, 5)

    def test_takes_the_series_that_is_named(self, shipped: Callable[[str], Path]) -> None:
        folder = shipped("CT_small.dcm").parent
        with pytest.raises(OptionError, match="series"):
            esp_medsam.read(folder)
        uid = str(dcmread(shipped("CT_small.dcm")).SeriesInstanceUID)
        assert esp_medsam.read(folder, series=uid).modality == "ct"
