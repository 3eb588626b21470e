from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from esp_medsam.errors import EmptyInputError, FormatError
from esp_medsam.identity import sha256_of
from esp_medsam.io.item import Item
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.rerun import Rerun
from esp_medsam.workflows.verdicts import Verdict


def failed(name: str, **facts: str) -> Verdict:
    return Verdict(
        **{"item": f"{name}.png", "verdict": "fail", "record": f"{name}_seg.json", **facts}
    )


def plan_of(*names: str) -> Plan:
    paths = [Path("in", f"{name}.png") for name in names]
    return Plan(
        tuple(
            Item.of_file(path, "" if path.parent == Path("in") else path.parent.name)
            for path in paths
        )
    )


def chosen(rerun: Rerun, plan: Plan) -> list[str]:
    return [item.path for item in rerun.narrowed(plan).items]


class TestItems:
    def test_whose_results_failed_are_taken_and_no_others(self, tmp_path: Path) -> None:
        verdicts = [failed("a"), failed("sub/b"), replace(failed("c"), verdict="pass")]
        rerun = Rerun(verdicts, Path("in"), tmp_path)

        assert chosen(rerun, plan_of("a", "c", "d", "sub/b", "sub/a")) == [
            "in/a.png",
            "in/sub/b.png",
        ]
        assert rerun.notes == []

    def test_that_have_no_result_are_known_by_their_names(self, tmp_path: Path) -> None:
        rerun = Rerun([failed("a", record=""), failed("b", record="")], Path("in"), tmp_path)
        refusal = Refusal("in/b.png", FormatError("No."))

        narrowed = rerun.narrowed(replace(plan_of("a", "c"), refused=(refusal,)))

        assert [item.path for item in narrowed.items] == ["in/a.png"]
        assert narrowed.refused == (refusal,)
        assert not rerun.meets_nothing

    def test_keep_the_names_that_their_results_have(self, tmp_path: Path) -> None:
        item = replace(plan_of("a").items[0], name="1.2.3", other_names=("a", "CT_abdomen"))
        rerun = Rerun([failed("CT_abdomen", item="a.png")], Path("in"), tmp_path)

        (again,) = rerun.narrowed(Plan((item,))).items

        assert again.name == "CT_abdomen"

    def test_are_not_those_of_other_images_that_had_the_name(self, tmp_path: Path) -> None:
        a, b = (
            replace(item, name=number, other_names=("CT_abdomen",))
            for item, number in zip(plan_of("a", "b").items, ("1", "2"), strict=True)
        )
        rerun = Rerun([failed("CT_abdomen", item="a.png")], Path("in"), tmp_path)

        assert chosen(rerun, Plan((a, b))) == ["in/a.png"]

    def test_that_the_input_lacks_are_told(self, tmp_path: Path) -> None:
        rerun = Rerun([failed("gone")], Path("in"), tmp_path)

        assert chosen(rerun, plan_of("a")) == []
        assert rerun.meets_nothing
        assert rerun.notes == ["`rerun` names what the input does not hold: 'gone.png'."]

    def test_that_were_made_anew_since_are_kept(self, tmp_path: Path) -> None:
        record = tmp_path / "a_seg.json"
        record.write_text(json.dumps({"made": 1}))
        verdict = failed("a", record_sha256=sha256_of(record)[:16])
        assert chosen(Rerun([verdict], Path("in"), tmp_path), plan_of("a")) == ["in/a.png"]
        record.write_text(json.dumps({"made": 2}))
        rerun = Rerun([verdict], Path("in"), tmp_path)

        assert chosen(rerun, plan_of("a")) == []
        assert "made anew since they were marked are kept: 'a.png'" in rerun.notes[0]


class TestFolders:
    def test_of_several_only_the_run_s_own_counts(self, tmp_path: Path) -> None:
        verdicts = [failed("a", folder="x/out"), failed("b", folder="y/out")]

        rerun = Rerun(verdicts, Path("in"), tmp_path / "y/out")

        assert chosen(rerun, plan_of("a", "b")) == ["in/b.png"]

    def test_a_single_one_may_be_called_otherwise_now(self, tmp_path: Path) -> None:
        rerun = Rerun([failed("a", folder="before")], Path("in"), tmp_path / "now")

        assert chosen(rerun, plan_of("a")) == ["in/a.png"]

    def test_without_a_failed_result_are_refused(self, tmp_path: Path) -> None:
        verdicts = [failed("a", folder="x"), replace(failed("b", folder="y"), verdict="pass")]

        with pytest.raises(
            EmptyInputError, match="a verdict `fail` on a result of this folder; of 2"
        ):
            Rerun(verdicts, Path("in"), tmp_path / "y")


def test_plans_of_several_parts_are_narrowed_as_their_turn_comes(tmp_path: Path) -> None:
    rerun = Rerun([failed("a"), failed("c")], Path("in"), tmp_path)
    plans = Plans(plan_of("a", "b"), rest=iter([plan_of("c"), plan_of("d")])).narrowed(
        rerun.narrowed
    )

    assert len(plans) == 1
    assert [item.path for item in plans.items] == ["in/a.png", "in/c.png"]
    assert (len(plans), plans.is_whole) == (2, True)
