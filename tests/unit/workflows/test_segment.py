from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from torch import Tensor

from esp_medsam.errors import OutputError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.left_alone import volumes_of_others
from esp_medsam.workflows.results import Tally, not_tried_text, summary
from esp_medsam.workflows.segment import SegmentRun
from tests.support.networks import BrightIsForeground
from tests.support.segmentation import write_bright


Build = Callable[..., SegmentRun]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


class TestSegmentation:
    def test_mask_of_a_picture_lies_on_its_grid(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        bright = write_bright(tmp_path / "in/x/a.png")

        (result,) = build_segmentation().results()

        mask = np.array(PIL.Image.open(tmp_path / "out/x/a_seg.png"))
        assert result.status == "done"
        assert mask.shape == bright.shape
        assert dice(mask == 1, bright) > 0.9
        assert result.record == str(tmp_path / "out/x/a_seg.json")
        assert json.loads(Path(result.record).read_text())["settings"]["input_size"] == [64, 64]

    @pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA", "AIR"])
    def test_mask_of_a_volume_keeps_affine_and_shape_whatever_its_axes(
        self, build_segmentation: Build, tmp_path: Path, codes: str
    ) -> None:
        volume = np.zeros((24, 20, 6), np.int16)
        volume[4:15, 6:14, 1:4] = 400
        source = nib.Nifti1Image(volume, np.diag([0.8, 0.9, 4.0, 1.0]))
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(source.as_reoriented(turn), tmp_path / "in/a.nii.gz")

        (result,) = build_segmentation(modality="ct", targets=["liver"]).results()

        assert result.status == "done"
        mask, image = (nib.load(tmp_path / name) for name in ("out/a_seg.nii.gz", "in/a.nii.gz"))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
        assert dice(np.asarray(mask.dataobj) == 1, np.asarray(image.dataobj) == 400) > 0.9

    def test_l2_bad_file_fails_alone_and_the_rest_is_done(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        (tmp_path / "in/b.png").write_bytes(b"not a picture")
        write_bright(tmp_path / "in/c.png")

        results = list(build_segmentation().results())

        assert [result.status for result in results] == ["done", "failed", "done"]
        assert results[1].code == "E_FORMAT"
        assert "b.png" in results[1].message
        assert not list((tmp_path / "out").glob("b*"))

    def test_error_of_the_network_fails_its_item_alone(
        self, build_segmentation: Build, tmp_path: Path, table: ModalityTable
    ) -> None:
        class Fragile(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                if image[0, 0].bool().sum() > 500:
                    msg = "secret of the patient"
                    raise KeyError(msg)
                return super().encode(image, modality)

        PIL.Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "in/a.png")
        PIL.Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "in/b.png")

        first, second = build_segmentation(network=Fragile(table)).results()

        assert (first.code, second.status) == ("E_INTERNAL", "done")
        assert "KeyError at test_segment.py" in first.message
        assert "secret" not in first.message

    def test_summary_counts_those_with_nothing_found(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        dark = np.zeros((9, 9), np.uint8)
        dark[0, 0] = 1
        PIL.Image.fromarray(dark).save(tmp_path / "in/b.png")

        results = list(build_segmentation().results())

        assert [result.empty for result in results] == [False, True]
        assert summary(Tally(results)) == "2 done (1 with nothing found), 0 kept, 0 failed"
        assert summary(Tally(results), not_tried=not_tried_text(0, is_whole=False)).endswith(
            ", 0 failed, 0 not tried, nor any in further folders, because the disk is full"
        )
        assert summary(Tally(results), left_alone=volumes_of_others({"MR": 1, "PT": 2})).endswith(
            ", 0 failed; left alone: 3 DICOM volumes of other modalities (1 MR, 2 PT)"
        )
        assert summary(Tally(build_segmentation().results())) == "0 done, 2 kept, 0 failed"

    def test_second_run_to_the_same_folder_is_refused(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            write_bright(tmp_path / f"in/{name}.png")
        first = build_segmentation().results()
        next(first)

        with pytest.raises(OutputError, match="out must be written by one run at a time"):
            list(build_segmentation().results())

        assert [result.status for result in first] == ["done"]
        assert [result.status for result in build_segmentation().results()] == ["kept", "kept"]

    def test_inputs_that_share_an_output_fail(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        write_bright(tmp_path / "in/a.bmp")
        write_bright(tmp_path / "in/b.png")

        segmentation = build_segmentation()
        results = list(segmentation.results())

        assert len(segmentation) == 3
        assert sorted(str(result.code) for result in results) == [
            "E_NAME_CLASH",
            "E_NAME_CLASH",
            "None",
        ]

    def test_output_folder_may_be_the_input_folder(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        options = {"output_dir": str(tmp_path / "in"), "preview": True, "split_targets": True}

        first = list(build_segmentation(**options).results())
        second = list(build_segmentation(**options).results())

        assert [r.status for r in first + second] == ["done", "kept"]

    def test_c4_output_never_replaces_an_input(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        for name in ("a", "a_seg", "b"):
            write_bright(tmp_path / f"in/{name}.png")
        theirs = (tmp_path / "in/a_seg.png").read_bytes()
        options = {"output_dir": str(tmp_path / "in"), "overwrite": True}

        results = {Path(r.path).name: r for r in build_segmentation(**options).results()}

        assert (results["a.png"].code, results["a_seg.png"].status) == ("E_OUTPUT", "done")
        assert results["b.png"].status == "done"
        assert (tmp_path / "in/a_seg.png").read_bytes() == theirs

    def test_f16_input_that_changes_while_it_is_segmented_fails_and_has_no_result(
        self, build_segmentation: Build, tmp_path: Path, table: ModalityTable
    ) -> None:
        class Slow(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                write_bright(tmp_path / "in/a.png", seed=7)
                return super().encode(image, modality)

        write_bright(tmp_path / "in/a.png")

        (changed,) = build_segmentation(network=Slow(table)).results()
        (done,) = build_segmentation().results()

        assert changed.code == "E_INPUT_CHANGED"
        assert done.status == "done"  # not kept: there was no result
        mask = np.array(PIL.Image.open(tmp_path / "out/a_seg.png"))
        assert mask.shape == (27, 30)

    def test_f16_input_that_vanishes_while_others_are_segmented_fails_alone(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        for name in ("a", "b", "c"):
            write_bright(tmp_path / f"in/{name}.png")
        results = build_segmentation().results()
        first = next(results)
        (tmp_path / "in/b.png").unlink()

        assert [r.code for r in (first, *results)] == [None, "E_NOT_FOUND", None]

    def test_what_killed_runs_left_half_written_is_removed(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        for folder in ("", "x"):
            write_bright(tmp_path / "in" / folder / "a.png")
            (tmp_path / "out" / folder).mkdir()
            (tmp_path / "out" / folder / ".esp-medsam-1234.tmp").touch()

        list(build_segmentation().results())

        assert not list((tmp_path / "out").rglob(".esp-medsam-*"))

    def test_name_that_is_too_long_fails_alone_before_it_is_segmented(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / f"in/{'n' * 250}.png")
        write_bright(tmp_path / "in/o.png")

        first, second = build_segmentation().results()

        assert (first.code, second.status) == ("E_OUTPUT", "done")
        assert "must have at most 255 bytes" in first.message

    def test_f3_full_disk_ends_the_run_and_says_what_was_not_tried(
        self,
        build_segmentation: Build,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name in ("a", "b", "c", "d"):
            write_bright(tmp_path / f"in/{name}.png")
        fsync = os.fsync

        def full(descriptor: int) -> None:
            if (tmp_path / "out/a_seg.json").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        segmentation = build_segmentation()

        with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
            segmentation.run()

        told = "1 of 4 items failed, 2 not tried because the disk is full; see the table above."
        assert ended.value.code == told
        assert "1 done, 0 kept, 1 failed, 2 not tried because the disk is full." in caplog.messages
        assert caplog.messages[-1].startswith("Failed:\n  E_DISK_FULL  ")
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["a_seg.json", "a_seg.png"]
        monkeypatch.undo()
        assert [r.status for r in segmentation.results()] == ["kept", "done", "done", "done"]

    def test_interrupt_ends_the_run(
        self, build_segmentation: Build, tmp_path: Path, table: ModalityTable
    ) -> None:
        class Interrupted(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                raise KeyboardInterrupt

        write_bright(tmp_path / "in/a.png")

        with pytest.raises(KeyboardInterrupt):
            list(build_segmentation(network=Interrupted(table)).results())


class TestRun:
    def test_says_once_what_it_leaves_alone(
        self, build_segmentation: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        (tmp_path / "in/notes.txt").touch()

        with caplog.at_level(logging.INFO):
            build_segmentation().run()

        told = [message for message in caplog.messages if "notes.txt" in message]
        assert told == ["Left alone: 1 other file (notes.txt), 0 outputs of earlier runs."]

    def test_ends_quietly_where_all_went_well(
        self, build_segmentation: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_bright(tmp_path / "in/a.png")

        build_segmentation().run()

        assert capsys.readouterr() == ("", "")

    def test_file_names_break_no_line(
        self, build_segmentation: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "in/a\n\x1b[2J.png").write_bytes(b"x")
        (tmp_path / "in/b\n\udcff.txt").touch()

        with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
            build_segmentation().run()

        assert "\x1b" not in caplog.text
        assert "\udcff" not in caplog.text
        assert "a\\n\\x1b[2J.png" in caplog.text

    def test_logs_a_table_of_failures_and_ends_with_one_line(
        self, build_segmentation: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        (tmp_path / "in/b.png").touch()

        with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
            build_segmentation().run()

        assert ended.value.code == "1 of 2 items failed; see the table above."
        table = caplog.records[-1].message
        assert table.startswith("Failed:\n  E_CORRUPT  ")
        assert "b.png" in table
        assert "1 done, 0 kept, 1 failed." in caplog.messages
