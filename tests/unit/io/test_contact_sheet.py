from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.errors import OutputError
from esp_medsam.io.contact_sheet import BAR, GAP, Tile, draw_sheet, write_sheet


def tile(value: int, name: str = "a", rows: int = 40, columns: int = 60) -> Tile:
    return Tile(name, "slice 3", np.full((rows, columns, 3), value, np.uint8))


class TestDrawSheet:
    @pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3)])
    def test_lays_tiles_out_as_square_as_can_be(self, count: int, rows: int, columns: int) -> None:
        sheet = draw_sheet([tile(10 * number) for number in range(count)])

        assert sheet.size == (GAP + columns * (60 + GAP), GAP + rows * (40 + BAR + GAP))

    def test_tiles_are_whole_and_in_order(self) -> None:
        drawn = np.array(draw_sheet([tile(50), tile(100), tile(150)]))

        for number, value in enumerate((50, 100, 150)):
            row, column = divmod(number, 2)
            top, left = GAP + row * (40 + BAR + GAP) + BAR, GAP + column * (60 + GAP)
            assert (drawn[top : top + 40, left : left + 60] == value).all()

    def test_line_says_which_tile_it_is(self) -> None:
        one, other = (
            np.array(draw_sheet([tile(0, name=name, columns=200)]))[GAP : GAP + BAR]
            for name in ("first", "second")
        )

        assert one.max() > 200
        assert (one != other).any()

    @pytest.mark.parametrize("name", ["n" * 500, "", "a\nb\x1b[31m", "图像"])
    def test_line_stays_within_its_tile(self, name: str) -> None:
        sheet = np.array(draw_sheet([tile(0, name=name), tile(0, name="")]))

        gap = sheet[GAP : GAP + BAR, GAP + 60 : GAP + 60 + GAP]
        assert (gap == sheet[0, 0]).all()


class TestWriteSheet:
    def test_writes_a_png_and_its_folder(self, tmp_path: Path) -> None:
        write_sheet(tmp_path / "new/a.png", [tile(7)])

        with PIL.Image.open(tmp_path / "new/a.png") as picture:
            assert picture.format == "PNG"

    def test_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()

        with pytest.raises(OutputError):
            write_sheet(tmp_path / "a.png", [tile(7)])

        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
