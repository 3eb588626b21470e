"""Plans of inputs too large for one part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import EmptyInputError, ModalityConflictError, ReadError
from esp_medsam.workflows.items import plan_parts
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
            (1, [("in", False), ("p", False), ("q", False), ("r", False)]),
        ],
    )
    def test_are_folders_of_few_files_each(
        self, root: Path, most_files: int, found: list[tuple[str, bool]]
    ) -> None:
        parts = list(parts_below(root, most_files))

        assert [(part.folder.name, part.is_whole) for part in parts] == found
        files = [path.name[0] for part in parts for path in files_of_part(part, [])]
        assert "".join(files) == "abcdefg"

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

    def test_are_one_where_outputs_may_fall_among_inputs_of_another_part(self, root: Path) -> None:
        (root / "in").mkdir()
        (root / "in/a.png").touch()
        (root / "a_seg.png").touch()

        plans = plan_parts(root, root.parent, table=TABLE, modality="mri", files_at_once=1)

        refused = [step for step in plans.steps if isinstance(step, Refusal)]
        assert [Path(one.path).relative_to(root).as_posix() for one in refused] == ["in/a.png"]

    def test_of_several_parts_are_gone_through_once(self, root: Path) -> None:
        plans = in_parts(root)
        taken(plans)

        with pytest.raises(RuntimeError, match="plan anew"):
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
