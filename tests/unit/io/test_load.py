from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch

from esp_medsam.errors import ModalityError, OptionError
from esp_medsam.image import IMAGE_KEY, SEGMENTATION_KEY, Segmentation, image_of
from esp_medsam.io import LoadMedicalImaged, collate
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable


WriteVolume = Callable[..., Path]
VOLUME = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[0, 0, 2.0, 1], [-3, 0, 0, 2], [0, 4, 0, 3], [0, 0, 0, 1]])


@pytest.fixture
def load(table: ModalityTable) -> LoadMedicalImaged:
    return LoadMedicalImaged("image", table=table, modality="mri")


class TestLoadMedicalImaged:
    def test_gives_pixels_and_monai_meta(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        path = write_volume(VOLUME, AFFINE)

        image = load({"image": str(path), "other": 1})["image"]

        assert image.dtype == torch.int16
        np.testing.assert_array_equal(image.numpy()[0], VOLUME)
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_array_equal(image.meta["original_affine"], AFFINE)
        assert tuple(image.meta["spatial_shape"]) == (2, 3, 4)
        assert image.meta["filename_or_obj"] == str(path)
        assert image.meta["space"] == "RAS"
        assert image.meta["original_channel_dim"] == 0

    def test_keeps_the_record_without_its_pixels(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        record = image_of(load({"image": write_volume(VOLUME, AFFINE)})["image"].meta)

        assert record.pixels is None
        assert (record.name, record.relative_dir, record.modality) == ("volume", "", "mri")
        np.testing.assert_array_equal(record.grid.affine, AFFINE)

    def test_takes_name_and_folder_from_the_item(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        item = Item(path=str(write_volume(VOLUME)), name="n", relative_dir="a/b")
        record = image_of(load({"image": item})["image"].meta)

        assert (record.name, record.relative_dir) == ("n", "a/b")

    def test_gives_a_photograph_monai_s_identity(
        self, load: LoadMedicalImaged, tmp_path: Path
    ) -> None:
        PIL.Image.fromarray(np.full((3, 4), 60000, np.uint16)).save(tmp_path / "a.png")

        image = load({"image": tmp_path / "a.png"})["image"]

        assert image.dtype == torch.int32  # torch can store uint16, but not flip it
        assert (image == 60000).all()
        np.testing.assert_array_equal(image.affine, np.eye(4))
        assert image_of(image.meta).grid.affine is None

    def test_leaves_the_item_untouched(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        item = {"image": write_volume(VOLUME)}
        load(item)

        assert isinstance(item["image"], Path)

    def test_a_list_of_modalities_means_not_given(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        load = LoadMedicalImaged("image", table=table, modality=list(table.names))

        with pytest.raises(ModalityError, match=r"must be given for.*dermoscopy"):
            load({"image": write_volume(VOLUME)})

    def test_refuses_unknown_words_at_once(self, table: ModalityTable) -> None:
        with pytest.raises(ModalityError, match="got 'pet'"):
            LoadMedicalImaged("image", table=table, modality="pet")
        with pytest.raises(OptionError, match="got 'x'"):
            LoadMedicalImaged("image", table=table, modality="ct", ct_input="x")

    def test_pickles_for_worker_processes(self, load: LoadMedicalImaged) -> None:
        assert pickle.loads(pickle.dumps(load)).read.modality == "mri"


@dataclasses.dataclass
class Extra:
    value: int


class TestCollate:
    @pytest.mark.parametrize("size", [1, 3])
    def test_keeps_records_in_a_list_that_decollate_hands_out(
        self, load: LoadMedicalImaged, write_volume: WriteVolume, size: int
    ) -> None:
        items = [
            load(
                {
                    "image": Item(path=str(write_volume(VOLUME + i)), name=f"n{i}"),
                    "name": f"n{i}",
                    "extra": Extra(i),
                    "k": None,
                }
            )
            for i in range(size)
        ]

        batch = collate(items)
        back = decollate_batch({k: v for k, v in batch.items() if k != "extra"})

        assert batch["image"].shape == (size, 1, 2, 3, 4)
        assert [record.name for record in batch["image"].meta[IMAGE_KEY]] == batch["name"]
        assert [extra.value for extra in batch["extra"]] == [*range(size)]
        for i, item in enumerate(back):
            assert image_of(item["image"].meta).name == f"n{i}"
            np.testing.assert_array_equal(item["image"][0], VOLUME + i)

    def test_leaves_the_items_as_they_were(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        item = load({"image": write_volume(VOLUME)})
        collate([item])

        assert image_of(item["image"].meta).name == "volume"

    def test_keeps_the_segmentation_too(self) -> None:
        segmentation = Segmentation(targets=("a",), confidence=(None,))
        tensor = MetaTensor(torch.zeros(1, 2, 2), meta={SEGMENTATION_KEY: segmentation})

        assert collate([{"pred": tensor}])["pred"].meta[SEGMENTATION_KEY] == [segmentation]

    def test_works_in_monai_s_data_loader(
        self, load: LoadMedicalImaged, write_volume: WriteVolume
    ) -> None:
        dataset = Dataset([{"image": str(write_volume(VOLUME))}], load)

        (batch,) = DataLoader(dataset, batch_size=1, collate_fn=collate)

        assert image_of(batch["image"].meta).name == "volume"
