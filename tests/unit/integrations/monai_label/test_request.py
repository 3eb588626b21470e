from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from esp_medsam.errors import EspMedSamError, OptionError, TargetError
from esp_medsam.integrations.monai_label.labels import label_names, values_of
from esp_medsam.integrations.monai_label.request import Asked, options_of, read_request
from esp_medsam.modality import ModalityTable


DEVICES = ("cuda:0", "cpu")


class TestReadRequest:
    @pytest.mark.parametrize("sent", [{}, None])
    def test_what_nobody_chose_is_the_default(self, table: ModalityTable, sent: Any) -> None:
        """Clients send nothing, or all choices."""
        given = options_of("ct", table, DEVICES) if sent is None else sent

        asked = read_request(given, "ct", table, DEVICES)

        assert asked == Asked(device="cuda:0")

    def test_choices_are_taken(self, table: ModalityTable) -> None:
        given = {
            "targets": "liver",
            "device": "cpu",
            "slice_axis": "coronal",
            "threshold": 0.35,
            "largest_component": "true",
            "version": "3",
            "result_extension": ".nrrd",
            "save_label": "true",
            "label_tag": "second",
        }

        asked = read_request(given, "ct", table, DEVICES, ("current", "3"))

        settings = {
            "targets": ("liver",),
            "slice_axis": "coronal",
            "threshold": 0.35,
            "largest_component": True,
        }
        assert asked == Asked(settings, "cpu", "3", ".nrrd", True, "second")

    def test_a_device_that_is_not_here_is_the_server_s_choice(self, table: ModalityTable) -> None:
        """Clients send the device of their own settings."""
        assert read_request({"device": "cuda"}, "ct", table, ("cpu",)).device == "cpu"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"targets": "livr"}, "targets must be one of ready, all, liver, .*'livr'"),
            ({"version": "9"}, "version must be one of current, shipped; got '9'"),
            ({"threshold": 1}, "threshold must be less than 1; got '1'"),
            ({"min_ml": "much"}, "min_ml must be a number; got 'much'"),
            ({"slice_axis": "up"}, "slice_axis must be one of auto, axial"),
            ({"result_extension": ".exe"}, "result_extension must be one of"),
            ({"label_tag": "../../x"}, "label_tag must be a name"),
            ({"label_tag": ["final"]}, "label_tag must be a name"),
            ({"label_tag": "final"}, "label_tag must be another than final"),
        ],
    )
    def test_other_choices_are_refused(
        self, table: ModalityTable, given: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(EspMedSamError, match=said):
            read_request(given, "ct", table, DEVICES)


class TestValues:
    def test_are_those_that_the_client_states(self, table: ModalityTable) -> None:
        info = {"label_info": [{"name": "kidney", "idx": 1}, {"name": "liver", "idx": 2}]}

        assert values_of(info, table["ct"]) == {"kidney": 1, "liver": 2}

    @pytest.mark.parametrize("info", [{}, {"label_info": None}, {"label_info": []}])
    def test_are_those_of_the_table_if_the_client_states_none(
        self, table: ModalityTable, info: dict[str, Any]
    ) -> None:
        own = {target.name: target.label for target in table["ct"].targets}

        assert values_of(info, table["ct"]) == own

    def test_a_segment_that_is_no_target_is_refused(self, table: ModalityTable) -> None:
        with pytest.raises(TargetError, match=r"label_info must be one of liver.*'lever'"):
            values_of({"label_info": [{"name": "lever", "idx": 1}]}, table["ct"])

    @pytest.mark.parametrize(
        "segments",
        [
            [{"name": "liver", "idx": 1}, {"name": "kidney", "idx": 1}],
            [{"name": "liver", "idx": 1}, {"name": "liver", "idx": 2}],
            [{"name": "liver", "idx": 0}],
            [{"name": "liver", "idx": "1"}],
        ],
    )
    def test_values_must_be_clear(self, table: ModalityTable, segments: list[Any]) -> None:
        with pytest.raises(OptionError, match="each name and each idx, 1 to 255, once"):
            values_of({"label_info": segments}, table["ct"])


class TestNames:
    def test_of_all_targets_are_in_the_order_of_their_values_without_a_gap(
        self, table: ModalityTable
    ) -> None:
        """3D Slicer takes the n-th name for the value n, whichever targets were asked for."""
        for modality in table.modalities:
            names = label_names(modality)
            assert list(names.values()) == list(range(1, len(names) + 1))
            assert names == {target.name: target.label for target in modality.targets}

    def test_values_of_no_target_have_one_too_which_clients_may_send_back(
        self, table: ModalityTable
    ) -> None:
        liver, kidney = table["ct"].targets[:2]
        own = replace(table["ct"], targets=(kidney, replace(liver, label=4)))

        names = label_names(own)

        assert names == {"unused_1": 1, "kidney": 2, "unused_3": 3, "liver": 4}
        info = {"label_info": [{"name": name, "idx": value} for name, value in names.items()]}
        assert values_of(info, own) == {"kidney": 2, "liver": 4}
