from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import highdicom as hd
import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.transforms import SaveImaged
from pydicom import dcmread
from pydicom.data import get_testdata_file

from esp_medsam.errors import (
    DiskFullError,
    GeometryError,
    OptionError,
    OutputError,
    OutputExistsError,
    WeightsNotFoundError,
)
from esp_medsam.image import SEGMENTATION_KEY, Segmentation
from esp_medsam.io import LoadMedicalImaged, SaveSegmentationd, Source, collate, read_record
from esp_medsam.modality import ModalityTable


WriteVolume = Callable[..., Path]
Saver = Callable[..., SaveSegmentationd]
SHAPE = (5, 6, 4)
AFFINE = np.array([[0, 0, 2.0, 1], [-3, 0, 0, 2], [0, 4, 0, 3], [0, 0, 0, 1]])
SEGMENTATION = Segmentation(
    targets=("kidney", "kidney_tumor"), confidence=(0.875, None), warnings=("beware",)
)


def result(path: Path, table: ModalityTable, modality: str = "ct", **item: Any) -> dict[str, Any]:
    """What the pipeline hands to the saver: two targets that overlap."""
    load = LoadMedicalImaged("image", table=table, modality=modality)
    image = load({"image": path, **item})["image"]
    probability = torch.zeros(2, *image.shape[1:], dtype=torch.uint8)
    probability[0, :3] = 200
    probability[1, 2:4] = 220
    labels = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
    labels[0, :3] = 2
    labels[0, 2:4] = 4
    segmentation = SEGMENTATION
    if modality != "ct":
        name = table[modality].targets[0].name
        segmentation = Segmentation(targets=(name,), confidence=(0.9,))
        probability, labels = probability[:1], (labels > 0).to(torch.uint8)
    meta = {**image.meta, SEGMENTATION_KEY: segmentation}
    return {
        "image": image,
        "pred": MetaTensor(labels, meta=meta),
        "probability": MetaTensor(probability, meta=meta),
    }


@pytest.fixture
def volume(write_volume: WriteVolume) -> Path:
    return write_volume(np.zeros(SHAPE, np.int16) - 1000, AFFINE, "scan.nii.gz")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def saver(table: ModalityTable, tmp_path: Path) -> Saver:
    def make(**options: Any) -> SaveSegmentationd:
        return SaveSegmentationd("pred", output_dir=tmp_path / "out", table=table, **options)

    return make


def names(tmp_path: Path) -> list[str]:
    out = tmp_path / "out"
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())


class TestNifti:
    def test_lies_on_the_grid_of_the_input(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        data = result(volume, table)

        saver()(data)
        written, source = nib.load(tmp_path / "out" / "scan_seg.nii.gz"), nib.load(volume)

        assert written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(written.affine, source.affine)
        for code in ("qform_code", "sform_code"):
            assert written.header[code] == source.header[code]
        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0])

    def test_names_its_labels_in_a_header_extension(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        saver()(result(volume, table))
        (extension,) = nib.load(tmp_path / "out" / "scan_seg.nii.gz").header.extensions

        labels = ElementTree.fromstring(extension.get_content()).iter("Label")

        assert {label.text: label.get("Key") for label in labels} == {
            "kidney": "2",
            "kidney_tumor": "4",
        }

    def test_of_a_2d_file_is_2d(
        self, saver: Saver, table: ModalityTable, write_volume: WriteVolume, tmp_path: Path
    ) -> None:
        data = result(write_volume(np.full((5, 6), -9, np.int16), AFFINE, "flat.nii"), table)

        saver()(data)
        written = nib.load(tmp_path / "out" / "flat_seg.nii.gz")

        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0, ..., 0])
        np.testing.assert_array_equal(written.affine, AFFINE)

    def test_of_a_photograph_has_columns_first_and_no_position(
        self, saver: Saver, table: ModalityTable, photograph: Path, tmp_path: Path
    ) -> None:
        data = result(photograph, table, "fundus")

        saver(output_format="nifti")(data)
        written = nib.load(tmp_path / "out" / "photo_seg.nii.gz")

        np.testing.assert_array_equal(np.asarray(written.dataobj), data["pred"][0].T)
        assert int(written.header["sform_code"]) == 0

    def test_split_targets_keep_their_overlap_and_probabilities_their_bytes(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        data = result(volume, table)

        saver(split_targets=True, probabilities=True)(data)
        out = tmp_path / "out"

        for expected, name in zip(data["probability"], SEGMENTATION.targets, strict=True):
            mask = nib.load(out / f"scan_seg_{name}.nii.gz")
            image = nib.load(out / f"scan_seg_{name}_probability.nii.gz")
            np.testing.assert_array_equal(np.asarray(mask.dataobj), expected >= 128)
            np.testing.assert_array_equal(image.dataobj.get_unscaled(), expected)
            np.testing.assert_allclose(image.get_fdata(), expected / 255, atol=1e-6)
            np.testing.assert_array_equal(image.affine, mask.affine)


class TestPng:
    def test_keeps_labels_and_shows_colors(
        self, saver: Saver, table: ModalityTable, photograph: Path, tmp_path: Path
    ) -> None:
        data = result(photograph, table, "fundus")

        saver(split_targets=True, probabilities=True)(data)
        written = PIL.Image.open(tmp_path / "out" / "photo_seg.png")

        assert names(tmp_path) == [
            "photo_seg.json", "photo_seg.png", "photo_seg_vessels.png",
            "photo_seg_vessels_probability.png",
        ]  # fmt: skip
        np.testing.assert_array_equal(np.array(written), data["pred"][0])
        assert written.convert("RGB").getpixel((0, 0)) == table["fundus"].targets[0].color
        probability = PIL.Image.open(tmp_path / "out" / "photo_seg_vessels_probability.png")
        np.testing.assert_array_equal(np.array(probability), data["probability"][0])

    def test_cannot_hold_a_volume(self, saver: Saver, table: ModalityTable, volume: Path) -> None:
        with pytest.raises(OptionError, match=r"png must not be asked for volumes.*Use nifti"):
            saver(output_format="png")(result(volume, table))


class TestRecord:
    def test_says_how_the_result_was_made(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        weights = tmp_path / "model.pt"
        weights.write_bytes(b"weights")

        saver(weights=weights, settings={"input_size": (448, 448)})(
            result(volume, table, relative_dir="a/b", name="n")
        )
        record = json.loads((tmp_path / "out" / "a" / "b" / "n_seg.json").read_text())

        assert record["modality"] == "ct"
        assert record["targets"] == [
            {"name": "kidney", "label": 2, "confidence": 0.875},
            {"name": "kidney_tumor", "label": 4, "confidence": None},
        ]
        assert record["formats"] == ["nifti"]
        assert record["files"] == ["n_seg.nii.gz"]
        assert record["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
        assert record["settings"] == {"input_size": [448, 448]}
        assert record["warnings"] == ["beware"]
        assert record["unit"] == "HU"
        assert record["source"]["path"] == str(volume)

    def test_is_written_last(
        self,
        saver: Saver,
        table: ModalityTable,
        volume: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*args: Any, **options: Any) -> None:
            msg = "disk"
            raise OutputError(msg)

        saver()(result(volume, table))
        monkeypatch.setattr("esp_medsam.io.save.write_file", fail)
        with pytest.raises(OutputError):
            saver(overwrite=True)(result(volume, table))

        assert names(tmp_path) == ["scan_seg.nii.gz"]  # the old result is none any more


class TestDicomSeg:
    @pytest.fixture
    def series(self, tmp_path: Path) -> Path:
        """Two slices of a CT, of the smallest size there is."""
        folder = tmp_path / "series"
        folder.mkdir()
        for number in range(2):
            slice_ = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
            slice_.SeriesInstanceUID = "1.2.3"
            slice_.ImagePositionPatient = [0, 0, 2 * number]
            slice_.save_as(folder / f"{number}.dcm")
        return folder

    def test_is_what_dicom_gets_and_agrees_with_the_labelmap(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        data = result(series, table)

        saver()(data)

        assert names(tmp_path) == ["1.2.3_seg.dcm", "1.2.3_seg.json"]
        segmentation = hd.seg.segread(tmp_path / "out" / "1.2.3_seg.dcm")
        found = segmentation.get_pixels_by_source_instance(["1.2.0", "1.2.1"])
        labels = [target.label for target in table.select("ct", SEGMENTATION.targets)]
        masks = np.stack([data["pred"][0].numpy() == label for label in labels])
        np.testing.assert_array_equal(found.transpose(3, 2, 1, 0), masks)
        assert [item.SegmentLabel for item in segmentation.SegmentSequence] == [
            "kidney", "kidney_tumor",
        ]  # fmt: skip
        record = read_record(tmp_path / "out" / "1.2.3_seg")
        assert record is not None
        assert record["formats"] == ["dicom-seg"]
        assert record["empty"] is False

    def test_and_other_formats_are_written_together(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        saver(output_format=["auto", "nifti"], split_targets=True)(result(series, table))

        endings = ("seg", "seg_kidney", "seg_kidney_tumor")
        assert names(tmp_path) == sorted(
            ["1.2.3_seg.json"]
            + [f"1.2.3_{end}{suffix}" for end in endings for suffix in (".dcm", ".nii.gz")]
        )

    @pytest.mark.parametrize("seg_type", ["binary", "labelmap", "fractional"])
    def test_stores_segments_as_it_was_asked_to(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path, seg_type: str
    ) -> None:
        data = result(series, table)

        saver(seg_type=seg_type, probabilities=True)(data)

        written = dcmread(tmp_path / "out" / "1.2.3_seg.dcm")
        assert written.SegmentationType == seg_type.upper()
        if seg_type == "labelmap":
            np.testing.assert_array_equal(written.pixel_array.transpose(2, 1, 0), data["pred"][0])
        alone = dcmread(tmp_path / "out" / "1.2.3_seg_kidney_probability.dcm")
        assert alone.SegmentationType == "FRACTIONAL"
        assert alone.SOPInstanceUID != written.SOPInstanceUID
        assert set(np.unique(alone.pixel_array)) == {0, 200}

    def test_is_the_same_from_a_re_run_where_that_is_asked_for(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        options = {"fixed_uids": True, "split_targets": True, "overwrite": True}
        saver(**options)(result(series, table))
        first = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}

        saver(**options)(result(series, table))

        again = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}
        assert again == first
        assert len({dcmread(path).SOPInstanceUID for path in (tmp_path / "out").glob("*.dcm")}) == 3

    def test_of_nothing_is_not_written_and_the_record_says_so(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        saver()(result(series, table))
        data = result(series, table)
        data["pred"] *= 0
        data["probability"] *= 0

        saver(overwrite=True)(data)

        assert names(tmp_path) == ["1.2.3_seg.json"]  # nor does the old one stay
        record = read_record(tmp_path / "out" / "1.2.3_seg")
        assert record is not None
        assert (record["empty"], record["files"]) == (True, [])
        asked = {"name": "1.2.3", "modality": "ct", "targets": SEGMENTATION.targets}
        asked |= {"is_volume": True, "is_dicom": True}
        source = Source(series, tuple(map(str, sorted(series.iterdir()))))
        assert saver().is_done(source, **asked)
        with pytest.raises(OutputExistsError, match="write_empty False"):
            saver(write_empty=True).is_done(source, **asked)

    def test_of_nothing_is_written_where_that_is_asked_for(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        data = result(series, table)
        data["pred"] *= 0
        data["probability"] *= 0

        saver(write_empty=True)(data)

        assert not hd.seg.segread(tmp_path / "out" / "1.2.3_seg.dcm").pixel_array.any()

    def test_leaves_nothing_where_the_disk_is_full(
        self,
        saver: Saver,
        table: ModalityTable,
        series: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fill(dataset: Any, file: Any) -> None:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("esp_medsam.io.dicom_seg.write_segmentation", fill)

        with pytest.raises(DiskFullError):
            saver()(result(series, table))
        assert names(tmp_path) == []

    def test_is_not_written_over_a_file_of_another_s(
        self, saver: Saver, table: ModalityTable, series: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / "1.2.3_seg.dcm"
        path.write_bytes((series / "0.dcm").read_bytes())

        with pytest.raises(OutputExistsError, match="was not written here"):
            saver()(result(series, table))

    def test_must_not_be_asked_of_other_images(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(OptionError, match=r"asked of DICOM images; got none. Use nifti"):
            saver(output_format="nifti,dicom-seg")(result(volume, table))
        assert names(tmp_path) == []

    def test_refuses_a_way_to_store_segments_that_is_none(self, saver: Saver) -> None:
        with pytest.raises(OptionError, match="seg_type must be one of binary, labelmap, frac"):
            saver(seg_type="surface")


class TestExistingResults:
    def test_of_the_same_kind_are_done(
        self, saver: Saver, table: ModalityTable, volume: Path
    ) -> None:
        asked = {"name": "scan", "modality": "ct", "targets": SEGMENTATION.targets}
        asked |= {"source": Source(volume), "is_volume": True, "is_dicom": False}
        assert not saver().is_done(**asked)

        saver()(result(volume, table))

        assert saver().is_done(**asked)
        assert not saver(overwrite=True).is_done(**asked)
        saver()(result(volume, table))  # the same again changes nothing

    def test_stay_done_where_another_modality_is_prepared_in_another_way(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        asked = {"name": "scan", "modality": "ct", "targets": SEGMENTATION.targets}
        asked |= {"source": Source(volume), "is_volume": True, "is_dicom": False}
        saver(transforms={"ct": "Clahe()", "mri": "Clahe()"})(result(volume, table))

        record = json.loads((tmp_path / "out" / "scan_seg.json").read_text())
        assert record["settings"] == {"transforms": {"ct": "Clahe()"}}
        assert saver(transforms={"ct": "Clahe()", "dermoscopy": "else"}).is_done(**asked)
        with pytest.raises(OutputExistsError, match="transforms"):
            saver(transforms={"dermoscopy": "else"}).is_done(**asked)

    def test_that_differ_stay_without_overwrite(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        saver(split_targets=True)(result(volume, table))
        before = names(tmp_path)

        with pytest.raises(OutputExistsError, match="--overwrite"):
            saver()(result(volume, table))

        assert names(tmp_path) == before

    def test_that_differ_go_whole_with_overwrite(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        saver(split_targets=True)(result(volume, table))
        saver(overwrite=True)(result(volume, table))

        assert names(tmp_path) == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_without_a_record_are_made_anew(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        saver()(result(volume, table))
        (tmp_path / "out" / "scan_seg.json").unlink()
        saver()(result(volume, table))

        assert names(tmp_path) == ["scan_seg.json", "scan_seg.nii.gz"]

    @pytest.mark.parametrize("name", ["scan_seg.nii.gz", "scan_seg.json"])
    def test_of_others_stay_without_overwrite(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_bytes(b"mine")

        with pytest.raises(OutputExistsError, match="must be free"):
            saver()(result(volume, table))

        assert (tmp_path / "out" / name).read_bytes() == b"mine"
        saver(overwrite=True)(result(volume, table))
        assert read_record(tmp_path / "out" / "scan_seg") is not None


class TestSaveSegmentationd:
    def test_is_what_monai_label_takes_out(self, saver: Saver) -> None:
        assert isinstance(saver(), SaveImaged)

    def test_returns_the_item_unchanged(
        self, saver: Saver, table: ModalityTable, volume: Path
    ) -> None:
        data = result(volume, table)

        assert saver()(data) == data

    def test_saves_what_the_collate_batched_and_monai_took_apart(
        self, saver: Saver, table: ModalityTable, volume: Path, photograph: Path, tmp_path: Path
    ) -> None:
        for item in decollate_batch(collate([result(volume, table)])):
            saver()(item)

        assert names(tmp_path) == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_works_inside_monai_s_evaluator(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        data = result(volume, table)

        def segment(inputs: MetaTensor, network: torch.nn.Module) -> MetaTensor:
            meta = {**inputs.meta, SEGMENTATION_KEY: [SEGMENTATION]}
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

        assert names(tmp_path) == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_refuses_a_mask_off_the_grid(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        data = result(volume, table)
        data["pred"] = MetaTensor(data["pred"].as_tensor()[:, :-1], meta=data["pred"].meta)

        with pytest.raises(GeometryError, match=r"grid of .*\(5, 6, 4\); got \(4, 6, 4\)"):
            saver()(data)
        assert names(tmp_path) == []

    def test_needs_the_probability_for_more_than_the_labelmap(
        self, saver: Saver, table: ModalityTable, volume: Path
    ) -> None:
        data = result(volume, table)
        del data["probability"]

        saver()(data)
        with pytest.raises(KeyError, match="needs the probability"):
            saver(split_targets=True, overwrite=True)(data)

    def test_needs_the_image_for_its_picture(
        self, saver: Saver, table: ModalityTable, volume: Path
    ) -> None:
        data = result(volume, table)
        del data["image"]

        with pytest.raises(KeyError, match="needs the image"):
            saver(preview=True)(data)

    def test_draws_its_picture_with_the_other_files(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        saver(preview=True)(result(volume, table))

        drawn = ["scan_seg.json", "scan_seg.nii.gz", "scan_seg_preview.png"]
        assert names(tmp_path) == drawn
        record = read_record(tmp_path / "out" / "scan_seg")
        assert record is not None
        assert record["files"] == drawn[1:]

    def test_refuses_a_format_it_cannot_write(self, saver: Saver) -> None:
        with pytest.raises(OptionError, match=r"one of auto, dicom-seg, nifti, png.*'dicom'"):
            saver(output_format="dicom")

    def test_refuses_weights_that_are_gone(
        self, saver: Saver, table: ModalityTable, volume: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(WeightsNotFoundError, match=r"none\.pt"):
            saver(weights=tmp_path / "none.pt")(result(volume, table))
