from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from esp_medsam.errors import EmptyInputError, InputNotFoundError
from esp_medsam.io.record import JOURNAL, JOURNALS
from esp_medsam.workflows.report.case import Case
from esp_medsam.workflows.report.gather import gather
from tests.support.reports import target, write_journal, write_result


def items(*folders: Path) -> list[str]:
    return [case.item for case in gather(folders).cases]


def only(folder: Path) -> Case:
    (case,) = gather([folder]).cases
    return case


class TestOrder:
    def test_begins_with_what_should_be_looked_at_first(self, tmp_path: Path) -> None:
        write_result(tmp_path, "good")
        write_result(tmp_path, "better", targets=[target(confidence=0.95)])
        write_result(tmp_path, "empty", targets=[target(confidence=None, voxels=0)])
        write_result(tmp_path, "unsure", targets=[target(confidence=0.6), target("b", 0.9)])
        write_result(tmp_path, "warned", warnings=["Odd."])
        write_result(tmp_path, "warned_worse", warnings=["Odd."], targets=[target(confidence=0.5)])
        write_journal(tmp_path, {"bad.png": "E_CORRUPT"})

        assert [name.removesuffix(".png") for name in items(tmp_path)] == [
            *("bad", "warned_worse", "warned", "unsure", "empty", "good", "better")
        ]


class TestFailures:
    def test_are_told_by_the_journal_without_the_folders_of_the_machine(
        self, tmp_path: Path
    ) -> None:
        write_journal(tmp_path, {"sub/a.png": "E_CORRUPT"})

        case = only(tmp_path)

        assert (case.item, case.code, case.status, case.attempts) == (
            *("sub/a.png", "E_CORRUPT", "failed"),
            1,
        )
        assert case.message == "sub/a.png must be whole; a_seg.json is not."
        assert case.modality == "fundus"

    def test_that_a_later_result_mended_are_not_told(self, tmp_path: Path) -> None:
        write_journal(tmp_path, {"a.png": "E_CORRUPT"})
        write_result(tmp_path, "a")

        assert not only(tmp_path).code

    def test_after_a_result_are_told_with_it(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a")
        write_journal(tmp_path, {"a.png": "E_EXISTS"})

        case = only(tmp_path)

        assert (case.record, case.code, case.findings) == ("a_seg.json", "E_EXISTS", ["failed"])

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "there is no journal"),
            (b"SQLite format 3\0" + b"\xff" * 3000, "the journal is damaged"),
            (b"", "what lies in its place is no journal"),
        ],
    )
    def test_are_unknown_without_a_whole_journal(
        self, tmp_path: Path, content: bytes | None, problem: str
    ) -> None:
        write_result(tmp_path, "a")
        if content is not None:
            (tmp_path / JOURNAL).write_bytes(content)

        (folder,) = gather([tmp_path]).folders

        assert folder.told.problem == problem

    def test_of_a_running_run_are_read_without_touching_its_journal(self, tmp_path: Path) -> None:
        path = write_journal(tmp_path, {"a.png": "E_CORRUPT"})
        running = sqlite3.connect(path, isolation_level=None)
        running.execute("PRAGMA journal_mode = WAL")
        running.execute("UPDATE item SET code = 'E_FORMAT'")  # only in the log by now
        running.execute("BEGIN IMMEDIATE")
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if "-shm" not in p.name}

        assert only(tmp_path).code == "E_FORMAT"

        assert before == {
            p.name: p.read_bytes() for p in tmp_path.iterdir() if "-shm" not in p.name
        }
        running.execute("UPDATE item SET code = 'E_READ'")
        running.execute("COMMIT")
        running.close()


class TestRecords:
    def test_that_hold_what_no_record_does_are_read_as_far_as_they_go(self, tmp_path: Path) -> None:
        wrong = {**target(), "confidence": "high", "voxels": True, "ml": float("nan"), "name": 3}
        write_result(
            tmp_path,
            *("a",),
            targets=[wrong],
            source=[],
            warnings={"x": 1},
            modality=7,
            settings={},
            plausibility=1e999,
        )

        case = only(tmp_path)

        assert case.item == "a_seg.json"
        assert case.targets[0][1:6] == (None, None, None, None, None)

    def test_that_are_damaged_are_told(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a")
        path = tmp_path / "a_seg.json"
        path.write_text(path.read_text()[:200])

        assert (only(tmp_path).status, only(tmp_path).findings) == ("damaged", ["failed"])

    def test_of_other_programs_and_commands_are_left_out(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a")
        (tmp_path / "other_seg.json").write_text("{}")
        (tmp_path / "b_seg.json").write_text(
            json.dumps({"software": "esp-medsam 0.1.0", "segments": []})
        )

        assert items(tmp_path) == ["a.png"]

    def test_whose_files_are_missing_or_changed_say_so(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a")
        write_result(tmp_path, "b")
        (tmp_path / "a_seg.png").unlink()
        (tmp_path / "b_seg.png").write_bytes(b"other mask")

        first, second = gather([tmp_path]).cases

        assert first.warnings == ("A file of this result is missing: a_seg.png.",)
        assert second.warnings == (
            "A file of this result was changed since it was written: b_seg.png.",
        )

    def test_of_dicom_are_called_by_folder_and_volume_as_in_journals(self, tmp_path: Path) -> None:
        write_result(tmp_path, "1.2", source={"path": "."}, volume="1.2")
        write_result(tmp_path, "x/1.3", source={"path": "x"}, volume="1.3")

        assert items(tmp_path) == ["(1.2)", "x (1.3)"]


class TestFolders:
    def test_are_merged_and_told_apart_by_the_ends_of_their_paths(self, tmp_path: Path) -> None:
        for place in ("x/out", "y/out", "z"):
            write_result(tmp_path / place, "a")

        found = gather([tmp_path / "x/out", tmp_path / "y/out", tmp_path / "z"])

        assert [folder.name for folder in found.folders] == ["x/out", "y/out", "z"]
        assert [case.folder for case in found.cases] == [0, 1, 2]

    def test_below_others_count_once_and_on_their_own_if_a_run_wrote_to_them(
        self, tmp_path: Path
    ) -> None:
        write_result(tmp_path / "out", "a")
        write_result(tmp_path / "out/own", "sub/b")
        write_journal(tmp_path / "out/own", {"c.png": "E_CORRUPT"})

        found = gather([tmp_path / "out", tmp_path / "out/own"])

        assert [folder.name for folder in found.folders] == ["out", "own"]
        assert [(case.folder, case.item, case.record) for case in found.cases] == [
            (1, "c.png", ""),
            (0, "a.png", "a_seg.json"),
            (1, "sub/b.png", "sub/b_seg.json"),
        ]

    def test_with_names_that_are_no_utf_8_are_read(self, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xff"))
        try:
            write_result(folder, "a")
        except OSError:
            pytest.skip("the file system takes UTF-8 alone")

        (found,) = gather([folder]).folders

        assert found.name == "o\\udcff"

    def test_without_results_or_missing_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(EmptyInputError, match="holds neither"):
            gather([tmp_path])
        with pytest.raises(InputNotFoundError, match="OUT must be an existing folder"):
            gather([tmp_path / "none"])


class TestShares:
    def test_are_told_together(self, tmp_path: Path) -> None:
        for number, name in ((1, "a.png"), (2, "b.png")):
            path = write_journal(tmp_path, {name: "E_CORRUPT"})
            path.rename(tmp_path / f"{JOURNALS}-{number}-of-2.sqlite")

        assert items(tmp_path) == ["a.png", "b.png"]
        (folder,) = gather([tmp_path]).folders
        assert len(folder.told.runs) == 2
        assert not folder.told.problem

    def test_of_one_folder_count_as_the_run_that_began_last_says(self, tmp_path: Path) -> None:
        write_journal(tmp_path, {"a.png": "E_CORRUPT"}).rename(
            tmp_path / f"{JOURNALS}-1-of-2.sqlite"
        )
        write_journal(tmp_path, {"a.png": "E_TOO_LARGE"})

        assert only(tmp_path).code == "E_TOO_LARGE"
