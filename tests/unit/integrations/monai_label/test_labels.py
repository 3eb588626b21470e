from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.errors import EspMedSamError, OptionError
from esp_medsam.integrations.monai_label.labels import FinalLabel, item_of
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item


@pytest.fixture
def final(tmp_path: Path) -> FinalLabel:
    """A photograph, and a label in which 2 is drawn."""
    PIL.Image.new("RGB", (8, 6), (90, 20, 20)).save(tmp_path / "eye.png")
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:5] = 2
    PIL.Image.fromarray(mask).save(tmp_path / "mask.png")
    info = {"label_info": [{"name": "vessels", "idx": 2}]}
    return FinalLabel(tmp_path / "eye.png", tmp_path / "mask.png", info, "eye")


class TestItem:
    def test_has_the_targets_that_are_drawn(self, final: FinalLabel, table: ModalityTable) -> None:
        item = item_of(final, "fundus", table)

        parsed = Item.model_validate(item)
        assert parsed.labels["vessels"][0].values == (2,)
        assert (parsed.absent, parsed.patient) == ((), "eye")

    def test_a_segment_that_is_empty_says_nothing(
        self, final: FinalLabel, table: ModalityTable
    ) -> None:
        """Clients list all segments that a user could have drawn."""
        PIL.Image.new("L", (8, 6)).save(final.label)

        item = item_of(final, "fundus", table)

        assert (item["labels"], item["absent"]) == ({}, [])

    def test_a_target_is_absent_if_the_client_says_so(
        self, final: FinalLabel, table: ModalityTable
    ) -> None:
        PIL.Image.new("L", (8, 6)).save(final.label)
        info = {**final.info, "absent": ["vessels"]}

        assert item_of(final._replace(info=info), "fundus", table)["absent"] == ["vessels"]

    @pytest.mark.parametrize("absent", ["vessels", ["veins"], 3])
    def test_absent_targets_must_be_a_list_of_targets(
        self, final: FinalLabel, table: ModalityTable, absent: Any
    ) -> None:
        with pytest.raises(EspMedSamError, match="absent must be a list of targets of fundus"):
            item_of(final._replace(info={**final.info, "absent": absent}), "fundus", table)

    def test_a_label_of_another_size_is_refused(
        self, final: FinalLabel, table: ModalityTable
    ) -> None:
        PIL.Image.new("L", (9, 6), 2).save(final.label)

        with pytest.raises(OptionError, match=r"mask\.png"):
            item_of(final, "fundus", table)

    def test_a_value_that_no_segment_has_is_refused(
        self, final: FinalLabel, table: ModalityTable
    ) -> None:
        """As when a client numbers its segments otherwise than the voxels."""
        info = {"label_info": [{"name": "vessels", "idx": 1}]}

        with pytest.raises(OptionError, match="only hold values of targets, 1 vessels; got 2"):
            item_of(final._replace(info=info), "fundus", table)
