from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from esp_medsam.dicom.seg.write.writer import build_segmentation
from esp_medsam.image import Image


class TestIdentity:
    def test_is_new_each_time(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)

        first, second = (seg.made(image, seg.scattered(image)) for _ in range(2))

        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert first[keyword].value != second[keyword].value
        assert image.series_uid not in (first.SeriesInstanceUID, second.SeriesInstanceUID)

    def test_is_the_same_byte_for_byte_where_it_is_fixed(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        images = []
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            dicom.save_stack(tmp_path / name, 2, StudyDate="20200131", StudyTime="101112.5")
            images.append(seg.record(tmp_path / name))

        first, second = (seg.made(image, seg.scattered(image), fixed=True) for image in images)

        assert seg.bytes_of(first) == seg.bytes_of(second)
        assert (first.ContentDate, first.ContentTime) == ("20200131", "101112")

    def test_has_a_date_though_the_study_has_none(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1, StudyTime="101112")

        dataset = seg.made(image, seg.scattered(image), fixed=True)

        assert (dataset.ContentDate, dataset.ContentTime) == ("20000101", "000000")

    def test_follows_from_sources_weights_settings_targets_and_kind(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 2)
        fewer = seg.record(tmp_path / "0.dcm")

        def uid(image: Image, **options: Any) -> str:
            chosen = {
                "targets": seg.targets[:1],
                "weights_sha256": seg.sha256,
                "settings": {},
                **options,
            }
            dataset = build_segmentation(image, seg.scattered(image) * 255, fixed=True, **chosen)
            assert dataset is not None
            return str(dataset.SOPInstanceUID)

        uids = {
            uid(image),
            uid(fewer),
            uid(image, weights_sha256="ab" * 32),
            uid(image, settings={"amp": True}),
            uid(image, targets=seg.targets[1:2]),
            uid(image, kind="fractional"),
        }

        assert len(uids) == 6
        assert uid(image) in uids
        assert all(value.startswith("2.25.") and len(value) <= 64 for value in uids)
