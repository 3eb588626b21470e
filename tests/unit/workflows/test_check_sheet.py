"""Where a sheet of previews may be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esp_medsam.errors import (
    OptionError,
    OutputExistsError,
)
from esp_medsam.io.picture_file import write_gray_png
from esp_medsam.workflows.inspect import (
    check_sheet,
)
from tests.support.pictures import noise, save_picture


class TestCheckSheet:
    def test_takes_a_new_png(self, tmp_path: Path) -> None:
        check_sheet(tmp_path / "new/a.PNG", tmp_path / "in", overwrite=False)

    def test_refuses_another_format(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="must end in"):
            check_sheet(tmp_path / "a.jpg", tmp_path / "in", overwrite=False)

    def test_keeps_what_is_there_unless_told_otherwise(self, tmp_path: Path) -> None:
        write_gray_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))

        check_sheet(tmp_path / "a.png", tmp_path / "in", overwrite=True)
        with pytest.raises(OutputExistsError, match="`overwrite`"):
            check_sheet(tmp_path / "a.png", tmp_path / "in", overwrite=False)

    def test_c4_replaces_no_picture_but_a_preview_whatever_the_plan_holds(
        self, tmp_path: Path
    ) -> None:
        save_picture(tmp_path / "a.png", noise(20, 30, 3))

        with pytest.raises(OutputExistsError, match="not replace a file"):
            check_sheet(tmp_path / "a.png", tmp_path / "in", overwrite=True)

    def test_never_replaces_an_input(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        (tmp_path / "x").mkdir()

        for inspected in (tmp_path / "x/../a.png", tmp_path / "x/.."):
            with pytest.raises(OptionError, match="not be an input"):
                check_sheet(tmp_path / "a.png", inspected, overwrite=True)

    def test_replaces_an_earlier_sheet_beside_the_images(self, tmp_path: Path) -> None:
        write_gray_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))

        check_sheet(tmp_path / "a.png", tmp_path, overwrite=True)
        with pytest.raises(OptionError, match="not be an input"):
            check_sheet(tmp_path / "a.png", tmp_path / "a.png", overwrite=True)
