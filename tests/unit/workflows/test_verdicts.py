from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.workflows.verdicts import Verdict, guarded, read_verdicts, unguarded


def written(folder: Path, text: str, name: str = "v.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


class TestTables:
    def test_of_the_page_come_back_in_order(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            "\ufeffitem,verdict,note,folder,record,sha256,record_sha256\r\n"
            'a.png,fail,"says ""no"", twice\r\nand more",out,a_seg.json,5a,31\r\n'
            "b.png,pass,,out,b_seg.json,,\r\n",
        )

        assert read_verdicts(path) == [
            Verdict(
                item="a.png",
                verdict="fail",
                note='says "no", twice\r\nand more',
                folder="out",
                record="a_seg.json",
                sha256="5a",
                record_sha256="31",
            ),
            Verdict(item="b.png", verdict="pass", folder="out", record="b_seg.json"),
        ]

    def test_made_by_hand_need_two_columns_and_may_be_separated_as_spreadsheets_do(
        self, tmp_path: Path
    ) -> None:
        path = written(
            tmp_path, "Verdict;Item;Seen by\n FAIL;a.png;me\nartifact;b.png\n;c.png;\n\n"
        )

        assert read_verdicts(path) == [
            Verdict(item="a.png", verdict="fail"),
            Verdict(item="b.png", verdict="artefact"),
        ]

    def test_that_are_guarded_against_formulas_come_back_as_they_were(self, tmp_path: Path) -> None:
        path = tmp_path / "v.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["item", "verdict", "note"])
            rows.writerow([guarded("=cmd|' /C calc'!A0.png"), "fail", guarded("-1 mm")])

        (verdict,) = read_verdicts(path)
        assert (verdict.item, verdict.note) == ("=cmd|' /C calc'!A0.png", "-1 mm")

    @given(st.text())
    def test_any_text_survives_the_guard_and_never_begins_a_formula(self, text: str) -> None:
        assert unguarded(guarded(text)) == text
        assert guarded(text)[:1] not in tuple("=+-@\t\r\n")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "no column item and no column verdict"),
            ("item,note\na,b\n", "no column verdict"),
            ("item,verdict\na,maybe\n", "the verdict 'maybe' in line 2"),
            ("item,verdict\n,fail\n", "a verdict on no item in line 2"),
            ("item,verdict\na,fail,b\n", "3 cells in line 2, and 2 columns"),
            ('item,verdict\n"a,fail\n', "unexpected end of data"),
            ("item,verdict\na,fail\na,pass\n", "has two on 'a'"),
            ("item,verdict\n" + "a" * 200_000 + ",fail\n", "field larger"),
        ],
    )
    def test_that_are_malformed_are_refused_in_one_line(
        self, tmp_path: Path, content: str, said: str
    ) -> None:
        with pytest.raises(OptionError, match=said) as caught:
            read_verdicts(written(tmp_path, content), "rerun")

        assert str(caught.value).startswith("rerun must ")

    def test_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "v.csv").write_bytes(b"item,verdict\n\xff,fail\n")

        with pytest.raises(OptionError, match="not UTF-8, from byte 13 on"):
            read_verdicts(tmp_path / "v.csv")

    def test_that_are_missing_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="verdicts must be an existing file"):
            read_verdicts(tmp_path)


class TestJson:
    def test_holds_the_same(self, tmp_path: Path) -> None:
        rows = [{"item": "a.png", "verdict": "fail", "note": "=1", "more": 3}]
        path = written(tmp_path, json.dumps({"schema": 1, "verdicts": rows}), "v.json")

        assert read_verdicts(path) == [Verdict(item="a.png", verdict="fail", note="=1")]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("[]", "no list of objects called verdicts"),
            ('{"verdicts": [3]}', "no list of objects called verdicts"),
            ('{"verdicts": [{"item": 3, "verdict": "fail"}]}', "the item 3 at index 0"),
            ('{"verdicts"', "invalid JSON"),
        ],
    )
    def test_that_is_malformed_is_refused(self, tmp_path: Path, content: str, said: str) -> None:
        with pytest.raises(OptionError, match=said):
            read_verdicts(written(tmp_path, content, "v.json"))
