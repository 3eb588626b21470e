"""The front door: what a path, an image in memory and the command give is the same."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import torch
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
    OutputExistsError,
    TargetError,
)
from esp_medsam.io import in_memory
from esp_medsam.networks import build_product


LIGHT = """
import sys, esp_medsam
assert "ct" in esp_medsam.modalities().names
heavy = ("torch", "monai", "ignite", "itk", "SimpleITK", "skimage", "nibabel")
print(*[name for name in heavy if name in sys.modules])
"""

AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0.9, 0, -30], [0, 0, 4.0, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that never trained: they find something everywhere."""
    table = esp_medsam.modalities()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(build_product(table.indices, table.target_names).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def segmenter(weights: Path) -> Iterator[esp_medsam.Segmenter]:
    settings = {"input_size": (64, 64), "device": "cpu", "ckpt_path": str(weights)}
    with esp_medsam.Segmenter(**settings) as segmenter:
        yield segmenter


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """Blobs of HU; no two axes are alike."""
    random = np.random.default_rng(0)
    blocks = np.kron(random.normal(60, 60, (7, 8, 1)), np.ones((6, 6, 5)))
    return blocks.round().astype(np.int16)


@pytest.fixture
def scan(tmp_path: Path, volume: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(volume, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


class TestImport:
    def test_loads_nothing_heavy(self, tmp_path: Path) -> None:
        root = Path(esp_medsam.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root)}

        ended = subprocess.run(
            [sys.executable, "-c", LIGHT],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

        assert ended.stdout.split() == []

    def test_names_are_those_that_are_documented(self) -> None:
        for name in esp_medsam.__all__:
            assert getattr(esp_medsam, name) is not None
        assert dir(esp_medsam) == sorted(esp_medsam.__all__)
        with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
            esp_medsam.segmnt  # noqa: B018


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
        given = {"affine": AFFINE} if kind == "array" else {}

        result = segmenter.segment(sources[kind], modality="ct", targets="all", **given)

        for name, probability in of_the_file.probabilities.items():
            np.testing.assert_array_equal(result.probabilities[name], probability)
        assert np.ptp(of_the_file.probabilities["liver"]) > 0
        np.testing.assert_allclose(result.affine, AFFINE, atol=1e-5)

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
            ("scan.nii.gz", {"modality": "ct", "affine": AFFINE}, OptionError, "affine belongs to"),
            (".", {"modality": "ct"}, OptionError, "one image or volume; got .*a.png, .*scan.nii"),
            (np.zeros((4, 5, 6)), {"modality": "ct"}, GeometryError, "which way its axes run"),
            (np.zeros((4, 5), complex), {"modality": "xray"}, FormatError, "got complex128"),
            (np.zeros((2, 2, 2, 2)), {"modality": "ct"}, FormatError, "two or three axes"),
            (
                np.zeros((4, 5, 6)),
                {"modality": "ct", "affine": np.eye(3)},
                GeometryError,
                "affine must be 4 x 4 finite numbers",
            ),
            (
                17,
                {"modality": "ct"},
                FormatError,
                "source must be a path, an .*array; got int",
            ),
            ("", {"modality": "ct"}, OptionError, "source must be a path; got an empty one"),
            (np.zeros((0, 5), np.uint8), {"modality": "xray"}, FormatError, r"the shape \(0, 5\)"),
            (np.ma.zeros((4, 5)), {"modality": "xray"}, FormatError, "fill what it masks"),
            (
                SimpleITK.GetImageFromArray(np.zeros((4, 5), np.uint8)),
                {"modality": "xray"},
                FormatError,
                "must have three axes as an image of SimpleITK",
            ),
            (Dataset(), {}, FormatError, "writing this Dataset ended in"),
            (
                np.zeros((4, 5), np.uint8),
                {"modality": "xray", "name": "../out"},
                OptionError,
                "name must be of letters",
            ),
            ("scan.nii.gz", {"modality": "ct", "device": "cpu"}, OptionError, "Give it to Segment"),
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
            AFFINE.T,
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
        with pytest.raises(GeometryError, match="affine must be 4 x 4 finite numbers that keep"):
            segmenter.segment(volume, modality="ct", affine=affine)

    def test_values_count_and_not_the_type_that_a_header_states(
        self, segmenter: esp_medsam.Segmenter, scan: Path, volume: np.ndarray
    ) -> None:
        header = nib.load(scan).header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(3.0, 1.0)
        of_the_file = segmenter.segment(scan, modality="ct", targets="all")
        holed = np.where(volume > 50, np.nan, volume).astype(np.float32)

        result = segmenter.segment(
            nib.Nifti1Image(volume.astype(np.float32), AFFINE, header), modality="ct", targets="all"
        )

        for name, probability in of_the_file.probabilities.items():
            np.testing.assert_array_equal(result.probabilities[name], probability)
        with pytest.raises(NonFiniteError):
            segmenter.segment(nib.Nifti1Image(holed, AFFINE, header), modality="ct")

    @pytest.mark.parametrize("layout", ["F", "reversed", "read-only", "big-endian", "int64"])
    def test_takes_arrays_however_they_lie(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, layout: str
    ) -> None:
        plain = segmenter.segment(volume, modality="ct", affine=AFFINE)
        sealed = volume.copy()
        sealed.flags.writeable = False
        laid = {
            "F": np.asfortranarray(volume),
            "reversed": volume[::-1].copy()[::-1],
            "read-only": sealed,
            "big-endian": volume.astype(">i2"),
            "int64": volume.astype(np.int64),
        }

        result = segmenter.segment(laid[layout], modality="ct", affine=AFFINE)

        np.testing.assert_array_equal(result.probabilities["liver"], plain.probabilities["liver"])


class TestSegmenter:
    def test_its_settings_are_those_of_images_that_come_without(
        self, weights: Path, scan: Path, shipped: Callable[[str], Path], tmp_path: Path
    ) -> None:
        settings = {"input_size": (64, 64), "device": "cpu", "ckpt_path": str(weights)}
        with esp_medsam.Segmenter(
            modality="ct", targets=["kidney"], output_format="nifti", preview=True, **settings
        ) as segmenter:
            assert set(segmenter.segment(scan).labels) == {"kidney"}
            assert set(segmenter.segment(scan, targets=["liver"]).labels) == {"liver"}
            segmenter.segment(shipped("CT_small.dcm"), output=tmp_path / "out")

        endings = {"".join(path.suffixes[-2:]) for path in (tmp_path / "out").rglob("*_seg.*")}
        assert ".nii.gz" in endings
        assert not list((tmp_path / "out").rglob("*.dcm"))
        assert list((tmp_path / "out").rglob("*_seg_preview.*"))

    def test_states_the_weights_that_it_read_whatever_became_of_their_file(
        self, weights: Path, scan: Path, tmp_path: Path
    ) -> None:
        own = tmp_path / "own.pt"
        own.write_bytes(weights.read_bytes())
        settings = {"input_size": (64, 64), "device": "cpu", "ckpt_path": str(own)}
        with esp_medsam.Segmenter(**settings) as segmenter:
            before = segmenter.segment(scan, modality="ct")
            own.write_bytes(b"another file")
            after = segmenter.segment(scan, modality="ct")

        assert before.record["weights_sha256"] == after.record["weights_sha256"]
        record = json.loads(after.save(tmp_path / "out")[-1].read_text())
        assert record["weights_sha256"] == before.record["weights_sha256"]

    def test_takes_the_images_of_several_threads_one_at_a_time(
        self, segmenter: esp_medsam.Segmenter, scan: Path
    ) -> None:
        alone = segmenter.segment(scan, modality="ct", targets="all").probabilities["liver"]
        picture = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)

        with ThreadPoolExecutor(4) as pool:
            volumes = [
                pool.submit(segmenter.segment, scan, modality="ct", targets="all") for _ in range(3)
            ]
            pictures = [pool.submit(segmenter.segment, picture, modality="xray") for _ in range(3)]

        for each in volumes:
            np.testing.assert_array_equal(each.result().probabilities["liver"], alone)
        assert {each.result().labelmap.shape for each in pictures} == {(48, 40)}

    def test_is_of_no_use_once_it_was_closed(self) -> None:
        with esp_medsam.Segmenter(input_size=(64, 64), device="cpu") as closed:
            pass

        with pytest.raises(OptionError, match="this one was closed"):
            closed.segment("a.png", modality="xray")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"ckpt_path": "none.pt"}, "none.pt"),
            ({"input_size": (65, 65)}, "input_size"),
            ({"nothing": 1}, "nothing must be left out"),
            ({"output_dir": "out"}, "output_dir must be left out: source and output of each image"),
            ({"output_format": "bmp"}, "output_format"),
        ],
    )
    def test_refuses_what_it_cannot_work_with(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(esp_medsam.EspMedSamError, match=said):
            esp_medsam.Segmenter(**given)


class TestResult:
    @pytest.fixture
    def result(self, segmenter: esp_medsam.Segmenter, volume: np.ndarray) -> esp_medsam.Result:
        return segmenter.segment(volume, modality="ct", targets="all", affine=AFFINE)

    def test_saves_what_is_asked_for_and_replaces_nothing_unasked(
        self, result: esp_medsam.Result, tmp_path: Path
    ) -> None:
        files = result.save(tmp_path, "nifti", split_targets=True, preview=True)

        assert files[-1] == tmp_path / "image_seg.json"
        assert tmp_path / "image_seg_liver.nii.gz" in files
        assert all(path.is_file() for path in files)
        np.testing.assert_array_equal(
            np.asarray(nib.load(tmp_path / "image_seg.nii.gz").dataobj), result.labelmap
        )
        with pytest.raises(OutputExistsError, match="Pass --overwrite to replace it"):
            result.save(tmp_path, "nifti")
        result.save(tmp_path, "nifti", overwrite=True)

    @pytest.mark.parametrize("setting", ["input_size", "ckpt_path", "ct_input", "output_dir"])
    def test_what_made_it_cannot_be_set_when_it_is_saved(
        self, result: esp_medsam.Result, tmp_path: Path, setting: str
    ) -> None:
        with pytest.raises(OptionError, match=f"got {setting}. Give it to Segmenter, and segment"):
            result.save(tmp_path / "out", **{setting: "x"})
        assert not (tmp_path / "out").exists()

    def test_what_was_segmented_is_what_is_saved(
        self, result: esp_medsam.Result, tmp_path: Path
    ) -> None:
        for array in (result.labelmap, *result.probabilities.values()):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
        result.record["targets"].clear()
        assert result.affine is not None
        result.affine[:] = 0

        result.save(tmp_path, "nifti")

        written = nib.load(tmp_path / "image_seg.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), result.labelmap)
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
        assert result.record["targets"]

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_stays_in_its_process(
        self, result: esp_medsam.Result, copied: Callable[[Any], Any]
    ) -> None:
        with pytest.raises(OptionError, match="a Result must stay in its process; save it"):
            copied(result)

    def test_is_called_as_asked(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, tmp_path: Path
    ) -> None:
        for name in ("case_1", "case_2"):
            segmenter.segment(volume, modality="ct", affine=AFFINE, name=name, output=tmp_path)

        assert sorted(path.name for path in tmp_path.glob("*.nii.gz")) == [
            "case_1_seg.nii.gz",
            "case_2_seg.nii.gz",
        ]

    def test_a_process_that_was_forked_off_leaves_its_parent_s_files(self, tmp_path: Path) -> None:
        (tmp_path / "scratch").mkdir()

        in_memory._remove(tmp_path / "scratch", owner=os.getpid() + 1)
        assert (tmp_path / "scratch").exists()
        in_memory._remove(tmp_path / "scratch", owner=os.getpid())
        assert not (tmp_path / "scratch").exists()

    def test_shows_itself(self, result: esp_medsam.Result) -> None:
        assert result._repr_png_().startswith(b"\x89PNG")
        assert result.preview().width > 200
        assert repr(result).startswith("<Result of image: liver ")

    def test_leaves_nothing_behind(
        self,
        segmenter: esp_medsam.Segmenter,
        volume: np.ndarray,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        result = segmenter.segment(volume, modality="ct", affine=AFFINE)
        assert list(tmp_path.iterdir())  # saving reads it again
        result.save(tmp_path / "out")
        del result
        gc.collect()

        assert [path.name for path in tmp_path.iterdir()] == ["out"]


class TestRead:
    def test_gives_an_image_with_what_its_file_says(
        self, shipped: Callable[[str], Path], scan: Path
    ) -> None:
        image = esp_medsam.read(shipped("CT_small.dcm"))
        assert (image.modality, image.modality_origin, image.unit) == ("ct", "dicom", "HU")
        with pytest.raises(ModalityError, match="modality must be given"):
            esp_medsam.read(scan)
        assert esp_medsam.read(scan, modality="ct").spatial_shape == (42, 48, 5)
