from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from esp_medsam.grid import Grid
from esp_medsam.image import Image, Segmentation, SliceJump
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.page import GAP, Row, Shown
from esp_medsam.io.preview import (
    LARGE,
    LONGEST,
    MOST_BYTES,
    SHORTEST,
    SMALL,
    preview,
    shown_targets,
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


def key_of(table: ModalityTable, label: int) -> tuple[int, int, int]:
    return next(target.color for target in table["ct"].targets if target.label == label)


class TestPreview:
    def test_shows_a_photograph_at_its_size_with_measured_black_and_white(
        self, table: ModalityTable
    ) -> None:
        pixels = np.array([0, 100, 200, 255], np.uint8).repeat(300)
        pixels = np.broadcast_to(pixels, (3, 300, 1200)).copy()

        picture = drawn(table, np.zeros((1, 300, 1200), np.uint8), "fundus", pixels=pixels)

        assert picture.shape[1] == 1200 + 2 * GAP
        row = picture[-200, GAP + 150 : -GAP : 300, 0]
        assert row.tolist() == [0, 128, 255, 255]

    def test_small_picture_is_enlarged_and_a_large_one_shrunk(self, table: ModalityTable) -> None:
        small, large = (
            drawn(table, np.zeros((1, *shape), np.uint8), "fundus")
            for shape in ((40, 80), (1000, 5000))
        )

        assert small.shape[1] == SHORTEST + 2 * GAP
        assert large.shape[1] == LONGEST + 2 * GAP

    @pytest.mark.parametrize("label", [1, 2, 3, 4, 5, 6])
    def test_even_the_smallest_target_has_a_row_and_is_outlined(
        self, table: ModalityTable, label: int
    ) -> None:
        labels = np.zeros((1, 60, 60, 40), np.uint8)
        labels[0, 10:40, 10:40, 5:35] = 1
        labels[0, 50:53, 50:53, 38] = label
        keys = 2 * 19 * 19  # of the legend and of the row

        picture = drawn(table, labels, "ct", affine=np.diag([2.0, 2.0, 2.0, 1.0]))

        assert count(picture, key_of(table, label)) > keys + 50

    def test_many_targets_have_smaller_slices_and_a_row_each(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 40, 40, 40), np.uint8)
        for label in (1, 2, 3):
            labels[0, 10 * label : 10 * label + 6, 10:20, 10:20] = label

        one = drawn(table, np.where(labels == 1, labels, 0), "ct", affine=np.eye(4))
        three = drawn(table, labels, "ct", affine=np.eye(4))

        assert one.shape[1] == 3 * LARGE + 4 * GAP
        assert 3 * SMALL < three.shape[0] < 3 * LARGE

    @pytest.mark.parametrize("modality", ["ct", "fundus"])
    def test_page_without_a_mask_says_that_nothing_was_found(
        self, table: ModalityTable, modality: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shape, affine = ((20, 20, 20), np.eye(4)) if modality == "ct" else ((20, 20), None)
        told: list[str] = []

        def page(_: str, __: list[Shown], rows: list[Row]) -> PIL.Image.Image:
            told.extend(row.heading for row in rows)
            return PIL.Image.new("RGB", (1, 1))

        monkeypatch.setattr("esp_medsam.io.preview.draw_page", page)

        drawn(table, np.zeros((1, *shape), np.uint8), modality, affine=affine)

        assert told[0].startswith("Nothing found")

    def test_tall_slices_keep_their_aspect_in_mm(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 40, 10, 1), np.uint8)
        labels[0, 10:30, 3:7] = 1

        picture = drawn(table, labels, "ct", affine=np.diag([1.0, 8.0, 5.0, 1.0]))

        color = np.array(key_of(table, 1), np.uint8)
        rows, columns = np.nonzero((picture[120:] == color).all(axis=-1))
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

        assert picture.width == 3 * LARGE + 4 * GAP

    @pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3, 3, 3), (1, 1, 1), (2, 300, 1)])
    def test_images_of_any_shape_are_drawn(
        self, table: ModalityTable, shape: tuple[int, ...]
    ) -> None:
        labels = np.ones((1, *shape), np.uint8)

        assert drawn(table, labels, "ct", affine=np.eye(4) if len(shape) == 3 else None).size

    def test_left_of_the_patient_is_at_the_right_of_the_picture(self, table: ModalityTable) -> None:
        labels = np.zeros((1, 40, 40, 1), np.uint8)
        labels[0, 2:10, 15:25] = 1  # RAS+: low first indices are the patient's left

        picture = drawn(table, labels, "ct", affine=np.diag([1.0, 1.0, 5.0, 1.0]))

        color = np.array(key_of(table, 1), np.uint8)
        _, columns = np.nonzero((picture[120:] == color).all(axis=-1))
        assert columns.min() > picture.shape[1] / 2

    def test_page_is_the_same_each_time_and_does_not_depend_on_names(
        self, table: ModalityTable
    ) -> None:
        labels = np.zeros((1, 30, 30, 30), np.uint8)
        labels[0, 4:8, 20:24, 10:14] = 1
        first, second = (
            preview(
                labels,
                labels,
                replace(record((30, 30, 30), "ct", np.eye(4)), name=name, path=name),
                shown(table, "ct"),
            )
            for name in ("Miller_John", "other")
        )

        assert first.tobytes() == second.tobytes()


class TestShownTargets:
    def test_legend_has_size_confidence_and_jump(self, table: ModalityTable) -> None:
        targets = table["ct"].targets[:2]
        segmentation = Segmentation(
            targets=("liver", "kidney"),
            confidence=(0.876, None),
            voxels=(2000, 0),
            jumps=(SliceJump(share=0.4, index=7), None),
        )

        first, second = shown_targets(targets, segmentation, record((9, 9, 9), "ct", np.eye(4)))

        assert first.text == "liver 2.0 ml, confidence 0.88"
        assert first.jump == (7, 0.4)
        assert not second.is_found


class TestWritePreview:
    def test_writes_a_small_picture_as_png_that_is_known_as_ours(
        self, table: ModalityTable, tmp_path: Path
    ) -> None:
        pixels, labels = np.zeros((3, 80, 400), np.uint8), np.zeros((1, 80, 400), np.uint8)
        image = record((80, 400), "fundus")

        path = write_preview(tmp_path / "a_seg", pixels, labels, image, shown(table, "fundus"))

        assert path == tmp_path / "a_seg_preview.png"
        with PIL.Image.open(path) as picture:
            assert picture.size[0] == SHORTEST + 2 * GAP
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
