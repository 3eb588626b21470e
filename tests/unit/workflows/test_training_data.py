from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from esp_medsam.errors import OptionError, TargetError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.training_data import Draw, clicked_patches
from esp_medsam.workflows.training_slices import slices_of
from tests.support.nifti import save_nifti
from tests.support.pictures import save_picture, write_datalist
from tests.support.training import dataset


class TestSlicesOf:
    def test_a_volume_is_shown_as_a_radiologist_sees_it(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        (item,) = read_datalist(write_datalist(tmp_path, training=[volume]), "training")

        slices = slices_of(item, table, (32, 32))

        assert len(slices) == 3
        rows, columns = torch.nonzero(slices[0].label[0], as_tuple=True)
        assert columns.float().mean() < 16  # patient right is the picture's left
        assert rows.float().mean() > 16  # the second axis runs to anterior, which is up
        liver = slices[0].image[0, rows[0], columns[0]]
        assert liver / 255 == pytest.approx(slices[0].window[1], abs=0.002)  # 240 HU: white
        assert slices[0].image.float().median() == 0

    def test_hounsfield_units_beyond_the_window_are_kept_and_not_shown(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        hounsfield = np.repeat(np.linspace(-400, 500, 32), 96).reshape(32, 32, 3).astype(np.int16)
        affine = np.diag([1.0, 1.0, 5.0, 1.0])
        save_nifti(tmp_path / "v.nii.gz", hounsfield, affine)
        volume = {**volume, "labels": {}, "absent": ["liver"]}
        path = write_datalist(tmp_path, training=[volume])
        (item,) = read_datalist(path, "training")

        kept = slices_of(item, table, (64, 64))[0].image.float() / 255
        shown = dataset(path, table)[0]["image"] * 0.25 + 0.5

        low, high = (-160 - 0.35 * 400, 240 + 0.35 * 400)
        columns = torch.from_numpy(hounsfield[::-1, 0, 0].astype(np.float32))  # right is left
        expected = ((columns - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(kept[0, 32, 1::2], expected, atol=0.02, rtol=0)
        expected = ((columns + 160) / 400).clamp(0, 1)
        torch.testing.assert_close(shown[0, 32, 1::2], expected, atol=0.03, rtol=0)

    def test_ct_that_came_windowed_keeps_what_it_has(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        windowed = {**photograph, "modality": "ct", "ct_input": "windowed", "labels": {}}
        path = write_datalist(tmp_path, training=[{**windowed, "absent": ["liver"]}])
        (item,) = read_datalist(path, "training")

        assert slices_of(item, table, (40, 40))[0].window == (0.0, 1.0)

    def test_says_what_is_known_and_what_is_not(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        (item,) = read_datalist(write_datalist(tmp_path, training=[volume]), "training")

        piece = slices_of(item, table, (32, 32))[0]

        names = [target.name for target in table["ct"].targets]
        known = {
            name for name, is_known in zip(names, piece.known.tolist(), strict=True) if is_known
        }
        assert known == {"liver", "intracranial_hemorrhage"}
        assert piece.label[names.index("intracranial_hemorrhage")].sum() == 0

    def test_several_masks_of_a_target_are_united(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        other = np.zeros((40, 20), np.uint8)
        other[30:, :] = 255
        PILImage.fromarray(other).save(tmp_path / "b_mask.png")
        photograph["labels"]["lesion"] = ["a_mask.png", "b_mask.png"]
        (item,) = read_datalist(write_datalist(tmp_path, training=[photograph]), "training")

        piece = slices_of(item, table, (40, 40))[0]

        assert piece.label.sum() == 50 + 200

    def test_says_at_which_pixels_nothing_is_known(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        unknown = np.zeros((40, 20), np.uint8)
        unknown[35:, :] = 255
        PILImage.fromarray(unknown).save(tmp_path / "u.png")
        path = write_datalist(tmp_path, training=[{**photograph, "unknown": "u.png"}])
        (item,) = read_datalist(path, "training")

        piece = slices_of(item, table, (40, 40))[0]

        np.testing.assert_array_equal(piece.unlabeled[0].numpy(), unknown // 255)
        view = dataset(path, table)[0]  # 64 x 32 in a margin, which is labeled
        assert view["labeled"].dtype == torch.bool
        assert (~view["labeled"]).sum() == (8 + 1) * 32  # and the row that is partly of both
        assert view["labeled"][:, :, 0].all()

    @pytest.mark.parametrize(
        ("mask", "found"),
        [
            (np.zeros((41, 20), np.uint8), r"image's grid, \(40, 20\)"),
            # Not taken for empty.
            (np.ones((40, 20), np.uint8), r"a_mask\.png reaches only 1 of 255"),
        ],
    )
    def test_refuses_a_mask_off_the_grid_or_of_ones(
        self,
        tmp_path: Path,
        photograph: dict[str, Any],
        table: ModalityTable,
        mask: np.ndarray,
        found: str,
    ) -> None:
        save_picture(tmp_path / "a_mask.png", mask)
        (item,) = read_datalist(write_datalist(tmp_path, training=[photograph]), "training")

        with pytest.raises(OptionError, match=found):
            slices_of(item, table, (32, 32))

    def test_refuses_a_mask_that_lies_elsewhere(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        label = nib.load(tmp_path / "v_label.nii.gz")
        affine = label.affine.copy()
        affine[2, 3] += 7
        save_nifti(tmp_path / "v_label.nii.gz", np.asarray(label.dataobj), affine)
        (item,) = read_datalist(write_datalist(tmp_path, training=[volume]), "training")

        with pytest.raises(OptionError, match=r"lie where their image does;.*7 mm off"):
            slices_of(item, table, (32, 32))

    def test_refuses_a_target_that_the_table_does_not_have(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        photograph["absent"] = ["moon"]
        (item,) = read_datalist(write_datalist(tmp_path, training=[photograph]), "training")

        with pytest.raises(TargetError, match="moon"):
            slices_of(item, table, (32, 32))


class TestSliceDataset:
    def test_pads_with_zeros_after_normalizing(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        view = dataset(write_datalist(tmp_path, training=[photograph]), table)[0]

        assert view["image"].shape == (3, 64, 64)
        assert view["image"].min() == -2.0
        assert view["image"].max() == 2.0
        assert view["image"][:, :, 0].abs().max() == 0
        assert view["label"].sum() > 0
        most = max(len(modality.targets) for modality in table.modalities)
        assert view["known"].tolist() == [True] + [False] * (most - 1)

    def test_image_and_label_are_augmented_together(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph]), table, random=True)

        for _ in range(10):
            view = data[0]
            red = view["image"][0] > 0.5 * view["image"][0].max()
            label = view["label"][0] > 0
            # Coarser views blur the edge of so small a lesion, but move its center little.
            centers = [torch.nonzero(mask).float().mean(0) for mask in (red, label)]
            assert (centers[0] - centers[1]).norm() < 2.0

    def test_a_view_is_that_of_its_seed_alone(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph]), table, random=True)

        first = data[Draw(0, 5)]["image"]
        data[Draw(0, 6)]
        torch.manual_seed(1)
        again, other = data[Draw(0, 5)]["image"], data[Draw(0, 6)]["image"]

        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize(
        ("random", "share", "hemorrhages"), [(True, 0.0, 0), (True, 1.0, 40), (False, 0.0, 40)]
    )
    def test_absent_targets_are_drawn_as_often_as_asked(
        self,
        tmp_path: Path,
        volume: dict[str, Any],
        table: ModalityTable,
        random: bool,
        share: float,
        hemorrhages: int,
    ) -> None:
        data = dataset(
            write_datalist(tmp_path, training=[volume]), table, random=random, absent_masks=share
        )
        liver, hemorrhage, kidney = (
            [t.name for t in table["ct"].targets].index(name)
            for name in ("liver", "intracranial_hemorrhage", "kidney")
        )

        views = [data[Draw(0, seed)] for seed in range(40)]

        assert all(view["known"][hemorrhage] for view in views)
        assert {view["drawn"].dtype for view in views} == {torch.bool}
        assert sum(int(view["drawn"][hemorrhage]) for view in views) == hemorrhages
        assert not any(view["drawn"][kidney] for view in views)  # of which nothing is known
        assert all(view["drawn"][liver] for view in views if view["label"][liver].any())

    def test_clicks_are_simulated_in_augmented_views_alone_and_by_the_seed(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        path = write_datalist(tmp_path, training=[volume])
        data = dataset(path, table, random=True, simulated_clicks=0.5)

        views = [data[Draw(0, seed)]["clicked"] for seed in range(40)]

        assert views[0].shape == (data.rows, 2, 2)
        assert torch.equal(views[3], data[Draw(0, 3)]["clicked"])
        told = torch.stack([view.flatten(1).any(1) for view in views]).float().mean()
        assert 0.1 < told < 0.5  # chosen, and of those some without a click
        for silent in (
            dataset(path, table, random=False, simulated_clicks=1.0),
            dataset(path, table, random=True),
        ):
            assert "clicked" not in silent[0]

    def test_a_share_of_the_absent_targets_is_drawn_by_the_seed(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        path = write_datalist(tmp_path, training=[volume])
        data = dataset(path, table, random=True, absent_masks=0.5)
        hemorrhage = [t.name for t in table["ct"].targets].index("intracranial_hemorrhage")

        first, again = (
            [bool(data[Draw(0, seed)]["drawn"][hemorrhage]) for seed in range(40)] for _ in range(2)
        )

        assert first == again
        assert 10 < sum(first) < 30


class TestClickedPatches:
    def test_say_what_the_annotation_does_and_nothing_of_what_is_unknown(self) -> None:
        label = torch.zeros(1, 2, 64, 64)
        label[0, :, 40, 3] = 1  # one pixel of the patch at the bottom left
        known = torch.tensor([[True, False]])
        labeled = torch.ones(1, 1, 64, 64, dtype=torch.bool)
        labeled[0, 0, 0, 63] = False
        clicked = torch.ones(1, 2, 2, 2, dtype=torch.bool)
        clicked[0, 0, 1, 1] = False

        said = clicked_patches(clicked, label, known, labeled)

        assert said[0, 0, 0, 0] == 0
        assert said[0, 0, 1, 0] == 1
        assert said[0, 0, 0, 1].isnan()  # holds a pixel that nobody looked at
        assert said[0, 0, 1, 1].isnan()
        assert said[0, 1].isnan().all()
