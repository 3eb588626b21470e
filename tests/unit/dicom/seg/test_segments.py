from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pytest

from esp_medsam.dicom.seg.write.segments import series_description
from esp_medsam.errors import TableError
from esp_medsam.modality import Code, ModalityTable


class TestSegments:
    def test_are_coded_as_the_table_says(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)

        liver, tumor = seg.reopened(
            seg.made(image, seg.scattered(image, 2), seg.targets[:2])
        ).SegmentSequence

        assert (liver.SegmentNumber, tumor.SegmentNumber) == (1, 2)
        assert (liver.segment_label, tumor.segment_label) == ("Liver", "Tumor")
        assert tumor.segmented_property_category.value == "49755003"
        assert tumor.segmented_property_type.meaning == "Neoplasm"
        assert [region.value for region in tumor.anatomic_regions] == ["10200004"]
        assert "AnatomicRegionSequence" not in liver
        assert tumor.SegmentAlgorithmType == "AUTOMATIC"
        color = hd.color.CIELabColor.from_dicom_value(tumor.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(color.to_rgb(), seg.targets[1].color, atol=2)

    def test_say_which_algorithm_and_weights_made_them(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1)

        dataset = seg.made(image, seg.scattered(image), settings={"input_size": [64, 64]})

        (segment,) = dataset.SegmentSequence
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentAlgorithmName == algorithm.AlgorithmName == "esp-medsam"
        assert algorithm.AlgorithmVersion == dataset.SoftwareVersions == "1.2.3"
        assert algorithm.AlgorithmParameters == f"weights_sha256={seg.sha256},input_size=[64,64]"

    def test_leave_out_settings_too_long_to_state(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1)

        dataset = seg.made(image, seg.scattered(image), settings={"transforms": "x" * 11_000})

        (algorithm,) = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmParameters == f"weights_sha256={seg.sha256}"

    @pytest.mark.parametrize(("kind", "value"), [("binary", 0), ("fractional", 127)])
    def test_without_foreground_are_left_out(
        self, seg: SimpleNamespace, tmp_path: Path, kind: str, value: int
    ) -> None:
        image = seg.stack(tmp_path, 2)
        masks = np.full((3, *image.grid.shape), value, np.uint8)
        masks[2, 1, 1, 1] = 1 if kind == "binary" else 128

        dataset = seg.made(image, masks, seg.targets, kind=kind)

        (segment,) = dataset.SegmentSequence
        assert (segment.SegmentNumber, segment.SegmentLabel) == (1, "Lesion")

    def test_refuse_codes_that_some_character_sets_cannot_hold(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1)
        target = replace(seg.targets[0], type=Code("1", "99X", "Foie élargi"))

        with pytest.raises(TableError, match="meaning of code 1 must be ASCII"):
            seg.made(image, seg.scattered(image), (target,))


class TestWords:
    def test_are_the_name_s_with_a_capital(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)
        target = replace(seg.targets[0], name="right_kidney")

        (segment,) = seg.made(image, seg.scattered(image), [target]).SegmentSequence

        assert segment.SegmentLabel == "Right kidney"

    @pytest.mark.parametrize(
        ("names", "text"),
        [
            (["liver"], "Segmentation: liver"),
            (["liver", "kidney_tumor"], "Segmentation: liver, kidney tumor"),
            (["intracranial_hemorrhage"] * 4, "Segmentation: intracranial hemorrhage +3"),
            (["a" * 90], f"Segmentation: {'a' * 50}"),
            (["a" * 90, "b"], f"Segmentation: {'a' * 47} +1"),
            ([], "Segmentation: nothing found"),
        ],
    )
    def test_of_all_that_was_found_fit_in_a_series_description(
        self, seg: SimpleNamespace, names: list[str], text: str
    ) -> None:
        targets = [replace(seg.targets[0], name=name) for name in names]

        assert series_description(targets) == text
        assert len(text) <= 64

    def test_of_the_shipped_table_fit_too(self, table: ModalityTable) -> None:
        for modality in table.modalities:
            text = series_description(modality.targets)
            assert len(text) <= 64
            assert text.startswith(f"Segmentation: {modality.targets[0].words.lower()}")

    def test_name_what_is_in_the_object_alone(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 2)
        masks = seg.scattered(image, 3)
        masks[1] = 0
        labels = masks[0] * np.uint8(3)

        binary = seg.made(image, masks, seg.targets)
        labelmap = seg.made(image, [labels], seg.targets, kind="labelmap")

        assert binary.SeriesDescription == "Segmentation: liver, lesion"
        assert labelmap.SeriesDescription == "Segmentation: liver"
