from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pytest

from esp_medsam.errors import TableError
from esp_medsam.modality import Code


class TestSegments:
    def test_are_coded_as_the_table_says(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)

        liver, tumor = seg.reopened(
            seg.made(image, seg.scattered(image, 2), seg.targets[:2])
        ).SegmentSequence

        assert (liver.SegmentNumber, tumor.SegmentNumber) == (1, 2)
        assert (liver.segment_label, tumor.segment_label) == ("liver", "tumor")
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
        masks = np.full((3, *image.spatial_shape), value, np.uint8)
        masks[2, 1, 1, 1] = 1 if kind == "binary" else 128

        dataset = seg.made(image, masks, seg.targets, kind=kind)

        (segment,) = dataset.SegmentSequence
        assert (segment.SegmentNumber, segment.SegmentLabel) == (1, "lesion")

    def test_refuse_codes_that_some_character_sets_cannot_hold(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1)
        target = replace(seg.targets[0], type=Code("1", "99X", "Foie élargi"))

        with pytest.raises(TableError, match="meaning of code 1 must be ASCII"):
            seg.made(image, seg.scattered(image), (target,))
