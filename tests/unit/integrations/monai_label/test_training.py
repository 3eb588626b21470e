from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.training import (
    SHOWN,
    Training,
    held_out,
    is_better,
    mark_of,
    own_parameters,
    usable_items,
)
from esp_medsam.integrations.monai_label.versions import Version
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product


Measured = Mapping[str, Mapping[str, float | None]]


def dice(before: float | None, after: float | None) -> dict[str, float | None]:
    return {"before": before, "after": after}


class TestBetter:
    @pytest.mark.parametrize(
        ("targets", "kept", "expected"),
        [
            ({"liver": dice(0.7, 0.8)}, {}, True),
            ({"liver": dice(0.7, 0.7)}, {}, False),
            ({"liver": dice(0.7, 0.8), "kidney": dice(0.9, 0.7)}, {}, False),
            ({"liver": dice(0.7, 0.8), "kidney": dice(0.9, 0.85)}, {}, True),
            ({"liver": dice(0.7, 0.8)}, {"kidney": 0.95}, True),
            ({"liver": dice(0.7, 0.8)}, {"kidney": 0.5}, False),
            ({"liver": dice(0.7, 0.8)}, {"kidney": None}, True),
            ({"liver": dice(None, None)}, {}, False),
            ({}, {"kidney": 1.0}, False),
        ],
    )
    def test_is_what_gained_and_left_the_rest_in_place(
        self, targets: Measured, kept: Mapping[str, float | None], expected: bool
    ) -> None:
        assert is_better(targets, kept) is expected


class TestHeldOut:
    @given(st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=30, unique=True))
    def test_nobody_is_measured_on_whom_an_earlier_training_was_shown(
        self, patients: list[str]
    ) -> None:
        shown = set[str]()
        for count in range(2, len(patients) + 1):
            held = held_out(patients[:count], [mark_of(name) for name in shown])
            assert held
            assert held < set(patients[:count])
            assert not held & shown
            shown |= set(patients[:count]) - held

    def test_is_about_a_fifth(self) -> None:
        assert 150 < len(held_out([f"patient{number}" for number in range(1000)])) < 250

    def test_needs_a_patient_that_was_not_shown(self) -> None:
        with pytest.raises(OptionError, match="whom no earlier training was shown"):
            held_out(["one", "two"], [mark_of("one"), mark_of("two")])

    def test_needs_two_patients(self) -> None:
        with pytest.raises(OptionError, match=r"labels of 2 patients at least.* labels of 1"):
            held_out(["one", "one"])


class TestDatalist:
    @pytest.fixture
    def training(self, table: ModalityTable, tmp_path: Path) -> Training:
        """A training whose network finds, of all targets, one, in two pixels of the first row."""
        (tmp_path / "run").mkdir()
        return Training(
            modality="mri",
            table=table,
            versions=SimpleNamespace(),  # type: ignore[arg-type]  # not asked
            segmenters=SimpleNamespace(segment=self.one_found(table)),  # type: ignore[arg-type]
            folder=tmp_path / "run",
            device="cpu",
        )

    @staticmethod
    def one_found(table: ModalityTable) -> Any:
        def segment(image: Path, *, targets: list[str], **_: object) -> SimpleNamespace:
            asked = table.select("mri", targets)
            labelmap = torch.zeros(1, 8, 9, dtype=torch.uint8)
            labelmap[0, 0, :2] = asked[0].label
            return SimpleNamespace(labelmap=labelmap, image=read(image), targets=asked)

        return segment

    def test_holds_what_users_drew_apart_from_what_stands_in_for_it(
        self, training: Training, tmp_path: Path
    ) -> None:
        ready = [t.name for t in training.table["mri"].targets if t.tier == "ready"]
        label = np.zeros((8, 9), np.uint8)
        label[0, 1:5] = 1  # where the network found something else, in one pixel
        PIL.Image.fromarray(label).save(tmp_path / "drawn.png")
        drawn = {"path": str(tmp_path / "drawn.png"), "values": [1]}
        own = "glioma"
        items = []
        for number in range(6):
            picture = tmp_path / f"{number}.png"
            PIL.Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(picture)
            item = {"image": str(picture), "modality": "mri", "patient": str(number)}
            items.append({**item, "labels": {own: drawn}, "absent": []})
        held = held_out([item["patient"] for item in items], [mark_of("0")])

        path, counts = training._written(items, Version("1", tmp_path, {SHOWN: [mark_of("0")]}))

        content = json.loads(path.read_text(encoding="utf-8"))
        assert counts == {name: len(part) for name, part in content.items()}
        assert {item["patient"] for item in content["validation"]} == held
        assert {item["patient"] for item in content["kept"]} == held
        assert {item["patient"] for item in content["training"]} == set("012345") - held
        for item in content["validation"]:
            assert item["labels"] == {own: drawn}
        for item in content["kept"]:
            assert list(item["labels"]) == ready[:1]
            (mask,) = {label["path"] for label in item["labels"].values()}
            assert np.argwhere(np.asarray(PIL.Image.open(mask))).tolist() == [[0, 0]]
            assert item["unknown"] == [drawn]
        for item in content["training"]:
            assert set(item["labels"]) == {own, ready[0]}
            assert item["absent"] == ready[1:]


class TestOwnParameters:
    def test_of_a_modality_are_in_every_part_and_no_other_s(self, table: ModalityTable) -> None:
        names = [
            name for name, _ in build_product(table.indices, table.target_names).named_parameters()
        ]
        patterns = {name: own_parameters(name).strip("*") for name in table.names}
        owned = {m: {n for n in names if pattern in n} for m, pattern in patterns.items()}

        assert len(set.union(*owned.values())) == sum(map(len, owned.values()))
        for name in table.names:
            parts = {one.split(".")[0] for one in owned[name]}
            assert {"image_encoder", "modality_query", "prompt_generator"} <= parts


class TestUsableItems:
    def test_a_label_that_cannot_be_used_leaves_the_others(self) -> None:
        def item_of(image: str) -> dict[str, object]:
            if image == "bad":
                msg = "label must be on the grid of its image."
                raise OptionError(msg)
            return {"labels": {} if image == "empty" else {"liver": []}, "absent": []}

        assert len(usable_items(["a", "bad", "empty", "b"], item_of)) == 2
