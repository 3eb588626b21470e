from __future__ import annotations

from collections.abc import Mapping

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.training import is_better, own_parameters, usable_items
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
            ({"liver": dice(0.7, 0.8)}, {"kidney": dice(1.0, 0.95)}, True),
            ({"liver": dice(0.7, 0.8)}, {"kidney": dice(1.0, 0.5)}, False),
            ({"liver": dice(0.7, 0.8)}, {"kidney": dice(None, None)}, True),
            ({"liver": dice(None, None)}, {}, False),
            ({}, {"kidney": dice(1.0, 1.0)}, False),
        ],
    )
    def test_is_what_gained_and_left_the_rest_in_place(
        self, targets: Measured, kept: Measured, expected: bool
    ) -> None:
        assert is_better(targets, kept) is expected


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
