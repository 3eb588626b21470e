from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader

from esp_medsam.errors import OptionError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.training_data import (
    Draw,
    DrawEpochs,
    ModalityBatches,
    SliceDataset,
    prepare_batch,
)
from tests.support.pictures import write_datalist
from tests.support.training import dataset


class TestModalityBatches:
    def test_batches_hold_every_modality_alike_and_reach_the_engine(
        self,
        tmp_path: Path,
        photograph: dict[str, Any],
        volume: dict[str, Any],
        table: ModalityTable,
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph, volume]), table)
        batches = ModalityBatches(data, batch_size=4, samples=10)

        drawn = list(batches)

        assert len(drawn) == len(batches) == 2
        for batch in drawn:
            assert Counter(data.slices[draw.place].modality for draw in batch) == {
                "dermoscopy": 2,
                "ct": 2,
            }
        collated = torch.utils.data.default_collate([data[i] for i in drawn[0]])
        image, annotation, (modality,), options = prepare_batch(collated, "cpu")
        assert image.shape == (4, 3, 64, 64)
        most = max(len(modality.targets) for modality in table.modalities)
        assert annotation.mask.shape == (4, most, 64, 64)
        assert sorted(modality.tolist()) == [0, 0, 6, 6]
        assert annotation.drawn is not None
        assert torch.equal(options["drawn"], annotation.drawn)

    def test_a_modality_may_take_more_turns(
        self,
        tmp_path: Path,
        photograph: dict[str, Any],
        volume: dict[str, Any],
        table: ModalityTable,
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph, volume]), table)

        (batch,) = ModalityBatches(data, batch_size=3, samples=3, turns={"ct": 2})

        assert Counter(data.slices[draw.place].modality for draw in batch) == {
            "dermoscopy": 1,
            "ct": 2,
        }

    def test_turns_of_a_modality_without_slices_are_passed_over(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph]), table)

        (batch,) = ModalityBatches(data, batch_size=2, samples=2, turns={"mri": 2})

        assert [draw.place for draw in batch] == [0, 0]

    def test_refuses_an_epoch_without_a_batch(
        self, tmp_path: Path, photograph: dict[str, Any], table: ModalityTable
    ) -> None:
        data = dataset(write_datalist(tmp_path, training=[photograph]), table)

        with pytest.raises(OptionError, match=r"batch_size .* samples_per_epoch, 3; got 4"):
            ModalityBatches(data, batch_size=4, samples=3)


class TestDraws:
    @pytest.fixture
    def data(
        self,
        tmp_path: Path,
        photograph: dict[str, Any],
        volume: dict[str, Any],
        table: ModalityTable,
    ) -> SliceDataset:
        return dataset(
            write_datalist(tmp_path, training=[photograph, volume]),
            table,
            random=True,
        )

    def test_are_those_of_seed_and_epoch(self, data: SliceDataset) -> None:
        def drawn(seed: int, epoch: int) -> list[list[Draw]]:
            batches = ModalityBatches(data, batch_size=3, samples=12, seed=seed)
            batches.start_at(epoch)
            return list(batches)

        assert drawn(0, 1) == drawn(0, 1)
        assert len({str(drawn(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4

    @pytest.mark.parametrize("first", [1, 3])
    def test_of_an_epoch_that_is_begun_later_are_the_rest_of_it(
        self, data: SliceDataset, first: int
    ) -> None:
        batches = ModalityBatches(data, batch_size=3, samples=12)
        batches.start_at(2)
        whole = list(batches)

        batches.start_at(2, first)

        assert list(batches) == whole[first:]
        assert list(batches) == whole  # from then on it is begun at its beginning

    @pytest.mark.parametrize("workers", [0, 2])
    def test_give_the_same_views_whatever_reads_them(
        self, data: SliceDataset, workers: int
    ) -> None:
        batches = ModalityBatches(data, batch_size=2, samples=6)
        first, *_ = (data[draw] for draw in next(iter(batches)))

        loaded = next(iter(DataLoader(data, batch_sampler=batches, num_workers=workers)))

        assert torch.equal(loaded["image"][0], first["image"])
        assert torch.equal(loaded["label"][0], first["label"])

    def test_follow_an_engine_that_goes_on_in_the_middle(self, data: SliceDataset) -> None:
        def run(*, iteration: int, epoch: int) -> list[list[int]]:
            batches = ModalityBatches(data, batch_size=2, samples=6)
            seen: list[list[int]] = []
            engine = Engine(lambda engine, batch: seen.append(batch["slice"].tolist()))
            DrawEpochs(batches).attach(engine)
            engine.state.max_epochs, engine.state.epoch_length = 3, len(batches)
            engine.state.iteration, engine.state.epoch = iteration, epoch
            engine.run(DataLoader(data, batch_sampler=batches), max_epochs=3)
            return seen

        whole = run(iteration=0, epoch=0)

        assert len(whole) == 9
        assert run(iteration=4, epoch=1) == whole[4:]
        assert run(iteration=6, epoch=2) == whole[6:]

    def test_of_processes_make_up_the_batch_of_one(self, data: SliceDataset) -> None:
        (whole,) = ModalityBatches(data, batch_size=4, samples=4)

        first, second = (
            next(iter(ModalityBatches(data, batch_size=4, samples=4, rank=rank, processes=2)))
            for rank in range(2)
        )

        assert len(first) == len(second) == 2
        assert sorted(first + second) == sorted(whole)

    def test_refuse_a_batch_that_processes_cannot_share(self, data: SliceDataset) -> None:
        with pytest.raises(OptionError, match="batch_size must be a multiple of the 2 processes"):
            ModalityBatches(data, batch_size=3, samples=3, processes=2)
