"""What a path, an image in memory and the command give is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK
from pydicom import Dataset, dcmread

import esp_medsam
from esp_medsam.cli.main import main
from esp_medsam.errors import (
    FormatError,
    GeometryError,
    InputNotFoundError,
    ModalityError,
    NonFiniteError,
    OptionError,
    TargetError,
)


class TestSegment:
    def test_gives_what_the_command_writes(
        self, segmenter: esp_medsam.Segmenter, weights: Path, tmp_path: Path
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
        PIL.Image.fromarray(np.kron(noise, np.ones((9, 9, 1), np.uint8))).save(
            tmp_path / "mole.png"
        )
        (tmp_path / "small.yaml").write_text("input_size: [64, 64]\n")
        options = ["--config", str(tmp_path / "small.yaml"), "--device", "cpu"]
        options += ["--ckpt_path", str(weights)]
        asked = ["segment", str(tmp_path / "mole.png"), str(tmp_path / "out")]
        assert main([*asked, "--modality", "dermoscopy", *options]) == 0

        result = segmenter.segment(tmp_path / "mole.png", modality="dermoscopy")

        written = np.asarray(PIL.Image.open(tmp_path / "out/mole_seg.png"))
        np.testing.assert_array_equal(result.labelmap, written)
        assert 0 < (result.labelmap == result.labels["lesion"]).mean() < 1
        assert result.labelmap.dtype == np.uint8
        np.testing.assert_array_equal(result.labelmap > 0, result.probabilities["lesion"] >= 128)
        record = json.loads((tmp_path / "out/mole_seg.json").read_text())
        apart = ("formats", "files")  # of what was written
        assert {**result.record, **{key: record[key] for key in apart}} == record
        assert result.confidence == {"lesion": record["targets"][0]["confidence"]}

    @pytest.mark.parametrize("kind", ["nibabel", "SimpleITK", "array", "nrrd"])
    def test_is_the_same_wherever_the_image_lies(
        self,
        segmenter: esp_medsam.Segmenter,
        scan: Path,
        volume: np.ndarray,
        kind: str,
        tmp_path: Path,
        affine: np.ndarray,
    ) -> None:
        of_the_file = segmenter.segment(scan, modality="ct", targets="all")
        itk = SimpleITK.ReadImage(str(scan))
        SimpleITK.WriteImage(itk, str(tmp_path / "scan.nrrd"))
        sources: dict[str, Any] = {
            "nibabel": nib.load(scan),
            "SimpleITK": itk,
            "array": volume,
            "nrrd": tmp_path / "scan.nrrd",
        }
        given = {"affine": affine} if kind == "array" else {}

        result = segmenter.segment(sources[kind], modality="ct", targets="all", **given)

        for name, probability in of_the_file.probabilities.items():
            np.testing.assert_array_equal(result.probabilities[name], probability)
        assert np.ptp(of_the_file.probabilities["liver"]) > 0
        np.testing.assert_allclose(result.affine, affine, atol=1e-5)

    def test_lies_where_spacing_and_axes_say(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, affine: np.ndarray
    ) -> None:
        by_affine = segmenter.segment(volume, modality="ct", targets="all", affine=affine)

        result = segmenter.segment(
            volume, modality="ct", targets="all", spacing=(0.8, 0.9, 4.0), axes="LAS"
        )

        assert result.affine is not None
        np.testing.assert_allclose(result.affine[:3, :3], affine[:3, :3], atol=1e-6)
        np.testing.assert_array_equal(result.affine[:3, 3], 0)
        np.testing.assert_array_equal(result.labelmap, by_affine.labelmap)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_takes_pictures_as_arrays(
        self, segmenter: esp_medsam.Segmenter, tmp_path: Path, dtype: str
    ) -> None:
        gray = np.arange(48 * 40).reshape(48, 40) % 251
        array = gray.astype(dtype)
        ending = "tif" if dtype == "float32" else "png"
        PIL.Image.fromarray(array).save(tmp_path / f"a.{ending}")

        result = segmenter.segment(array, modality="xray")

        of_the_file = segmenter.segment(tmp_path / f"a.{ending}", modality="xray")
        assert result.labelmap.shape == (48, 40)
        assert result.affine is None
        np.testing.assert_array_equal(
            result.probabilities["lungs"], of_the_file.probabilities["lungs"]
        )

    def test_takes_a_picture_in_color(self, segmenter: esp_medsam.Segmenter) -> None:
        array = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
        assert segmenter.segment(array, modality="fundus").labelmap.shape == (30, 50)

    def test_a_dataset_says_its_modality_and_becomes_a_dicom_seg(
        self, segmenter: esp_medsam.Segmenter, shipped: Callable[[str], Path], tmp_path: Path
    ) -> None:
        dataset = dcmread(shipped("CT_small.dcm"))

        result = segmenter.segment(dataset, targets="all")
        files = result.save(tmp_path / "out", write_empty=True)

        assert result.record["modality_origin"] == "dicom"
        (segmentation,) = (path for path in files if path.suffix == ".dcm")
        written = dcmread(segmentation)
        assert written.Modality == "SEG"
        assert written.StudyInstanceUID == dataset.StudyInstanceUID

    def test_datasets_of_a_series_are_a_volume_whatever_their_order(
        self, segmenter: esp_medsam.Segmenter, shipped: Callable[[str], Path]
    ) -> None:
        datasets = []
        for number in (2, 0, 1):
            dataset = dcmread(shipped("CT_small.dcm"))
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, float(z) + 5.0 * number]
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            datasets.append(dataset)

        result = segmenter.segment(datasets, targets="all")

        assert result.labelmap.shape == (128, 128, 3)
        assert result.affine is not None
        assert result.affine[:3, 2].tolist() == [0.0, 0.0, 5.0]

    def test_once_without_a_segmenter(self, scan: Path, tmp_path: Path) -> None:
        result = esp_medsam.segment(
            scan, modality="ct", output=tmp_path / "out", input_size=(64, 64), device="cpu"
        )

        assert (tmp_path / "out/scan_seg.json").is_file()
        assert set(result.labels) == {"liver"}

    @pytest.mark.parametrize(
        ("source", "given", "kind", "said"),
        [
            ("nowhere.png", {"modality": "xray"}, InputNotFoundError, "nowhere.png must be an ex"),
            ("scan.nii.gz", {}, ModalityError, "modality must be given"),
            ("scan.nii.gz", {"modality": "skin"}, ModalityError, "got 'skin'"),
            ("scan.nii.gz", {"modality": "ct", "targets": ["lungs"]}, TargetError, "got 'lungs'"),
            (
                "scan.nii.gz",
                {"modality": "ct", "affine": np.eye(4)},
                OptionError,
                "affine must be left out",
            ),
            (".", {"modality": "ct"}, OptionError, "one image or volume; got .*a.png, .*scan.nii"),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct"},
                GeometryError,
                r"affine, or spacing and axes.*\(4, 5, 6\)",
            ),
            (np.zeros((4, 5), complex), {"modality": "xray"}, FormatError, "got complex128"),
            (np.zeros((2, 2, 2, 2)), {"modality": "ct"}, FormatError, "two or three axes"),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct", "affine": np.eye(3)},
                GeometryError,
                "affine must be.*4 x 4.*finite numbers",
            ),
            (
                17,
                {"modality": "ct"},
                FormatError,
                "source must be a path, an .*array; got int",
            ),
            ("", {"modality": "ct"}, OptionError, "source must be a path; got an empty string"),
            (np.zeros((0, 5), np.uint8), {"modality": "xray"}, FormatError, r"shape \(0, 5\)"),
            (np.ma.zeros((4, 5)), {"modality": "xray"}, FormatError, "masked array"),
            (
                SimpleITK.GetImageFromArray(np.zeros((4, 5), np.uint8)),
                {"modality": "xray"},
                FormatError,
                "must have three axes",
            ),
            (Dataset(), {}, FormatError, "writing this Dataset ended in"),
            (
                np.zeros((4, 5), np.uint8),
                {"modality": "xray", "name": "../out"},
                OptionError,
                "name must.*of letters",
            ),
            ("scan.nii.gz", {"modality": "ct", "device": "cpu"}, OptionError, "got device"),
            (
                "scan.nii.gz",
                {"modality": "ct", "axes": "LPS"},
                OptionError,
                "axes must be left out",
            ),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct", "spacing": (1, 1, 5)},
                GeometryError,
                "spacing and axes, must be given; got spacing",
            ),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct", "spacing": (1, 1, 5), "axes": "LRS"},
                GeometryError,
                "axes must be three letters.*'LRS'",
            ),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct", "spacing": (1, 0, 5), "axes": "LPS"},
                GeometryError,
                r"spacing must be three positive numbers.*\(1, 0, 5\)",
            ),
        ],
    )
    def test_refuses_in_our_own_words(
        self,
        segmenter: esp_medsam.Segmenter,
        scan: Path,
        monkeypatch: pytest.MonkeyPatch,
        source: Any,
        given: dict[str, Any],
        kind: type[Exception],
        said: str,
    ) -> None:
        monkeypatch.chdir(scan.parent)
        PIL.Image.new("L", (30, 20)).save("a.png")

        with pytest.raises(kind, match=said):
            segmenter.segment(source, **given)

    @pytest.mark.parametrize(
        "affine",
        [
            np.diag([1.0, 1.0, 4.0, 2.0]),
            np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 4, 0], [40, -30, 7, 1]]),
            np.zeros((4, 4)),
            np.diag([1.0, 1.0, 0.0, 1.0]),
            np.diag([1.0, 1.0, np.nan, 1.0]),
            np.eye(4) * 1j,
            "abc",
            [[1, 2], [3]],
        ],
    )
    def test_refuses_an_affine_of_which_something_would_be_lost(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, affine: Any
    ) -> None:
        with pytest.raises(GeometryError, match=r"affine must be.*4 x 4.*finite numbers"):
            segmenter.segment(volume, modality="ct", affine=affine)

    def test_values_count_and_not_the_type_that_a_header_states(
        self, segmenter: esp_medsam.Segmenter, scan: Path, volume: np.ndarray, affine: np.ndarray
    ) -> None:
        header = nib.load(scan).header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(3.0, 1.0)
        of_the_file = segmenter.segment(scan, modality="ct", targets="all")
        holed = np.where(volume > 50, np.nan, volume).astype(np.float32)

        result = segmenter.segment(
            nib.Nifti1Image(volume.astype(np.float32), affine, header), modality="ct", targets="all"
        )

        for name, probability in of_the_file.probabilities.items():
            np.testing.assert_array_equal(result.probabilities[name], probability)
        with pytest.raises(NonFiniteError):
            segmenter.segment(nib.Nifti1Image(holed, affine, header), modality="ct")

    @pytest.mark.parametrize("layout", ["F", "reversed", "read-only", "big-endian", "int64"])
    def test_takes_arrays_however_they_lie(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, layout: str, affine: np.ndarray
    ) -> None:
        plain = segmenter.segment(volume, modality="ct", affine=affine)
        sealed = volume.copy()
        sealed.flags.writeable = False
        laid = {
            "F": np.asfortranarray(volume),
            "reversed": volume[::-1].copy()[::-1],
            "read-only": sealed,
            "big-endian": volume.astype(">i2"),
            "int64": volume.astype(np.int64),
        }

        result = segmenter.segment(laid[layout], modality="ct", affine=affine)

        np.testing.assert_array_equal(result.probabilities["liver"], plain.probabilities["liver"])
