"""Plans of inputs too large for one part."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import EmptyInputError, ModalityConflictError, ReadError
from esp_medsam.io.item import Item
from esp_medsam.workflows.items import IN_TWO_PARTS, JOINED_IN_PARTS, plan_parts
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.search import Search
from esp_medsam.workflows.walk import Part, files_of_part, parts_below
from tests.support.plans import TABLE, plan_items
from tests.support.shipped_dicom import copy_shipped


def in_parts(root: Path, **options: Any) -> Plans:
    asked = {"table": TABLE, "modality": "mri", "files_at_once": 3, **options}
    return plan_parts(root, root.parent / "out", **asked)


def taken(plans: Plans) -> list[str]:
    return [Path(step.path).name for step in plans.steps]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven pictures: two beside one another, and two folders with two and three."""
    for name in ("a.png", "b.png", "p/c.png", "p/d.png", "q/e.png", "q/r/f.png", "q/r/g.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    return tmp_path / "in"


class TestParts:
    @pytest.mark.parametrize(
        ("most_files", "found"),
        [
            (7, [("in", True)]),
            (6, [("in", False), ("p", True), ("q", True)]),
            (2, [("in", False), ("p", True), ("q", False), ("r", True)]),
            (1, [("in", False), ("p", True), ("q", False), ("r", True)]),
        ],
    )
    def test_are_folders_of_few_files_each(
        self, root: Path, most_files: int, found: list[tuple[str, bool]]
    ) -> None:
        parts = list(parts_below(root, most_files))

        assert [(part.folder.name, part.is_whole) for part in parts] == found
        files = [path.name[0] for part in parts for path in files_of_part(part, [])]
        assert "".join(files) == "abcdefg"

    def test_keep_folders_together_whose_names_differ_in_case_alone(self, root: Path) -> None:
        (root / "P").mkdir()

        assert list(parts_below(root, 2)) == [Part(root)]

    def test_leave_an_output_folder_out_that_comes_into_being_meanwhile(self, root: Path) -> None:
        parts = parts_below(root, 2, without=root / "q/out")
        files = [path.name for path in files_of_part(next(parts), [])]
        (root / "q/out").mkdir()
        (root / "q/out/x.png").touch()

        files += [
            path.name for part in parts for path in files_of_part(part, [], without=root / "q/out")
        ]

        assert files == [f"{letter}.png" for letter in "abcdefg"]

    def test_tell_a_folder_that_cannot_be_listed_once(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scandir = os.scandir

        def refused(path: Path) -> Any:
            if Path(path).name == "p":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refused)
        unreadable: list[tuple[Path, OSError]] = []

        for part in parts_below(root, 2):
            list(files_of_part(part, unreadable))

        assert [folder.name for folder, _ in unreadable] == ["p"]

    def test_leave_the_output_folder_out_and_enter_no_link_that_leads_back(
        self, root: Path
    ) -> None:
        (root / "q/up").symlink_to(root)

        parts = list(parts_below(root, 2, without=root / "p"))

        files = [path.name[0] for part in parts for path in files_of_part(part, [])]
        assert "".join(files) == "abefg"


class TestPlans:
    @pytest.mark.parametrize("files_at_once", [1, 2, 3, 7])
    def test_take_the_same_in_parts_as_together(self, root: Path, files_at_once: int) -> None:
        (root / "p/notes.txt").touch()
        plans = in_parts(root, files_at_once=files_at_once)

        together = plan_items(root, root.parent / "out", table=TABLE, modality="mri")
        assert list(plans.steps) == list(together.items)
        assert len(plans) == 7
        assert plans.left_alone.text == "1 other file (notes.txt), 0 outputs of earlier runs"

    def test_find_a_clash_before_the_first_item_of_its_folder(self, root: Path) -> None:
        (root / "p/d.bmp").touch()
        steps = in_parts(root).steps

        assert [Path(next(steps).path).name for _ in range(5)] == [
            *("a.png", "b.png", "d.bmp", "d.png", "c.png")
        ]

    def test_look_into_a_part_when_its_turn_comes(self, root: Path) -> None:
        plans = in_parts(root)

        assert len(plans) == 2
        (root / "q/e.png").unlink()
        assert "e.png" not in taken(plans)

    def test_refuse_a_part_that_cannot_be_planned_and_go_on(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        walk = Search.walk

        def gone(search: Search, part: Part, output_dir: Path | None) -> None:
            if part.folder.name == "p":
                msg = "p is gone."
                raise ReadError(msg)
            walk(search, part, output_dir)

        monkeypatch.setattr(Search, "walk", gone)
        plans = in_parts(root)

        assert taken(plans) == ["a.png", "b.png", "p", "e.png", "f.png", "g.png"]

    def test_spare_the_inputs_of_all_parts_where_outputs_lie_above_them(self, root: Path) -> None:
        (root / "in").mkdir()
        (root / "in/a.png").touch()
        (root / "a_seg.png").touch()

        plans = plan_parts(root, root.parent, table=TABLE, modality="mri", files_at_once=1)

        refused = [step for step in plans.steps if isinstance(step, Refusal)]
        assert [Path(one.path).relative_to(root).as_posix() for one in refused] == ["in/a.png"]

    def test_spare_an_input_of_another_part_that_a_link_leads_to(self, root: Path) -> None:
        out = root.parent / "out/p"
        out.mkdir(parents=True)
        (out / "c_seg.png").touch()
        (root / "zz").symlink_to(out)

        refused = [step for step in in_parts(root).steps if isinstance(step, Refusal)]

        assert [Path(one.path).name for one in refused] == ["c.png"]
        assert str(root / "zz/c_seg.png") in str(refused[0].error)

    def test_refuse_pictures_one_by_one_where_dicom_may_follow(self, root: Path) -> None:
        copy_shipped(root / "q/1.dcm")

        steps = list(in_parts(root, modality=list(TABLE.names)).steps)

        codes = [step.result.code for step in steps if isinstance(step, Refusal)]
        assert codes == ["E_MODALITY"] * 7
        assert [step.modality for step in steps if isinstance(step, Item)] == ["ct"]

    def test_warn_of_a_series_that_lies_in_several_parts(self, tmp_path: Path) -> None:
        for number in (1, 2):
            copy_shipped(tmp_path / f"in/{number}/a.dcm", SOPInstanceUID=f"1.2.{number}")

        plans = in_parts(tmp_path / "in", modality="ct", files_at_once=1, join=["series"])

        first, second = (item.volume for item in plans.items)
        assert first is not None
        assert second is not None
        assert IN_TWO_PARTS not in first.warnings
        assert IN_TWO_PARTS in second.warnings
        assert plans.left_alone.text == JOINED_IN_PARTS

    def test_end_with_no_error_of_a_part(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        walk = Search.walk

        def fails(search: Search, part: Part, output_dir: Path | None) -> None:
            assert part.folder.name != "p"
            walk(search, part, output_dir)

        monkeypatch.setattr(Search, "walk", fails)

        (refused,) = (s for s in in_parts(root).steps if isinstance(s, Refusal))
        assert refused.result.code == "E_INTERNAL"

    def test_let_go_what_is_done(self, root: Path) -> None:
        steps = in_parts(root).steps
        first = weakref.ref(next(steps))
        for _ in range(3):
            next(steps)

        gc.collect()
        assert first() is None

    def test_say_whether_all_is_planned(self, root: Path) -> None:
        plans = in_parts(root)
        steps = plans.steps
        next(steps)

        assert not plans.is_whole
        assert len(list(steps)) == 6
        assert plans.is_whole

    def test_of_several_parts_are_gone_through_once(self, root: Path) -> None:
        plans = in_parts(root)
        taken(plans)

        with pytest.raises(RuntimeError, match="plan again"):
            taken(plans)

    def test_of_one_part_may_be_gone_through_again(self, root: Path) -> None:
        plans = in_parts(root, files_at_once=7)

        assert taken(plans) == taken(plans)

    def test_without_anything_to_take_say_what_there_is(self, root: Path) -> None:
        for path in root.rglob("*.png"):
            path.rename(path.with_suffix(".txt"))

        with pytest.raises(EmptyInputError, match=r"got 7 other files \(a.txt, b.txt, .*\), 0"):
            in_parts(root)

    def test_of_other_modalities_alone_say_so(self, tmp_path: Path) -> None:
        copy_shipped(tmp_path / "in/a/1.dcm")
        copy_shipped(tmp_path / "in/b/1.dcm")

        with pytest.raises(ModalityConflictError, match=r"2 DICOM volumes .*\(2 CT\)"):
            in_parts(tmp_path / "in", files_at_once=1)


@pytest.mark.parametrize("folders", [1, 100])
def test_l3_ten_thousand_items_are_planned_in_seconds_and_little_memory(
    tmp_path: Path, bounded: Callable[..., Any], folders: int
) -> None:
    for number in range(10_000):
        place = tmp_path / "in" / f"{number % folders}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").touch()

    steps = bounded(lambda: sum(1 for _ in in_parts(tmp_path / "in", files_at_once=20_000).steps))

    assert steps == 10_000


class TestShares:
    @pytest.mark.parametrize("files_at_once", [3, 100])
    def test_take_each_step_of_the_whole_once(self, root: Path, files_at_once: int) -> None:
        (root / "p/d.bmp").touch()  # a clash, so that two are refused
        whole = taken(in_parts(root, files_at_once=files_at_once))

        shares = [
            taken(in_parts(root, files_at_once=files_at_once, part=f"{number}/3"))
            for number in (1, 2, 3)
        ]

        assert sorted(name for share in shares for name in share) == sorted(whole)
        assert max(map(len, shares)) < len(whole)

    def test_are_the_same_wherever_the_input_lies(self, root: Path, tmp_path: Path) -> None:
        before = taken(in_parts(root, part="1/2"))
        root.rename(tmp_path / "elsewhere")

        assert taken(in_parts(tmp_path / "elsewhere", part="1/2")) == before

    def test_say_how_much_they_leave_to_others(self, root: Path) -> None:
        plans = in_parts(root, files_at_once=100, part="1/2")

        found = len(list(plans.steps))
        assert plans.left_alone.text == f"{7 - found} of other shares"

    def test_may_be_empty(self, root: Path) -> None:
        sizes = [len(taken(in_parts(root / "a.png", part=f"{n}/5"))) for n in range(1, 6)]

        assert sorted(sizes) == [0, 0, 0, 0, 1]

    def test_of_an_input_without_images_are_refused_as_the_whole(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()

        with pytest.raises(EmptyInputError):
            in_parts(tmp_path / "in", part="1/2")

    def test_of_a_folder_that_one_machine_cannot_list_all_say_so(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its images may be in any of them."""
        walk = files_of_part

        def unlistable(part: Part, unreadable: list[Any], **options: Any) -> Any:
            unreadable.append((root / "q", OSError(5, "Input/output error")))
            return (path for path in walk(part, [], **options) if "q" not in path.parts)

        monkeypatch.setattr("esp_medsam.workflows.search.files_of_part", unlistable)
        for number in (1, 2, 3):
            steps = list(in_parts(root, files_at_once=100, part=f"{number}/3").steps)

            (refused,) = (step for step in steps if isinstance(step, Refusal))
            assert isinstance(refused.error, ReadError)

    def test_hold_a_volume_under_one_key_whether_it_is_taken_or_refused(
        self, tmp_path: Path
    ) -> None:
        names = [f"{number}.dcm" for number in range(12)]
        for number, name in enumerate(names):
            copy_shipped(
                tmp_path / "in" / name, like="CT_small.dcm", SeriesInstanceUID=f"1.2.{number}"
            )
        for number in (1, 2, 3):
            asked = {"files_at_once": 100, "part": f"{number}/3"}
            as_ct = list(in_parts(tmp_path / "in", **asked, modality="ct").steps)
            as_mri = list(
                in_parts(tmp_path / "in", **asked, modality="mri", leave_alone=False).steps
            )

            assert all(isinstance(step, Item) for step in as_ct)
            assert all(isinstance(step, Refusal) for step in as_mri)
            assert [step.label for step in as_ct] == [step.label for step in as_mri]
