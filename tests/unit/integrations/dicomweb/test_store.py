from __future__ import annotations

import os
from pathlib import Path

import pytest

from esp_medsam.errors import CorruptFileError
from esp_medsam.integrations.dicomweb.store import read_object


class TestReadObject:
    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "1.2.dcm")

        with pytest.raises(CorruptFileError, match=r"1\.2\.dcm must be a whole DICOM file"):
            read_object(tmp_path / "1.2.dcm")
