from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.transforms import SaveImaged

from esp_medsam.errors import (
    GeometryError,
    OptionError,
    OutputError,
    OutputExistsError,
    WeightsNotFoundError,
)
from esp_medsam.image import SEGMENTATION_KEY
from esp_medsam.io import SaveSegmentationd, collate, file_names, read_record
from esp_medsam.io.record_fields import FIELDS
from esp_medsam.modality import ModalityTable
from tests.support.results import is_done


WriteVolume = Callable[..., Path]
Result = Callable[..., dict[str, Any]]
Saver = Callable[..., SaveSegmentationd]
Names = Callable[[], list[str]]
TARGETS = ("kidney", "kidney_tumor")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)
    return path


def fields_of(record: dict[str, Any]) -> list[str]:
    """The fields of a record, as its page names them."""
    fields = []
    for name, value in record.items():
        part, entry = (f"{name}[].", value[0]) if name in {"targets", "files"} else ("", value)
        part = f"{name}." if name == "source" else part
        for key, inner in entry.items() if part else ():
            is_part = key == "statistics"
            fields += [f"{part}{key}.{each}" for each in inner] if is_part else [part + key]
        fields += [] if part else [name]
    return fields


class TestRecordFields:
    def test_are_those_that_are_documented_and_no_others(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver(statistics=True)(result(scan))
        record = json.loads((tmp_path / "out" / "scan_seg.json").read_text())

        assert sorted(itertools.chain(*FIELDS)) == sorted(fields_of(record))


class TestNifti:
    def test_lies_on_the_grid_of_the_input(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        data = result(scan)

        saver()(data)
        written, source = nib.load(tmp_path / "out" / "scan_seg.nii.gz"), nib.load(scan)

        assert written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(written.affine, source.affine)
        for code in ("qform_code", "sform_code"):
            assert written.header[code] == source.header[code]
        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0])

    def test_names_its_labels_in_a_header_extension(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver()(result(scan))
        (extension,) = nib.load(tmp_path / "out" / "scan_seg.nii.gz").header.extensions

        labels = ElementTree.fromstring(extension.get_content()).iter("Label")

        assert {label.text: label.get("Key") for label in labels} == {
            "kidney": "2",
            "kidney_tumor": "4",
        }

    def test_of_a_2d_file_is_2d(
        self, saver: Saver, result: Result, write_volume: WriteVolume, scan: Path, tmp_path: Path
    ) -> None:
        affine = nib.load(scan).affine
        data = result(write_volume(np.full((5, 6), -9, np.int16), affine, "flat.nii"))

        saver()(data)
        written = nib.load(tmp_path / "out" / "flat_seg.nii.gz")

        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0, ..., 0])
        np.testing.assert_array_equal(written.affine, affine)

    def test_of_a_photograph_has_columns_first_and_no_position(
        self, saver: Saver, result: Result, photograph: Path, tmp_path: Path
    ) -> None:
        data = result(photograph, "fundus")

        saver(output_format="nifti")(data)
        written = nib.load(tmp_path / "out" / "photo_seg.nii.gz")

        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0].T)
        assert int(written.header["sform_code"]) == 0

    def test_split_targets_keep_their_overlap_and_probabilities_their_bytes(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        data = result(scan)

        saver(split_targets=True, probabilities=True)(data)
        out = tmp_path / "out"

        for expected, name in zip(data["probability"], TARGETS, strict=True):
            mask = nib.load(out / f"scan_seg_{name}.nii.gz")
            image = nib.load(out / f"scan_seg_{name}_probability.nii.gz")
            np.testing.assert_array_equal(np.asarray(mask.dataobj), expected >= 128)
            np.testing.assert_array_equal(image.dataobj.get_unscaled(), expected)
            np.testing.assert_allclose(image.get_fdata(), expected / 255, atol=1e-6)
            np.testing.assert_array_equal(image.affine, mask.affine)


class TestPng:
    def test_keeps_labels_and_shows_colors(
        self,
        saver: Saver,
        table: ModalityTable,
        result: Result,
        photograph: Path,
        names: Names,
        tmp_path: Path,
    ) -> None:
        data = result(photograph, "fundus")

        saver(split_targets=True, probabilities=True)(data)
        written = PIL.Image.open(tmp_path / "out" / "photo_seg.png")

        assert names() == [
            "photo_seg.json", "photo_seg.png", "photo_seg_vessels.png",
            "photo_seg_vessels_probability.png",
        ]  # fmt: skip
        np.testing.assert_array_equal(np.array(written), data["pred"][0])
        assert written.convert("RGB").getpixel((0, 0)) == table["fundus"].targets[0].color
        probability = PIL.Image.open(tmp_path / "out" / "photo_seg_vessels_probability.png")
        np.testing.assert_array_equal(np.array(probability), data["probability"][0])

    def test_cannot_hold_a_volume(self, saver: Saver, result: Result, scan: Path) -> None:
        with pytest.raises(OptionError, match=r"must not be.*for volumes.*Use nifti"):
            saver(output_format="png")(result(scan))


class TestRecord:
    def test_says_how_the_result_was_made(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        weights = tmp_path / "model.pt"
        weights.write_bytes(b"weights")

        saver(weights=weights, settings={"input_size": (448, 448)})(
            result(scan, relative_dir="a/b", name="n")
        )
        record = json.loads((tmp_path / "out" / "a" / "b" / "n_seg.json").read_text())

        # What made the labelmap did not count, and nothing was measured of the weights.
        unknown = dict.fromkeys(("expected_dice", "voxels", "ml", "slice_jump", "slice_jump_at"))
        assert record["modality"] == "ct"
        assert record["targets"] == [
            {"name": "kidney", "label": 2, "confidence": 0.875, **unknown},
            {"name": "kidney_tumor", "label": 4, "confidence": None, **unknown},
        ]
        assert record["formats"] == ["nifti"]
        assert [file["name"] for file in record["files"]] == ["n_seg.nii.gz"]
        assert record["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
        assert record["settings"] == {
            "input_size": [448, 448],
            "clean_up": {},
            "threshold": {},
        }
        assert record["warnings"] == ["beware"]
        assert record["unit"] == "HU"
        assert record["source"]["path"] == "a/b/scan.nii.gz"

    def test_is_written_last(
        self,
        saver: Saver,
        result: Result,
        scan: Path,
        names: Names,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*args: Any, **options: Any) -> None:
            msg = "disk"
            raise OutputError(msg)

        saver()(result(scan))
        monkeypatch.setattr("esp_medsam.io.result_writer.write_file", fail)
        with pytest.raises(OutputError):
            saver(overwrite=True)(result(scan))

        assert names() == ["scan_seg.nii.gz"]  # the old result is none any more


class TestExistingResults:
    def test_of_the_same_kind_are_done(self, saver: Saver, result: Result, scan: Path) -> None:
        assert not is_done(saver(), scan)

        saver()(result(scan))

        assert is_done(saver(), scan)
        assert not is_done(saver(overwrite=True), scan)
        saver()(result(scan))  # the same again changes nothing

    def test_stay_done_where_another_modality_is_prepared_in_another_way(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver(transforms={"ct": "Clahe()", "mri": "Clahe()"})(result(scan))

        record = json.loads((tmp_path / "out" / "scan_seg.json").read_text())
        assert record["settings"] == {
            "transforms": {"ct": "Clahe()"},
            "clean_up": {},
            "threshold": {},
        }
        assert is_done(saver(transforms={"ct": "Clahe()", "dermoscopy": "else"}), scan)
        with pytest.raises(OutputExistsError, match="transforms"):
            is_done(saver(transforms={"dermoscopy": "else"}), scan)

    def test_that_differ_stay_without_overwrite(
        self, saver: Saver, result: Result, scan: Path, names: Names
    ) -> None:
        saver(split_targets=True)(result(scan))
        before = names()

        with pytest.raises(OutputExistsError, match="`overwrite`"):
            saver()(result(scan))

        assert names() == before

    def test_that_differ_go_whole_with_overwrite(
        self, saver: Saver, result: Result, scan: Path, names: Names
    ) -> None:
        saver(split_targets=True)(result(scan))
        saver(overwrite=True)(result(scan))

        assert names() == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_without_a_record_are_made_anew(
        self, saver: Saver, result: Result, scan: Path, names: Names, tmp_path: Path
    ) -> None:
        saver()(result(scan))
        (tmp_path / "out" / "scan_seg.json").unlink()
        saver()(result(scan))

        assert names() == ["scan_seg.json", "scan_seg.nii.gz"]

    @pytest.mark.parametrize("name", ["scan_seg.nii.gz", "scan_seg.json"])
    def test_of_others_stay_without_overwrite(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_bytes(b"mine")

        with pytest.raises(OutputExistsError, match=r"[Mm]ove it away"):
            saver()(result(scan))

        assert (tmp_path / "out" / name).read_bytes() == b"mine"
        saver(overwrite=True)(result(scan))
        assert read_record(tmp_path / "out" / "scan_seg") is not None


class TestSaveSegmentationd:
    def test_is_what_monai_label_takes_out(self, saver: Saver) -> None:
        assert isinstance(saver(), SaveImaged)

    def test_returns_the_item_unchanged(self, saver: Saver, result: Result, scan: Path) -> None:
        data = result(scan)

        assert saver()(data) == data

    def test_saves_what_the_collate_batched_and_monai_took_apart(
        self, saver: Saver, result: Result, scan: Path, photograph: Path, names: Names
    ) -> None:
        for item in decollate_batch(collate([result(scan)])):
            saver()(item)

        assert names() == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_works_inside_monai_s_evaluator(
        self, saver: Saver, result: Result, scan: Path, names: Names
    ) -> None:
        data = result(scan)

        def segment(inputs: MetaTensor, network: torch.nn.Module) -> MetaTensor:
            meta = {**inputs.meta, SEGMENTATION_KEY: [data["pred"].meta[SEGMENTATION_KEY]]}
            return MetaTensor(data["pred"][None].as_tensor(), meta=meta)

        def evaluate_once(item: dict[str, Any]) -> dict[str, Any]:
            item["pred"].is_batch = False
            return saver()(item)

        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=[collate([{"image": data["image"]}])],
            network=torch.nn.Identity(),
            inferer=segment,
            postprocessing=evaluate_once,
        )
        evaluator.run()

        assert names() == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_refuses_a_mask_off_the_grid(
        self, saver: Saver, result: Result, scan: Path, names: Names
    ) -> None:
        data = result(scan)
        data["pred"] = MetaTensor(data["pred"].as_tensor()[:, :-1], meta=data["pred"].meta)

        with pytest.raises(GeometryError, match=r"grid of .*\(5, 6, 4\); got \(4, 6, 4\)"):
            saver()(data)
        assert names() == []

    def test_needs_the_probability_for_more_than_the_labelmap(
        self, saver: Saver, result: Result, scan: Path
    ) -> None:
        data = result(scan)
        del data["probability"]

        saver()(data)
        with pytest.raises(KeyError, match="needs the probability"):
            saver(split_targets=True, overwrite=True)(data)

    def test_needs_the_image_for_its_picture(
        self, saver: Saver, result: Result, scan: Path
    ) -> None:
        data = result(scan)
        del data["image"]

        with pytest.raises(KeyError, match="needs the image"):
            saver(preview=True)(data)

    def test_draws_its_picture_with_the_other_files(
        self, saver: Saver, result: Result, scan: Path, names: Names, tmp_path: Path
    ) -> None:
        saver(preview=True)(result(scan))

        drawn = ["scan_seg.json", "scan_seg.nii.gz", "scan_seg_preview.png"]
        assert names() == drawn
        record = read_record(tmp_path / "out" / "scan_seg")
        assert record is not None
        assert file_names(record) == drawn[1:]

    def test_refuses_a_format_it_cannot_write(self, saver: Saver) -> None:
        with pytest.raises(OptionError, match=r"one of auto, dicom-seg, nifti, png.*'dicom'"):
            saver(output_format="dicom")

    def test_refuses_weights_that_are_gone(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(WeightsNotFoundError, match=r"none\.pt"):
            saver(weights=tmp_path / "none.pt")(result(scan))
