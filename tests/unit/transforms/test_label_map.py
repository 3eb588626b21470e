from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, SEGMENTATION_KEY, Image, Segmentation, segmentation_of
from esp_medsam.modality import CleanUp, Modality, ModalityTable
from esp_medsam.transforms.label_map import LabelMap, LabelMapd


@pytest.fixture(scope="module")
def ct(table: ModalityTable) -> Modality:
    return table["ct"]


class TestLabelMap:
    def test_labels_are_those_of_the_table(self, ct: Modality) -> None:
        probability = torch.tensor([[[200, 0, 127]], [[0, 128, 127]]], dtype=torch.uint8)

        labelmap, changed = LabelMap()(probability, [ct.targets[0], ct.targets[3]])

        assert labelmap.tolist() == [[[1, 4, 0]]]
        assert changed == []

    def test_overlap_goes_to_the_higher_probability_then_to_the_first(self, ct: Modality) -> None:
        probability = torch.tensor([[[130, 200, 150]], [[140, 190, 150]]], dtype=torch.uint8)

        labelmap, _ = LabelMap()(probability, ct.targets[:2])

        assert labelmap.tolist() == [[[2, 1, 1]]]

    def test_cleaned_away_voxels_go_to_the_next_target(self, ct: Modality) -> None:
        probability = torch.tensor([[[250, 0, 250, 250]], [[130, 0, 0, 0]]], dtype=torch.uint8)
        liver = replace(ct.targets[0], clean_up=CleanUp(largest_component=True))

        labelmap, changed = LabelMap()(probability, [liver, ct.targets[1]])

        assert labelmap.tolist() == [[[2, 0, 1, 1]]]
        assert changed == [0]

    def test_filled_hole_is_foreground(self, ct: Modality) -> None:
        probability = torch.full((1, 3, 3), 200, dtype=torch.uint8)
        probability[0, 1, 1] = 3
        liver = replace(ct.targets[0], clean_up=CleanUp(fill_holes=True))

        labelmap, _ = LabelMap()(probability, [liver])

        assert labelmap.unique().tolist() == [1]

    def test_a_target_s_own_threshold_decides_what_belongs_to_it(self, ct: Modality) -> None:
        probability = torch.tensor([[[25, 26, 127, 230, 255]]], dtype=torch.uint8)
        found = {}
        for threshold in (0.1, 0.5, 0.9):
            liver = replace(ct.targets[0], threshold=threshold)
            labelmap, changed = LabelMap()(probability, [liver])
            found[threshold] = (labelmap[0].tolist(), changed)

        assert found == {
            0.1: ([[0, 1, 1, 1, 1]], [0]),
            0.5: ([[0, 0, 0, 1, 1]], []),
            0.9: ([[0, 0, 0, 1, 1]], [0]),
        }

    def test_floats_are_refused(self, ct: Modality) -> None:
        with pytest.raises(TypeError, match=r"uint8.*float32"):
            LabelMap()(torch.zeros(1, 2, 2), ct.targets[:1])

    def test_missing_targets_are_refused(self, ct: Modality) -> None:
        with pytest.raises(ValueError, match="2 channels for 1 targets"):
            LabelMap()(torch.zeros(2, 2, 2, dtype=torch.uint8), ct.targets[:1])


class TestLabelMapd:
    def make(self, probability: torch.Tensor) -> MetaTensor:
        record = Image(path="a", name="a", modality="xray", grid=Grid(shape=(3, 5)))
        done = Segmentation(targets=("lungs",), confidence=(0.9,))
        meta = {IMAGE_KEY: record, SEGMENTATION_KEY: done, "space": "RAS"}
        return MetaTensor(probability, meta=meta)

    def test_labelmap_takes_the_place_of_the_probability(self, table: ModalityTable) -> None:
        probability = torch.tensor([[[200, 0], [0, 255]]], dtype=torch.uint8)

        result = LabelMapd("pred", table=table)({"pred": self.make(probability)})

        assert result["pred"].as_tensor().tolist() == [[[1, 0], [0, 1]]]
        assert result["pred"].meta["space"] == "RAS"
        assert result["probability"].data_ptr() == probability.data_ptr()

    def test_confidence_is_measured_anew_where_the_clean_up_changed_the_mask(
        self, table: ModalityTable
    ) -> None:
        (lungs,) = table["xray"].targets
        own = replace(
            table,
            modalities=(
                replace(
                    table["xray"],
                    targets=(replace(lungs, clean_up=CleanUp(largest_component=True)),),
                ),
            ),
        )
        probability = torch.tensor([[[153, 0, 255, 255, 255]]], dtype=torch.uint8)

        result = LabelMapd("pred", table=own)({"pred": self.make(probability)})

        assert segmentation_of(result["pred"].meta).confidence == (1.0,)
        assert result["pred"].as_tensor().tolist() == [[[0, 0, 1, 1, 1]]]

    def test_confidence_is_that_of_the_mask_from_the_threshold_on(
        self, table: ModalityTable
    ) -> None:
        own = table.with_masks(threshold=0.2)
        probability = torch.tensor([[[102, 0, 204, 204, 204]]], dtype=torch.uint8)

        result = LabelMapd("pred", table=own)({"pred": self.make(probability)})

        assert segmentation_of(result["pred"].meta).confidence == (0.7,)

    def test_dice_is_expected_of_the_confidence_after_the_clean_up(
        self, table: ModalityTable
    ) -> None:
        (lungs,) = table["xray"].targets
        cleaned = replace(lungs, clean_up=CleanUp(largest_component=True))
        own = replace(table, modalities=(replace(table["xray"], targets=(cleaned,)),))
        probability = torch.tensor([[[153, 0, 255, 255, 255]]], dtype=torch.uint8)
        asked: list[tuple[str, str, float | None]] = []

        def expected(modality: str, target: str, confidence: float | None) -> float:
            asked.append((modality, target, confidence))
            return 0.8

        transform = LabelMapd("pred", table=own, expected_dice=expected)
        result = transform({"pred": self.make(probability)})

        assert segmentation_of(result["pred"].meta).expected_dice == (0.8,)
        assert asked == [("xray", "lungs", 1.0)]

    def test_counts_voxels_after_overlaps_are_settled(self, table: ModalityTable) -> None:
        record = Image(
            path="a", name="a", modality="ct", grid=Grid(shape=(1, 1, 3), affine=np.eye(4))
        )
        done = Segmentation(targets=("liver", "kidney"), confidence=(0.9, 0.9))
        meta = {IMAGE_KEY: record, SEGMENTATION_KEY: done}
        probability = torch.tensor([[[[200, 200, 0]]], [[[0, 250, 250]]]], dtype=torch.uint8)

        result = LabelMapd("pred", table=table)({"pred": MetaTensor(probability, meta=meta)})

        assert segmentation_of(result["pred"].meta).voxels == (1, 2)

    @pytest.mark.parametrize(
        ("grid", "told"),
        [
            (Grid(shape=(2, 2, 2), affine=np.eye(4)), False),
            (Grid(shape=(2, 2, 1), affine=np.eye(4)), True),
            (Grid(shape=(2, 2, 2), stack_axis=2), True),
            (Grid(shape=(2, 4)), False),
        ],
    )
    def test_least_volumes_that_cannot_be_applied_to_a_volume_are_told(
        self, table: ModalityTable, grid: Grid, told: bool
    ) -> None:
        liver = replace(table["ct"].targets[0], clean_up=CleanUp(min_ml=1.0))
        own = replace(table, modalities=(replace(table["ct"], targets=(liver,)),))
        record = Image(path="a", name="a", modality="ct", grid=grid)
        done = Segmentation(targets=("liver",), confidence=(0.9,))
        meta = {IMAGE_KEY: record, SEGMENTATION_KEY: done}
        probability = torch.full((1, *grid.shape), 255, dtype=torch.uint8)

        result = LabelMapd("pred", table=own)({"pred": MetaTensor(probability, meta=meta)})

        warnings = segmentation_of(result["pred"].meta).warnings
        assert any("min_ml was not applied to liver" in warning for warning in warnings) == told
        # A cube of 8 mm3 is less than a milliliter; where nothing is known it stays.
        assert bool(result["pred"].any()) == (grid.cleaned_ml is None)

    @pytest.mark.parametrize(
        ("spacing", "warned"), [((10.0, 10.0, 10.0), True), ((10.0, 100.0, 100.0), False)]
    )
    def test_masks_too_small_to_believe_are_told_and_kept(
        self, table: ModalityTable, spacing: tuple[float, ...], warned: bool
    ) -> None:
        affine = np.diag([*spacing, 1.0])
        record = Image(path="a", name="a", modality="ct", grid=Grid(shape=(1, 1, 2), affine=affine))
        done = Segmentation(targets=("liver",), confidence=(0.9,), warnings=("Before.",))
        meta = {IMAGE_KEY: record, SEGMENTATION_KEY: done}
        probability = torch.tensor([[[[200, 0]]]], dtype=torch.uint8)

        result = LabelMapd("pred", table=table)({"pred": MetaTensor(probability, meta=meta)})

        told = segmentation_of(result["pred"].meta).warnings
        assert told[0] == "Before."
        assert len(told) == 1 + warned
        assert told[-1].startswith("liver: 1.0 ml were found; from 20 ml") == warned
        assert result["pred"].any()
