from __future__ import annotations

import json

import pytest
import yaml

from esp_medsam.cli.main import main


Shown = pytest.CaptureFixture[str]


class TestCodes:
    def test_lines_are_what_a_table_takes(self, capsys: Shown) -> None:
        assert main(["codes", "liver"]) == 0

        line = capsys.readouterr().out.splitlines()[0]
        code, _, uses = line.partition("}")
        assert yaml.safe_load(f"{code}}}") == {
            "value": "10200004",
            "scheme": "SCT",
            "meaning": "Liver",
        }
        assert uses.strip() == "type, anatomic_region"

    def test_every_line_is_yaml(self, capsys: Shown) -> None:
        assert main(["codes", "structure", "of", "--all"]) == 0

        for line in capsys.readouterr().out.splitlines():
            assert list(yaml.safe_load(line[: line.rindex("}") + 1])) == [
                "value",
                "scheme",
                "meaning",
            ]

    def test_many_are_counted(self, capsys: Shown) -> None:
        assert main(["codes", "structure"]) == 0

        *lines, last = capsys.readouterr().out.splitlines()
        assert len(lines) == 40
        assert last.endswith(" more; give more words of the name, or pass --all.")

    def test_json_holds_code_and_uses(self, capsys: Shown) -> None:
        assert main(["codes", "skin", "--json"]) == 0

        first = json.loads(capsys.readouterr().out)[0]
        assert first["code"]["value"] == "39937001"
        assert "type" in first["uses"]

    def test_unknown_name_is_told_in_one_line(self, capsys: Shown) -> None:
        assert main(["codes", "xyzzy"]) == 1
        assert capsys.readouterr().err.startswith("E_OPTION: NAME must match a term")
