from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from torch import Tensor

from esp_medsam.errors import OutputError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.pipeline import build_run
from esp_medsam.workflows.results import failure, line_of, summary
from esp_medsam.workflows.segment import SegmentRun
from tests.support.networks import BrightIsForeground


DIRS = {"dataset_dir": "in", "output_dir": "out"}


@pytest.fixture
def build(tmp_path: Path, table: ModalityTable) -> Callable[..., SegmentRun]:
    """Builds the bundle's own pipeline around a network of the test's, from in/ to out/."""
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.pt").write_bytes(b"weights")

    def build_(**options: object) -> SegmentRun:
        settings: dict[str, object] = {
            "dataset_dir": str(tmp_path / "in"),
            "output_dir": str(tmp_path / "out"),
            "ckpt_path": str(tmp_path / "weights.pt"),
            "modality": "xray",
            "network": BrightIsForeground(table),
            "input_size": [64, 64],
            "pixel_mean": [0.0, 0.0, 0.0],
            "pixel_std": [1.0, 1.0, 1.0],
            "device": "cpu",
        }
        return build_run(**{**settings, **options})  # type: ignore[arg-type]

    return build_


def picture(path: Path, seed: int = 0) -> np.ndarray:
    """Write a gray picture with a bright rectangle; return where it is bright."""
    rows, columns = 20 + seed, 30
    pixels = np.zeros((rows, columns), np.uint8)
    pixels[5:12, 4:20] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return pixels > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


class TestSegmentation:
    def test_mask_of_a_picture_lies_on_its_grid(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        bright = picture(tmp_path / "in/x/a.png")

        (result,) = build().results()

        mask = np.array(PIL.Image.open(tmp_path / "out/x/a_seg.png"))
        assert result.status == "done"
        assert mask.shape == bright.shape
        assert dice(mask == 1, bright) > 0.9
        assert result.record == str(tmp_path / "out/x/a_seg.json")
        assert json.loads(Path(result.record).read_text())["settings"]["input_size"] == [64, 64]

    @pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA", "AIR"])
    def test_mask_of_a_volume_keeps_affine_and_shape_whatever_its_axes(
        self, build: Callable[..., SegmentRun], tmp_path: Path, codes: str
    ) -> None:
        volume = np.zeros((24, 20, 6), np.int16)
        volume[4:15, 6:14, 1:4] = 400
        source = nib.Nifti1Image(volume, np.diag([0.8, 0.9, 4.0, 1.0]))
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(source.as_reoriented(turn), tmp_path / "in/a.nii.gz")

        (result,) = build(modality="ct", targets=["liver"]).results()

        assert result.status == "done"
        mask, image = (nib.load(tmp_path / name) for name in ("out/a_seg.nii.gz", "in/a.nii.gz"))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
        assert dice(np.asarray(mask.dataobj) == 1, np.asarray(image.dataobj) == 400) > 0.9

    def test_l2_bad_file_fails_alone_and_the_rest_is_done(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        (tmp_path / "in/b.png").write_bytes(b"not a picture")
        picture(tmp_path / "in/c.png")

        results = list(build().results())

        assert [result.status for result in results] == ["done", "failed", "done"]
        assert results[1].code == "E_FORMAT"
        assert "b.png" in results[1].message
        assert not list((tmp_path / "out").glob("b*"))

    def test_error_of_the_network_fails_its_item_alone(
        self, build: Callable[..., SegmentRun], tmp_path: Path, table: ModalityTable
    ) -> None:
        class Fragile(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                if image[0, 0].bool().sum() > 500:
                    msg = "secret of the patient"
                    raise KeyError(msg)
                return super().encode(image, modality)

        PIL.Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "in/a.png")
        PIL.Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "in/b.png")

        first, second = build(network=Fragile(table)).results()

        assert (first.code, second.status) == ("E_INTERNAL", "done")
        assert "KeyError at test_segment.py" in first.message
        assert "secret" not in first.message

    def test_done_items_are_kept(self, build: Callable[..., SegmentRun], tmp_path: Path) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())
        before = (tmp_path / "out/a_seg.png").stat().st_mtime_ns

        (result,) = build().results()

        assert result.status == "kept"
        assert (tmp_path / "out/a_seg.png").stat().st_mtime_ns == before

    def test_preview_asked_for_later_is_made(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())

        (made,) = build(preview=True).results()
        (kept,) = build(preview=True).results()

        assert (made.status, kept.status) == ("done", "kept")
        assert (tmp_path / "out/a_seg_preview.png").is_file()

    def test_preview_of_a_replaced_result_goes_with_it(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build(preview=True).results())

        (kept,) = build().results()
        (replaced,) = build(overwrite=True).results()

        assert (kept.status, replaced.status) == ("kept", "done")
        assert not (tmp_path / "out/a_seg_preview.png").exists()

    @pytest.mark.parametrize("targets", [None, "all"])
    def test_result_under_the_name_of_earlier_versions_is_kept(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        targets: str | None,
    ) -> None:
        picture(tmp_path / "in/old.png")
        list(build(targets=targets).results())
        again = build()
        again.items = [replace(item, name="new", other_names=("old",)) for item in again.items]

        (result,) = again.results()

        assert (result.status, result.record) == ("kept", str(tmp_path / "out/old_seg.json"))
        assert not (tmp_path / "out/new_seg.json").exists()

    @pytest.mark.parametrize("first", ["uid", "readable"])
    def test_result_counts_under_each_name_that_an_option_gives(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        shipped: Callable[[str], Path],
        first: str,
    ) -> None:
        (tmp_path / "in/a.dcm").write_bytes(shipped("CT_small.dcm").read_bytes())
        second = "readable" if first == "uid" else "uid"
        (made,) = build(modality="ct", targets="all", names=first).results()

        (kept,) = build(modality="ct", targets="all", names=second).results()
        (again,) = build(modality="ct", targets="all", names=first).results()

        assert [made.status, kept.status, again.status] == ["done", "kept", "kept"]
        assert made.record == kept.record == again.record
        assert made.record is not None
        assert Path(made.record).name.startswith("CT_1_seg" if first == "readable" else "1.3.6.1.4")
        assert len(list((tmp_path / "out").glob("*_seg.json"))) == 1

    def test_result_under_a_former_name_that_differs_stands_in_no_way(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/old.png")
        list(build(modality="xray").results())
        again = build(modality="ultrasound")
        again.items = [replace(item, name="new", other_names=("old",)) for item in again.items]

        (result,) = again.results()

        assert (result.status, result.record) == ("done", str(tmp_path / "out/new_seg.json"))

    def test_preview_that_is_not_ours_is_kept_and_the_old_result_too(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())
        theirs = tmp_path / "out/a_seg_preview.png"
        theirs.write_bytes(b"another's")

        (refused,) = build(preview=True).results()
        (kept,) = build().results()

        assert (refused.code, kept.status) == ("E_EXISTS", "kept")
        assert theirs.read_bytes() == b"another's"

        (replaced,) = build(preview=True, overwrite=True).results()
        assert replaced.status == "done"
        with PIL.Image.open(theirs) as drawn:
            assert drawn.format == "PNG"

    def test_summary_counts_those_with_nothing_found(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        dark = np.zeros((9, 9), np.uint8)
        dark[0, 0] = 1
        PIL.Image.fromarray(dark).save(tmp_path / "in/b.png")

        results = list(build().results())

        assert [result.empty for result in results] == [False, True]
        assert summary(results) == "2 done (1 with nothing found), 0 kept, 0 failed"
        assert summary(results, other_modalities={"MR": 1, "PT": 2}).endswith(
            ", 0 failed; left alone: 3 DICOM volumes of other modalities (1 MR, 2 PT)"
        )
        assert summary(list(build().results())) == "0 done, 2 kept, 0 failed"

    def test_second_run_to_the_same_folder_is_refused(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            picture(tmp_path / f"in/{name}.png")
        first = build().results()
        next(first)

        with pytest.raises(OutputError, match="out must be written by one run at a time"):
            list(build().results())

        assert [result.status for result in first] == ["done"]
        assert [result.status for result in build().results()] == ["kept", "kept"]

    @pytest.mark.parametrize("option", [{"modality": "fundus"}, {"input_size": [32, 96]}])
    def test_f22_other_settings_fail_and_name_overwrite(
        self, build: Callable[..., SegmentRun], tmp_path: Path, option: dict[str, object]
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())

        (refused,) = build(**option).results()
        (replaced,) = build(**option, overwrite=True).results()

        assert refused.code == "E_EXISTS"
        assert "--overwrite" in refused.message
        assert replaced.status == "done"

    def test_inputs_that_share_an_output_fail(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        picture(tmp_path / "in/a.bmp")
        picture(tmp_path / "in/b.png")

        segmentation = build()
        results = list(segmentation.results())

        assert len(segmentation) == 3
        assert sorted(str(result.code) for result in results) == [
            "E_NAME_CLASH",
            "E_NAME_CLASH",
            "None",
        ]

    def test_output_folder_may_be_the_input_folder(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        options = {"output_dir": str(tmp_path / "in"), "preview": True, "split_targets": True}

        first = list(build(**options).results())
        second = list(build(**options).results())

        assert [r.status for r in first + second] == ["done", "kept"]

    def test_c4_output_never_replaces_an_input(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        for name in ("a", "a_seg", "b"):
            picture(tmp_path / f"in/{name}.png")
        theirs = (tmp_path / "in/a_seg.png").read_bytes()
        options = {"output_dir": str(tmp_path / "in"), "overwrite": True}

        results = {Path(r.path).name: r for r in build(**options).results()}

        assert (results["a.png"].code, results["a_seg.png"].status) == ("E_OUTPUT", "done")
        assert results["b.png"].status == "done"
        assert (tmp_path / "in/a_seg.png").read_bytes() == theirs

    def test_f16_input_that_changes_while_it_is_segmented_fails_and_has_no_result(
        self, build: Callable[..., SegmentRun], tmp_path: Path, table: ModalityTable
    ) -> None:
        class Slow(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                picture(tmp_path / "in/a.png", seed=7)
                return super().encode(image, modality)

        picture(tmp_path / "in/a.png")

        (changed,) = build(network=Slow(table)).results()
        (done,) = build().results()

        assert changed.code == "E_INPUT_CHANGED"
        assert done.status == "done"  # not kept: there was no result
        mask = np.array(PIL.Image.open(tmp_path / "out/a_seg.png"))
        assert mask.shape == (27, 30)

    def test_f16_input_that_vanishes_while_others_are_segmented_fails_alone(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        for name in ("a", "b", "c"):
            picture(tmp_path / f"in/{name}.png")
        results = build().results()
        first = next(results)
        (tmp_path / "in/b.png").unlink()

        assert [r.code for r in (first, *results)] == [None, "E_NOT_FOUND", None]

    def test_copy_of_input_and_outputs_is_kept(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())
        for folder in ("in", "out"):
            shutil.copytree(
                tmp_path / folder, tmp_path / "copy" / folder, copy_function=shutil.copy
            )
        options = {name: str(tmp_path / "copy" / place) for name, place in DIRS.items()}

        (result,) = build(**options).results()

        assert result.status == "kept"

    @pytest.mark.parametrize("damage", [None, b""])
    def test_result_that_is_gone_or_empty_is_done_again(
        self, build: Callable[..., SegmentRun], tmp_path: Path, damage: bytes | None
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())
        mask = tmp_path / "out/a_seg.png"
        whole = mask.read_bytes()
        mask.unlink()
        if damage is not None:
            mask.write_bytes(damage)

        (result,) = build().results()

        assert result.status == "done"
        assert mask.read_bytes() == whole

    def test_result_that_was_corrected_by_hand_stays(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / "in/a.png")
        list(build().results())
        (tmp_path / "out/a_seg.png").write_bytes(b"corrected")

        (result,) = build().results()

        assert (result.status, result.code) == ("failed", "E_EXISTS")
        assert (tmp_path / "out/a_seg.png").read_bytes() == b"corrected"

    def test_what_killed_runs_left_half_written_is_removed(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        for folder in ("", "x"):
            picture(tmp_path / "in" / folder / "a.png")
            (tmp_path / "out" / folder).mkdir()
            (tmp_path / "out" / folder / ".esp-medsam-1234.tmp").touch()

        list(build().results())

        assert not list((tmp_path / "out").rglob(".esp-medsam-*"))

    def test_name_that_is_too_long_fails_alone_before_it_is_segmented(
        self, build: Callable[..., SegmentRun], tmp_path: Path
    ) -> None:
        picture(tmp_path / f"in/{'n' * 250}.png")
        picture(tmp_path / "in/o.png")

        first, second = build().results()

        assert (first.code, second.status) == ("E_OUTPUT", "done")
        assert "must have at most 255 bytes" in first.message

    def test_f3_full_disk_ends_the_run_and_says_what_was_not_tried(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name in ("a", "b", "c", "d"):
            picture(tmp_path / f"in/{name}.png")
        fsync = os.fsync

        def full(descriptor: int) -> None:
            if (tmp_path / "out/a_seg.json").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        segmentation = build()

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
        self, build: Callable[..., SegmentRun], tmp_path: Path, table: ModalityTable
    ) -> None:
        class Interrupted(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor) -> Tensor:
                raise KeyboardInterrupt

        picture(tmp_path / "in/a.png")

        with pytest.raises(KeyboardInterrupt):
            list(build(network=Interrupted(table)).results())


class TestRun:
    def test_says_once_what_it_leaves_alone(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        picture(tmp_path / "in/a.png")
        (tmp_path / "in/notes.txt").touch()

        with caplog.at_level(logging.INFO):
            build().run()

        told = [message for message in caplog.messages if "notes.txt" in message]
        assert told == ["Left alone: 1 other file (notes.txt), 0 outputs of earlier runs."]

    def test_ends_quietly_where_all_went_well(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        picture(tmp_path / "in/a.png")

        build().run()

        assert capsys.readouterr() == ("", "")

    def test_file_names_break_no_line(
        self, build: Callable[..., SegmentRun], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "in/a\n\x1b[2J.png").write_bytes(b"x")
        (tmp_path / "in/b\n\udcff.txt").touch()

        with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
            build().run()

        assert "\x1b" not in caplog.text
        assert "\udcff" not in caplog.text
        assert "a\\n\\x1b[2J.png" in caplog.text

    def test_logs_a_table_of_failures_and_ends_with_one_line(
        self,
        build: Callable[..., SegmentRun],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        picture(tmp_path / "in/a.png")
        (tmp_path / "in/b.png").touch()

        with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
            build().run()

        assert ended.value.code == "1 of 2 items failed; see the table above."
        table = caplog.records[-1].message
        assert table.startswith("Failed:\n  E_CORRUPT  ")
        assert "b.png" in table
        assert "1 done, 0 kept, 1 failed." in caplog.messages


class TestResults:
    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory")])
    def test_memory_that_ran_out_is_told_as_such(self, error: Exception) -> None:
        wrapper = RuntimeError("applying transform")
        wrapper.__cause__ = error

        result = failure("a.png", wrapper)

        assert result.code == "E_TOO_LARGE"
        assert "slice_batch" in result.message

    def test_unexpected_error_tells_type_and_place_alone(self) -> None:
        result = failure("a.png", RuntimeError("Doe^John"))

        assert "Doe" not in result.message
        assert line_of(result).startswith("failed a.png: E_INTERNAL: unexpected RuntimeError")

    def test_log_tells_types_and_places_and_no_text_of_any_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def read() -> None:
            try:
                raise ValueError("Canary^Jane")  # noqa: EM101
            except ValueError as error:
                raise KeyError("19700101") from error  # noqa: EM101

        with caplog.at_level(logging.DEBUG):
            try:
                read()
            except KeyError as error:
                error.__context__ = LookupError("Doe")
                failure("a.png", error)

        (told,) = caplog.messages
        assert re.fullmatch(
            r"a\.png: KeyError < \S*test_segment\.py:\d+ < \S*test_segment\.py:\d+; "
            r"behind it ValueError < \S*test_segment\.py:\d+",
            told,
        )
        assert caplog.records[0].exc_info is None

    def test_loop_of_causes_ends(self) -> None:
        first, second = ValueError(), ValueError()
        first.__cause__, second.__cause__ = second, first

        assert failure("a.png", first).code == "E_INTERNAL"
