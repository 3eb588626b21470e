from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.image import Image
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.preview import fullest_slices, overlay, preview, spread, write_preview
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.orientation import display_of


def record(shape: tuple[int, ...], modality: str, affine: np.ndarray | None = None) -> Image:
    return Image(
        path="a",
        name="a",
        modality=modality,
        spatial_shape=shape,
        affine=affine,
        intensity_range=(0.0, 200.0),
    )


class TestPreview:
    def test_shows_a_photograph_at_its_size_with_measured_black_and_white(
        self, table: ModalityTable
    ) -> None:
        pixels = np.array([[[0, 100, 200, 255]]], np.uint8).repeat(3, axis=0)
        labels = np.zeros((1, 1, 4), np.uint8)
        image = record((1, 4), "fundus")

        picture = preview(pixels, labels, image, table["fundus"].targets, display_of((1, 4), None))

        assert picture.shape == (1, 4, 3)
        assert picture[0, :, 0].tolist() == [0, 128, 255, 255]

    def test_lays_the_fullest_slices_of_a_volume_out_in_a_sheet(self, table: ModalityTable) -> None:
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        labels = np.zeros((1, 20, 10, 30), np.uint8)
        labels[..., 5:9] = 1
        image = record((20, 10, 30), "ct", affine)

        picture = preview(
            labels, labels, image, table["ct"].targets, display_of((20, 10, 30), affine)
        )

        assert picture.shape == (2 * 160, 2 * 320, 3)  # four slices of 10 rows and 20 columns

    def test_keeps_the_aspect_in_mm(self, table: ModalityTable) -> None:
        affine = np.diag([2.0, 1.0, 5.0, 1.0])
        labels = np.zeros((1, 10, 10, 1), np.uint8)
        image = record((10, 10, 1), "mri", affine)

        picture = preview(
            labels, labels, image, table["mri"].targets, display_of((10, 10, 1), affine)
        )

        assert picture.shape == (160, 320, 3)

    def test_photograph_of_many_pixels_is_shrunk(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 5000, 2500), np.uint8)
        image = record((5000, 2500), "fundus")

        picture = preview(
            labels, labels, image, table["fundus"].targets, display_of((5000, 2500), None)
        )

        assert picture.shape == (1600, 800, 3)


class TestOverlay:
    def test_outline_is_the_color_of_the_table_and_the_rest_is_left(
        self, table: ModalityTable
    ) -> None:
        (target,) = table["fundus"].targets
        labels = np.zeros((7, 7), np.uint8)
        labels[1:6, 1:6] = target.label
        gray = np.full((7, 7, 3), 100, np.uint8)

        drawn = overlay(gray, labels, [target])

        assert tuple(drawn[1, 1]) == target.color
        assert tuple(drawn[0, 0]) == (100, 100, 100)
        assert tuple(drawn[3, 3]) not in {target.color, (100, 100, 100)}


class TestFullestSlices:
    def test_are_those_with_most_foreground_in_order(self) -> None:
        labels = np.zeros((4, 4, 5), np.uint8)
        labels[:1, :, 4], labels[:, :, 1], labels[:2, :, 2] = 1, 2, 1

        assert fullest_slices(labels, 2, 2) == [1, 2]
        assert fullest_slices(labels, 2) == [1, 2, 4]

    def test_are_evenly_spread_where_nothing_was_found(self) -> None:
        assert fullest_slices(np.zeros((100, 2, 2), np.uint8), 0, 4) == [12, 37, 62, 87]
        assert fullest_slices(np.zeros((2, 2, 2), np.uint8), 0) == [0, 1]


class TestWritePreview:
    def test_writes_a_picture_that_is_known_as_ours(
        self, table: ModalityTable, tmp_path: Path
    ) -> None:
        pixels, labels = np.zeros((3, 8, 9), np.uint8), np.zeros((1, 8, 9), np.uint8)
        image = record((8, 9), "fundus")

        write_preview(tmp_path / "a.png", pixels, labels, image, table["fundus"].targets)

        with PIL.Image.open(tmp_path / "a.png") as picture:
            assert picture.size == (9, 8)
        assert is_ours(tmp_path / "a.png")


class TestSpread:
    @pytest.mark.parametrize(
        ("count", "expected"), [(1, [0]), (2, [0, 1]), (9, list(range(9))), (90, [5, 15, 25])]
    )
    def test_stays_inside_and_in_order(self, count: int, expected: list[int]) -> None:
        assert spread(count, 9)[: len(expected)] == expected
        assert max(spread(count, 9)) < count
