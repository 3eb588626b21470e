from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes
from torch import nn

from esp_medsam.errors import InputNotFoundError, ModalityError, TableError, TargetError
from esp_medsam.modality import RELEASED_INDICES, CleanUp, ModalityTable
from esp_medsam.table_reader import RESERVED


CODE = {"value": "1", "scheme": "SCT", "meaning": "One"}
TARGET: dict[str, Any] = {"label": 1, "category": CODE, "type": CODE, "color": [1, 2, 3]}
SMALL: dict[str, Any] = {
    "neutral_dicom_modalities": ["OT"],
    "modalities": {
        "ct": {"index": 6, "dicom_modalities": ["CT"], "targets": {"liver": TARGET}},
        "oct": {"index": 8, "targets": {"drusen": TARGET, "fluid": {**TARGET, "label": 2}}},
    },
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], ModalityTable]:
    def read(content: Any) -> ModalityTable:
        path = tmp_path / "targets.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return ModalityTable.read(path)

    return read


class TestShippedTable:
    def test_holds_the_released_modalities_in_their_order(self, table: ModalityTable) -> None:
        assert table.indices == dict(RELEASED_INDICES)
        assert list(table.indices) == list(RELEASED_INDICES)

    def test_numbers_targets_by_their_place(self, table: ModalityTable) -> None:
        for modality in table.modalities:
            assert [t.label for t in modality.targets] == [*range(1, len(modality.targets) + 1)]

    def test_knows_the_dicom_modalities_of_each(self, table: ModalityTable) -> None:
        """Current terms of PS3.16 CID 29 Acquisition Modality, and none that it does not have."""
        said = {m.name: " ".join(m.dicom_modalities) for m in table.modalities}
        terms = {getattr(codes.cid29, name).value for name in codes.cid29.dir()}

        assert said == {
            "dermoscopy": "DMS",
            "xray": "CR DX IO MG PX RF RG XA",
            "ultrasound": "US IVUS",
            "fundus": "OP",
            "microscopy": "SM GM",
            "endoscopy": "ES",
            "ct": "CT",
            "mri": "MR",
        }
        assert terms.issuperset(" ".join(said.values()).split())

    def test_codes_are_those_of_the_dicom_dictionary(self, table: ModalityTable) -> None:
        meanings: dict[str, set[str]] = {}
        for entries in concepts["SCT"].values():
            for value, (meaning, _) in entries.items():
                meanings.setdefault(value, set()).add(meaning.casefold())
        codes = {
            code
            for modality in table.modalities
            for target in modality.targets
            for code in (target.category, target.type, target.anatomic_region)
            if code is not None
        }
        absent = {code.meaning for code in codes if code.value not in meanings}

        assert absent == {"Glioma"}  # 115240006, SNOMED CT's morphologic abnormality
        for code in codes:
            assert code.scheme == "SCT"
            assert code.meaning in absent or code.meaning.casefold() in meanings[code.value]

    def test_is_plain_data(self, table: ModalityTable) -> None:
        assert json.loads(json.dumps(table.to_json()))["modalities"][6]["name"] == "ct"
        assert pickle.loads(pickle.dumps(table)) == table

    def test_is_of_the_network_that_the_shipped_weights_fit(self, table: ModalityTable) -> None:
        assert (table.presence, table.prompt) == (False, "hard")


class TestModalityTable:
    def test_gives_names_and_targets_in_file_order(
        self, read: Callable[[Any], ModalityTable]
    ) -> None:
        table = read(yaml.safe_dump(SMALL, sort_keys=False))

        assert table.names == ("ct", "oct")
        assert table.target_names == {"ct": ["liver"], "oct": ["drusen", "fluid"]}
        assert "oct" in table
        assert table["oct"].targets[0].clean_up == CleanUp()

    @pytest.mark.parametrize("prompt", ["hard", "straight_through", "soft"])
    def test_says_how_the_network_is_made(
        self, read: Callable[[Any], ModalityTable], prompt: str
    ) -> None:
        made = {"presence": True, "prompt": prompt, "image_encoder": "tic"}
        table = read({**SMALL, **made})

        assert (table.presence, table.prompt, table.image_encoder) == (True, prompt, "tic")
        assert made.items() <= table.to_json().items()

    @pytest.mark.parametrize(
        ("key", "value", "rule"),
        [
            ("presence", "maybe", "presence must be true or false; got 'maybe'"),
            ("presence", None, "presence must be true or false; got None"),
            ("presence", 1, "presence must be true or false; got 1"),
            ("prompt", "firm", "prompt must be one of hard, straight_through, soft; got 'firm'"),
            ("prompt", ["hard"], r"prompt must be one of hard, .*, soft; got \['hard'\]"),
            ("image_encoder", "vit", "image_encoder must be one of tiny_vit, tic; got 'vit'"),
            ("preesence", True, "table must.*keys modalities,.*got preesence"),
        ],
    )
    def test_refuses_a_network_that_there_is_not(
        self, read: Callable[[Any], ModalityTable], key: str, value: object, rule: str
    ) -> None:
        with pytest.raises(TableError, match=rule):
            read({**SMALL, key: value})

    def test_an_unknown_modality_lists_the_valid_ones(self, table: ModalityTable) -> None:
        with pytest.raises(ModalityError, match=r"one of dermoscopy, .*, mri; got 'pet'"):
            table["pet"]

    def test_selects_in_table_order(self, table: ModalityTable) -> None:
        assert [t.name for t in table.select("ct", ["pancreas", "liver"])] == ["liver", "pancreas"]
        assert [t.name for t in table.select("ct", "kidney")] == ["kidney"]
        assert len(table.select("ct", "all")) == len(table.select("ct", ["all"])) == 6

    def test_selects_what_is_ready_where_nothing_is_named(self, table: ModalityTable) -> None:
        assert [t.name for t in table.select("ct")] == ["liver"]
        assert [t.name for t in table.select("mri")] == [
            "left_ventricle",
            "myocardium",
            "right_ventricle",
        ]

    def test_refuses_a_modality_of_which_nothing_is_ready(
        self, read: Callable[[Any], ModalityTable]
    ) -> None:
        content = copy.deepcopy(SMALL)
        for target in content["modalities"]["oct"]["targets"].values():
            target["tier"] = "experimental"

        table = read(content)

        with pytest.raises(TargetError, match=r"none is .*; there are drusen, fluid.*`targets`"):
            table.select("oct")
        assert len(table.select("oct", "all")) == 2

    def test_without_tiers_all_is_ready(self, read: Callable[[Any], ModalityTable]) -> None:
        assert {t.tier for m in read(SMALL).modalities for t in m.targets} == {"ready"}

    @pytest.mark.parametrize(
        ("targets", "got"),
        [(["spleen"], "got 'spleen'"), (["liver", "liver"], "got 'liver' twice"), ([], "got none")],
    )
    def test_refuses_unknown_repeated_and_no_targets(
        self, table: ModalityTable, targets: list[str], got: str
    ) -> None:
        with pytest.raises(TargetError, match=f"chosen from liver, kidney.*{got}"):
            table.select("ct", targets)


class TestTableErrors:
    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            ("modalities.ct.index", 5, "modalities.ct.index must be 6, as released; got 5"),
            ("modalities.oct.index", 3, "modalities.oct.index must be.*8"),
            ("modalities.oct.index", -1, "must be an integer from 0"),
            (
                "modalities.oct.targets.fluid.label",
                1,
                "fluid.label must differ from .*drusen.label",
            ),
            ("modalities.oct.targets.fluid.label", 0, "integer from 1 to 255; got 0"),
            ("modalities.oct.targets.fluid.label", 256, "integer from 1 to 255; got 256"),
            ("modalities.oct.targets.fluid.label", True, "integer from 1 to 255; got True"),
            ("modalities.oct.targets.fluid.color", [1, 2, 300], "0 to 255; got 300"),
            ("modalities.oct.targets.fluid.color", [1, 2], "red, green and blue"),
            ("modalities.oct.targets.fluid.type", "liver", "type must be a mapping"),
            ("modalities.oct.targets.fluid.type", {"value": "1"}, "must have scheme, meaning"),
            ("modalities.oct.targets.fluid.type", {**CODE, "value": 1}, "a string of 1 to 16"),
            ("modalities.oct.targets.fluid.clean_up", {"holes": 1}, "keys largest"),
            ("modalities.oct.targets.fluid.clean_up", {"fill_holes": 1}, "must be true or false"),
            ("modalities.oct.targets.fluid.clean_up", {"min_ml": -1}, "must be milliliters.*0"),
            ("modalities.oct.targets.fluid.threshold", 1, "above 0 and below 1; got 1"),
            (
                "modalities.oct.targets.fluid.tier",
                "good",
                "must be one of ready, experimental, research;",
            ),
            ("modalities.oct.targets.fluid.least_ml", -1, "must be milliliters.*0; got -1"),
            (
                "modalities.oct.targets.fluid.least_ml",
                float("nan"),
                "must be milliliters, at least 0",
            ),
            ("modalities.oct.targets.all", TARGET, "and none called all; got 'all'"),
            ("modalities.oct.targets.fluid.extra", 1, "keys.*got extra"),
            ("modalities.oct.targets.Fluid", TARGET, "names of a-z, 0-9 and _.*got 'Fluid'"),
            ("modalities.oct.targets.values", TARGET, "values.*such as values_1"),
            ("modalities.oct.targets", {}, "at least one name"),
            ("modalities.oct.dicom_modalities", ["CT"], "'CT'"),
            ("modalities.oct.dicom_modalities", "OP", "must be a list of strings"),
            ("neutral_dicom_modalities", ["CT"], "neutral_dicom_modalities must.*'CT'"),
            ("modalities", None, "table must have modalities"),
        ],
    )
    def test_names_the_key_and_the_rule(
        self, read: Callable[[Any], ModalityTable], path: str, value: Any, problem: str
    ) -> None:
        content = copy.deepcopy(SMALL)
        *above, last = path.split(".")
        place = content
        for key in above:
            place = place[key]
        place[last] = value

        with pytest.raises(TableError, match=problem):
            read(content)

    def test_refuses_all_names_that_parts_of_a_network_cannot_have(self) -> None:
        taken = {*dir(nn.ModuleDict()), *dir(nn.ParameterDict())}

        assert {name for name in taken if re.fullmatch("[a-z][a-z0-9_]*", name)} <= RESERVED

    def test_reports_all_problems_together(self, read: Callable[[Any], ModalityTable]) -> None:
        content = copy.deepcopy(SMALL)
        content["modalities"]["ct"]["index"] = 5
        del content["modalities"]["oct"]["targets"]["fluid"]["type"]

        with pytest.raises(TableError, match=r"targets.yaml .*ct.index.*; .*fluid must have type"):
            read(content)

    @pytest.mark.parametrize(
        "text", ["modalities: [", "a: 1\na: 2", "5", "\x00", "!!python/none x"]
    )
    def test_refuses_what_is_no_table(
        self, read: Callable[[Any], ModalityTable], text: str
    ) -> None:
        with pytest.raises(TableError, match=r"targets\.yaml must be"):
            read(text)

    def test_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match=r"none\.yaml must be an existing"):
            ModalityTable.read(tmp_path / "none.yaml")
