from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.workflows.datalist import Item, Mask, read_datalist
from tests.support.pictures import write_datalist


PICTURE = {"image": "a.png", "modality": "dermoscopy", "labels": {"lesion": "a_mask.png"}}
CT = {"image": "a.png", "modality": "ct", "labels": {}}


def read(folder: Path, item: Any) -> Item:
    (read_item,) = read_datalist(write_datalist(folder, training=[item]), "training")
    return read_item


class TestReadDatalist:
    def test_paths_are_relative_to_the_file(self, tmp_path: Path) -> None:
        item = read(tmp_path, {**PICTURE, "unknown": "u.png"})

        assert item.image == str(tmp_path / "a.png")
        assert item.labels == {"lesion": (Mask(path=str(tmp_path / "a_mask.png")),)}
        assert item.files == tuple(
            str(tmp_path / name) for name in ("a.png", "a_mask.png", "u.png")
        )

    def test_a_label_map_names_the_values_of_each_target(self, tmp_path: Path) -> None:
        labels = {"path": "m.nii.gz", "values": {"liver": 6, "kidney": [2, 3]}}

        item = read(tmp_path, {**CT, "labels": labels})

        path = str(tmp_path / "m.nii.gz")
        assert item.labels == {
            "liver": (Mask(path=path, values=(6,)),),
            "kidney": (Mask(path=path, values=(2, 3)),),
        }

    def test_several_label_maps_of_a_target_are_united(self, tmp_path: Path) -> None:
        maps = [
            {"path": "a.png", "values": {"liver": [1]}},
            {"path": "b.png", "values": {"liver": [4], "spleen": [5]}},
        ]

        item = read(tmp_path, {**CT, "labels": maps})

        assert [mask.values for mask in item.labels["liver"]] == [(1,), (4,)]
        assert [mask.values for mask in item.labels["spleen"]] == [(5,)]

    def test_masks_of_a_target_may_have_values_too(self, tmp_path: Path) -> None:
        labels = {"lesion": ["a.png", {"path": "b.png", "values": [1, 2]}]}

        item = read(tmp_path, {**PICTURE, "labels": labels})

        assert [mask.values for mask in item.labels["lesion"]] == [None, (1, 2)]

    def test_targets_called_path_and_values_are_targets(self, tmp_path: Path) -> None:
        labels = {"path": "a.png", "values": ["b.png"]}

        assert set(read(tmp_path, {**CT, "labels": labels}).labels) == {"path", "values"}

    @pytest.mark.parametrize(
        ("item", "problem"),
        [
            (
                {"image": "a.png"},
                r"\[0\]\['modality'\] must be given; .*\['labels'\] must be given",
            ),
            (5, r"training\[0\] must be a valid dictionary"),
            ({**CT, "image": ""}, r"\['image'\] must not be empty"),
            ({**CT, "image": "a\0.png"}, r"\['image'\] must be a path"),
            ({**CT, "image": "\udcff.png"}, r"\['image'\] must be a path"),
            (
                {**CT, "labels": {"{x}": "a"}, "absent": ["{x}"]},
                r"must not name.*target in.*labels and absent; got \{x\}",
            ),
            ({**CT, "image": 5}, r"\['image'\] must be text"),
            ({**CT, "labels": []}, r"\['labels'\] must be masks by target, or"),
            ({**CT, "labels": {"liver": 1}}, r"\['liver'\].* must be a valid dict"),
            ({**CT, "labels": {"liver": [1]}}, r"\['liver'\].* must be a valid dict"),
            ({**CT, "labels": {"liver": []}}, r"\['liver'\] must hold at least 1"),
            (
                {**CT, "labels": {"liver": {"path": "a", "values": []}}},
                r"\['values'\] must hold at least 1",
            ),
            (
                {**CT, "labels": {"liver": {"path": "a", "values": [True]}}},
                "must be a whole number",
            ),
            ({**CT, "labels": {"liver": {"path": "a", "values": [1.5]}}}, "must be a whole number"),
            (
                {**CT, "labels": {"liver": {"path": "a", "value": [1]}}},
                r"\['value'\] must be left o",
            ),
            ({**CT, "labels": {"liver": {"path": "a", "values": 0}}}, "must not.*the value 0"),
            (
                {**CT, "labels": {"liver": {"path": "a", "values": -1}}},
                "must be at least 0",
            ),
            ({**CT, "absent": "a"}, "must be a valid tuple"),
            ({**CT, "ct_input": "HU"}, "must be 'hu' or"),
            ({**CT, "ct_input": "hu", "offset": "x"}, r"\['offset'\] must be a number"),
            ({**CT, "ct_input": "hu", "offset": float("inf")}, r"\['offset'\] must be a finite"),
            ({**CT, "offset": -1024}, r"training\[0\] must.*offset with modality ct"),
            ({**CT, "abscent": ["liver"]}, r"got 'abscent'.*it absent\?"),
            (
                {**CT, "labels": {"liver": "a"}, "absent": ["liver"]},
                r"training\[0\] must not name.*target in.*labels and absent; got liver",
            ),
        ],
    )
    def test_names_what_is_wrong_with_an_item(
        self, tmp_path: Path, item: Any, problem: str
    ) -> None:
        with pytest.raises(OptionError, match=problem):
            read(tmp_path, item)

    def test_keeps_what_users_add(self, tmp_path: Path) -> None:
        own = {"fold": 3, "label": "mask.png", "patient_id": "a"}
        assert read(tmp_path, {**PICTURE, **own}).model_extra == own

    def test_the_set_is_the_modality_where_none_is_named(self, tmp_path: Path) -> None:
        assert read(tmp_path, PICTURE).set_name == "dermoscopy"
        assert read(tmp_path, {**PICTURE, "dataset": "x"}).set_name == "x"

    def test_names_the_sections_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"section 'test'.*has training"):
            read_datalist(write_datalist(tmp_path, training=[]), "test")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("not json", "JSON file;.*JSON at line 1"),
            ("[1]", "holds a list"),
            ("\xff", "text that is not UTF-8"),
            ("[" * 100_000, "more than 32.*lists"),
            ('{"training": 5}', "training must be a list of items; got 5"),
        ],
    )
    def test_refuses_what_is_no_datalist(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "datalist.json"
        path.write_bytes(content.encode("latin-1"))

        with pytest.raises(OptionError, match=message):
            read_datalist(path, "training")

    def test_says_where_it_looked(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match=r"none at .*nothing\.json"):
            read_datalist(tmp_path / "nothing.json", "training")
