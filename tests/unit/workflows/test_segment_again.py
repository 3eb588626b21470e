"""What a run does with the results of earlier ones."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import PIL.Image
import pytest

from esp_medsam.workflows.journal import Journal
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.segment import SegmentRun
from tests.support.segmentation import write_bright


Build = Callable[..., SegmentRun]


class TestResultsOfEarlierRuns:
    def test_done_items_are_kept(self, build_segmentation: Build, tmp_path: Path) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())
        before = (tmp_path / "out/a_seg.png").stat().st_mtime_ns

        (result,) = build_segmentation().results()

        assert result.status == "kept"
        assert (tmp_path / "out/a_seg.png").stat().st_mtime_ns == before

    def test_preview_asked_for_later_is_made(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())

        (made,) = build_segmentation(preview=True).results()
        (kept,) = build_segmentation(preview=True).results()

        assert (made.status, kept.status) == ("done", "kept")
        assert (tmp_path / "out/a_seg_preview.png").is_file()

    def test_preview_of_a_replaced_result_goes_with_it(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation(preview=True).results())

        (kept,) = build_segmentation().results()
        (replaced,) = build_segmentation(overwrite=True).results()

        assert (kept.status, replaced.status) == ("kept", "done")
        assert not (tmp_path / "out/a_seg_preview.png").exists()

    @pytest.mark.parametrize("targets", [None, "all"])
    def test_result_under_the_name_of_earlier_versions_is_kept(
        self, build_segmentation: Build, tmp_path: Path, targets: str | None
    ) -> None:
        write_bright(tmp_path / "in/old.png")
        list(build_segmentation(targets=targets).results())
        again = build_segmentation()
        items = (replace(item, name="new", other_names=("old",)) for item in again.plans.items)
        again.plans = Plans(Plan(tuple(items)))

        (result,) = again.results()

        assert (result.status, result.record) == ("kept", str(tmp_path / "out/old_seg.json"))
        assert not (tmp_path / "out/new_seg.json").exists()

    @pytest.mark.parametrize("first", ["uid", "readable"])
    def test_result_counts_under_each_name_that_an_option_gives(
        self, build_segmentation: Build, tmp_path: Path, shipped: Callable[[str], Path], first: str
    ) -> None:
        (tmp_path / "in/a.dcm").write_bytes(shipped("CT_small.dcm").read_bytes())
        second = "readable" if first == "uid" else "uid"
        (made,) = build_segmentation(modality="ct", targets="all", names=first).results()

        (kept,) = build_segmentation(modality="ct", targets="all", names=second).results()
        (again,) = build_segmentation(modality="ct", targets="all", names=first).results()

        assert [made.status, kept.status, again.status] == ["done", "kept", "kept"]
        assert made.record == kept.record == again.record
        assert made.record is not None
        assert Path(made.record).name.startswith("CT_1_seg" if first == "readable" else "1.3.6.1.4")
        assert len(list((tmp_path / "out").glob("*_seg.json"))) == 1

    def test_result_under_a_former_name_that_differs_stands_in_no_way(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/old.png")
        list(build_segmentation(modality="xray").results())
        again = build_segmentation(modality="ultrasound")
        items = (replace(item, name="new", other_names=("old",)) for item in again.plans.items)
        again.plans = Plans(Plan(tuple(items)))

        (result,) = again.results()

        assert (result.status, result.record) == ("done", str(tmp_path / "out/new_seg.json"))

    def test_preview_that_is_not_ours_is_kept_and_the_old_result_too(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())
        theirs = tmp_path / "out/a_seg_preview.png"
        theirs.write_bytes(b"another's")

        (refused,) = build_segmentation(preview=True).results()
        (kept,) = build_segmentation().results()

        assert (refused.code, kept.status) == ("E_EXISTS", "kept")
        assert theirs.read_bytes() == b"another's"

        (replaced,) = build_segmentation(preview=True, overwrite=True).results()
        assert replaced.status == "done"
        with PIL.Image.open(theirs) as drawn:
            assert drawn.format == "PNG"

    @pytest.mark.parametrize("option", [{"modality": "fundus"}, {"input_size": [32, 96]}])
    def test_f22_other_settings_fail_and_name_overwrite(
        self, build_segmentation: Build, tmp_path: Path, option: dict[str, object]
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())

        (refused,) = build_segmentation(**option).results()
        (replaced,) = build_segmentation(**option, overwrite=True).results()

        assert refused.code == "E_EXISTS"
        assert "`overwrite`" in refused.message
        assert replaced.status == "done"

    def test_copy_of_input_and_outputs_is_kept(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())
        for folder in ("in", "out"):
            shutil.copytree(
                tmp_path / folder, tmp_path / "copy" / folder, copy_function=shutil.copy
            )
        options = {"dataset_dir": f"{tmp_path}/copy/in", "output_dir": f"{tmp_path}/copy/out"}

        (result,) = build_segmentation(**options).results()

        assert result.status == "kept"

    @pytest.mark.parametrize("damage", [None, b""])
    def test_result_that_is_gone_or_empty_is_done_again(
        self, build_segmentation: Build, tmp_path: Path, damage: bytes | None
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())
        mask = tmp_path / "out/a_seg.png"
        whole = mask.read_bytes()
        mask.unlink()
        if damage is not None:
            mask.write_bytes(damage)

        (result,) = build_segmentation().results()

        assert result.status == "done"
        assert mask.read_bytes() == whole

    def test_result_that_was_corrected_by_hand_stays(
        self, build_segmentation: Build, tmp_path: Path
    ) -> None:
        write_bright(tmp_path / "in/a.png")
        list(build_segmentation().results())
        (tmp_path / "out/a_seg.png").write_bytes(b"corrected")

        (result,) = build_segmentation().results()

        assert (result.status, result.code) == ("failed", "E_EXISTS")
        assert (tmp_path / "out/a_seg.png").read_bytes() == b"corrected"


class TestFailuresOfEarlierRuns:
    @pytest.fixture
    def statuses(self, build_segmentation: Build, tmp_path: Path) -> Callable[..., list[str]]:
        """Return a function that runs over a good and a bad picture and says what came of them."""
        write_bright(tmp_path / "in/a.png")
        (tmp_path / "in/b.png").write_bytes(b"no picture")

        def run(retries: int | None) -> list[str]:
            opened = partial(Journal, tmp_path / "journal.sqlite", tmp_path / "in", {})
            return [
                f"{result.status} {result.message[-24:]}".strip()
                for result in build_segmentation().results(journal=opened, retries=retries)
            ]

        return run

    def attempts(self, folder: Path) -> int:
        with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
            found = database.execute("SELECT attempts FROM item WHERE item = 'b.png'").fetchone()
        return int(found[0])

    def test_are_tried_once_by_each_run(
        self, statuses: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        for number in (1, 2, 3):
            (_, failed) = statuses(None)

            assert failed.startswith("failed")
            assert self.attempts(tmp_path) == number

    def test_are_tried_so_often_over_all_runs(
        self, statuses: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        for retries, attempts in ((0, 1), (0, 1), (1, 2), (3, 4), (3, 4)):
            statuses(retries)

            assert self.attempts(tmp_path) == attempts

        assert statuses(3) == ["kept", "failed allow more with `retry`."]

    def test_are_tried_anew_when_the_input_has_changed(
        self, statuses: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        statuses(0)
        write_bright(tmp_path / "in/b.png")

        assert statuses(0) == ["kept", "done"]
