"""One segmenter for many images, and what becomes of its results."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

import esp_medsam
from esp_medsam.errors import OptionError, OutputExistsError, chain_of
from esp_medsam.io import in_memory


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

        with pytest.raises(OptionError, match="it was closed"):
            closed.segment("a.png", modality="xray")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"ckpt_path": "none.pt"}, "none.pt"),
            ({"input_size": (65, 65)}, "input_size"),
            ({"nothing": 1}, "nothing must be left out"),
            ({"output_dir": "out"}, "output_dir must be left out"),
            ({"output_format": "bmp"}, "output_format"),
            ({"device": "cuda:99"}, "device must .*cuda:99"),
            ({"config": "none.yaml"}, "none.yaml"),
        ],
    )
    def test_refuses_what_it_cannot_work_with(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(esp_medsam.EspMedSamError, match=said) as caught:
            esp_medsam.Segmenter(**given)

        wrapped = [one for one in chain_of(caught.value) if isinstance(one, RuntimeError)]
        assert wrapped == []

    def test_says_in_our_own_words_what_monai_finds_wrong_in_a_config(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("network_def: {_target_: nowhere.Network}\n")

        with pytest.raises(OptionError, match=r"nowhere\.Network"):
            esp_medsam.Segmenter(config=tmp_path / "c.yaml", trust_config=True)


class TestResult:
    @pytest.fixture
    def result(
        self, segmenter: esp_medsam.Segmenter, volume: np.ndarray, affine: np.ndarray
    ) -> esp_medsam.Result:
        return segmenter.segment(volume, modality="ct", targets="all", affine=affine)

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
        with pytest.raises(OutputExistsError, match=r"image_seg\.json .*`overwrite`"):
            result.save(tmp_path, "nifti")
        result.save(tmp_path, "nifti", overwrite=True)

    @pytest.mark.parametrize("setting", ["input_size", "ckpt_path", "ct_input", "output_dir"])
    def test_what_made_it_cannot_be_set_when_it_is_saved(
        self, result: esp_medsam.Result, tmp_path: Path, setting: str
    ) -> None:
        with pytest.raises(OptionError, match=f"got {setting}. Pass it to Segmenter, and segment"):
            result.save(tmp_path / "out", **{setting: "x"})
        assert not (tmp_path / "out").exists()

    def test_what_was_segmented_is_what_is_saved(
        self, result: esp_medsam.Result, tmp_path: Path, affine: np.ndarray
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
        np.testing.assert_allclose(written.affine, affine, atol=1e-5)
        assert result.record["targets"]

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_stays_in_its_process(
        self, result: esp_medsam.Result, copied: Callable[[Any], Any]
    ) -> None:
        with pytest.raises(OptionError, match="cannot be copied or pickled"):
            copied(result)

    def test_is_called_as_asked(
        self,
        segmenter: esp_medsam.Segmenter,
        volume: np.ndarray,
        tmp_path: Path,
        affine: np.ndarray,
    ) -> None:
        for name in ("case_1", "case_2"):
            segmenter.segment(volume, modality="ct", affine=affine, name=name, output=tmp_path)

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

    def test_shows_what_it_saves_however_its_slices_were_chosen(
        self, scan: Path, weights: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "c.yaml").write_text("slice_axis: coronal\n")
        given = {"input_size": (64, 64), "device": "cpu", "ckpt_path": str(weights)}
        with esp_medsam.Segmenter(config=tmp_path / "c.yaml", **given) as segmenter:
            result = segmenter.segment(scan, modality="ct", targets="all")

        result.save(tmp_path / "out", preview=True)

        saved = np.asarray(PIL.Image.open(tmp_path / "out/scan_seg_preview.png"))
        np.testing.assert_array_equal(np.asarray(result.preview().convert("RGB")), saved)

    def test_leaves_nothing_behind(
        self,
        segmenter: esp_medsam.Segmenter,
        volume: np.ndarray,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        affine: np.ndarray,
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        result = segmenter.segment(volume, modality="ct", affine=affine)
        assert list(tmp_path.iterdir())  # saving reads it again
        result.save(tmp_path / "out")
        del result
        gc.collect()

        assert [path.name for path in tmp_path.iterdir()] == ["out"]
