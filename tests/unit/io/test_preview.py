from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.preview import (
    LONGEST,
    MOST_BYTES,
    Shown,
    chosen_slices,
    preview,
    profiles,
    spread_indices,
    write_preview,
)
from esp_medsam.modality import ModalityTable


Labels = npt.NDArray[np.uint8]


def record(shape: tuple[int, ...], modality: str, affine: np.ndarray | None = None) -> Image:
    return Image(
        path="a",
        name="a",
        modality=modality,
        grid=Grid(shape=shape, affine=affine),
        intensity_range=(0.0, 200.0),
    )


def shown(table: ModalityTable, modality: str) -> list[Shown]:
    return [Shown(target, "1.0 ml") for target in table[modality].targets]


def drawn(
    table: ModalityTable,
    labels: Labels,
    modality: str,
    *,
    affine: np.ndarray | None = None,
    pixels: np.ndarray | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the picture of a mask, over an image that is black unless given."""
    image = record(labels.shape[1:], modality, affine)
    pixels = np.zeros_like(labels) if pixels is None else pixels
    return np.array(preview(pixels, labels, image, shown(table, modality)))


def count(picture: npt.NDArray[np.uint8], color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color, np.uint8)).all(axis=-1).sum())


class TestPreview:
    def test_shows_a_photograph_at_its_size_with_measured_black_and_white(
        self, table: ModalityTable
    ) -> None:
        pixels = np.array([0, 100, 200, 255], np.uint8).repeat(200)
        pixels = np.broadcast_to(pixels, (3, 300, 800)).copy()

        picture = drawn(table, np.zeros((1, 300, 800), np.uint8), "fundus", pixels=pixels)

        assert picture.shape == (300 + 3 * 24, 800, 3)
        assert picture[24 + 150, 100::200, 0].tolist() == [0, 128, 255, 255]

    @pytest.mark.parametrize("label", [1, 2, 3, 4, 5, 6])
    def test_even_the_smallest_target_is_outlined_somewhere(
        self, table: ModalityTable, label: int
    ) -> None:
        labels = np.zeros((1, 60, 60, 40), np.uint8)
        labels[0, 10:40, 10:40, 5:35] = 1
        labels[0, 50:53, 50:53, 38] = label
        target = next(t for t in table["ct"].targets if t.label == label)
        key = 14 * 14  # what the legend shows of the color, whether it was found or not

        picture = drawn(table, labels, "ct", affine=np.diag([2.0, 2.0, 2.0, 1.0]))

        assert count(picture, target.color) > 1.5 * key

    def test_three_planes_go_through_the_largest_target(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 30, 30, 30), np.uint8)
        labels[0, 4:8, 20:24, 10:14] = 1
        pixels = np.zeros_like(labels)

        with_planes = drawn(table, labels, "ct", affine=np.eye(4), pixels=pixels)
        flat = drawn(table, labels[..., 8:15], "ct", affine=np.eye(4))

        assert with_planes.shape[0] > flat.shape[0]

    def test_photograph_of_many_pixels_is_shrunk(self, table: ModalityTable) -> None:
        picture = drawn(table, np.zeros((1, 5000, 2500), np.uint8), "fundus")

        assert max(picture.shape) == LONGEST

    def test_tall_slices_keep_their_aspect_in_mm(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 40, 10, 1), np.uint8)
        labels[0, 10:30, 3:7] = 1
        red = next(t for t in table["ct"].targets if t.label == 1).color

        picture = drawn(table, labels, "ct", affine=np.diag([1.0, 8.0, 5.0, 1.0]))

        rows, columns = np.nonzero((picture[:340] == np.array(red, np.uint8)).all(axis=-1))
        # 20 columns of 1 mm and 4 rows of 8 mm
        assert np.ptp(rows) / np.ptp(columns) == pytest.approx(32 / 20, rel=0.1)

    def test_frames_without_a_position_are_drawn_too(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 20, 30, 5), np.uint8)
        image = Image(
            path="a",
            name="a",
            modality="ultrasound",
            grid=Grid(shape=(20, 30, 5), stack_axis=2),
            intensity_range=(0.0, 255.0),
        )

        picture = preview(labels, labels, image, shown(table, "ultrasound"))

        assert picture.width >= 3 * 320

    def test_left_of_the_patient_is_at_the_right_of_the_picture(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 40, 40, 1), np.uint8)
        labels[0, 2:10, 15:25] = 1  # RAS+: low first indices are the patient's left
        color = next(t for t in table["ct"].targets if t.label == 1).color

        picture = drawn(table, labels, "ct", affine=np.diag([1.0, 1.0, 5.0, 1.0]))

        _, columns = np.nonzero((picture[:340] == np.array(color, np.uint8)).all(axis=-1))
        assert columns.min() > picture.shape[1] / 2


class TestChosenSlices:
    def test_hold_the_fullest_of_each_target_and_the_rest_spread_between(self) -> None:
        labels = np.zeros((4, 4, 50), np.uint8)
        labels[..., 10:40], labels[0, 0, 45] = 1, 2

        chosen = chosen_slices(labels, 2, 9)

        assert len(chosen) == 9
        assert 45 in chosen
        assert max(np.diff(chosen)) < 12

    def test_are_one_for_each_target_where_there_are_more_than_tiles(self) -> None:
        labels = np.zeros((2, 2, 20), np.uint8)
        labels[0, 0, :12] = np.arange(1, 13)

        assert chosen_slices(labels, 2, 9) == list(range(12))

    def test_are_evenly_spread_where_nothing_was_found(self) -> None:
        assert chosen_slices(np.zeros((100, 2, 2), np.uint8), 0, 4) == [12, 37, 62, 87]

    def test_none_is_empty_where_something_was_found(self) -> None:
        labels = np.zeros((2, 30, 2), np.uint8)
        labels[:, 7:9] = 3

        assert chosen_slices(labels, 1, 9) == [7, 8]


class TestProfiles:
    def test_count_each_label_along_each_axis(self) -> None:
        labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)

        found = profiles(labels)

        assert sorted(found) == [1, 2, 3]
        for label, axes in found.items():
            for axis, sizes in enumerate(axes):
                others = tuple(other for other in range(3) if other != axis)
                assert sizes.tolist() == (labels == label).sum(axis=others).tolist()


class TestWritePreview:
    def test_writes_a_small_picture_as_png_that_is_known_as_ours(
        self, table: ModalityTable, tmp_path: Path
    ) -> None:
        pixels, labels = np.zeros((3, 80, 400), np.uint8), np.zeros((1, 80, 400), np.uint8)
        image = record((80, 400), "fundus")

        path = write_preview(tmp_path / "a_seg", pixels, labels, image, shown(table, "fundus"))

        assert path == tmp_path / "a_seg_preview.png"
        with PIL.Image.open(path) as picture:
            assert picture.size == (400, 80 + 3 * 24)
        assert is_ours(path)

    def test_writes_a_picture_that_png_cannot_pack_as_jpeg(
        self, table: ModalityTable, tmp_path: Path
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 200, (3, 900, 900)).astype(np.uint8)
        image = record((900, 900), "fundus")
        labels = np.zeros((1, 900, 900), np.uint8)

        path = write_preview(tmp_path / "a_seg", noise, labels, image, shown(table, "fundus"))

        assert path == tmp_path / "a_seg_preview.jpg"
        with PIL.Image.open(path) as picture:
            assert picture.format == "JPEG"
        assert is_ours(path)
        assert path.stat().st_size < 3 * MOST_BYTES


class TestSpread:
    @pytest.mark.parametrize(
        ("count", "expected"), [(1, [0]), (2, [0, 1]), (9, list(range(9))), (90, [5, 15, 25])]
    )
    def test_stays_inside_and_in_order(self, count: int, expected: list[int]) -> None:
        assert spread_indices(count, 9)[: len(expected)] == expected
        assert max(spread_indices(count, 9)) < count
