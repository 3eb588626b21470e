from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from esp_medsam.errors import ModalityConflictError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.left_alone import LeftAlone, is_left_alone, series_text, volumes_of_others
from esp_medsam.workflows.plan import Plan
from tests.support.plans import plan_items
from tests.support.shipped_dicom import copy_shipped


CT_STORAGE, MR_STORAGE, SECONDARY = (
    f"1.2.840.10008.5.1.4.1.1.{ending}" for ending in ("2", "4", "7")
)


class TestIsLeftAlone:
    @pytest.mark.parametrize(
        ("dicom_modality", "modality", "left"),
        [
            ("CT", "ct", False),
            ("IVUS", "ultrasound", False),
            ("SEG", "ct", True),
            ("OT", "ct", True),
            ("", "ct", True),
            (None, "ct", True),
            ("XC", "dermoscopy", True),
        ],
    )
    def test_of_a_study_only_series_of_the_modality_are_taken(
        self, table: ModalityTable, dicom_modality: str, modality: str, left: bool
    ) -> None:
        assert is_left_alone(dicom_modality, None, modality, table, takes_open=False) is left

    def test_of_a_study_open_series_are_taken_where_dicom_has_no_value_for_the_modality(
        self, table: ModalityTable
    ) -> None:
        own = replace(table.modalities[0], dicom_modalities=())
        alone = replace(table, modalities=(own,))

        assert not is_left_alone("XC", None, own.name, alone, takes_open=False)
        assert is_left_alone("", None, own.name, alone, takes_open=False)

    @pytest.mark.parametrize(
        ("dicom_modality", "sop_class", "left"),
        [
            ("CT", CT_STORAGE, False),
            ("MR", MR_STORAGE, True),
            ("mr ", MR_STORAGE, True),
            ("", MR_STORAGE, True),
            ("MR", SECONDARY, True),
            ("PT", None, True),
            ("OT", SECONDARY, False),
            ("", "", False),
            (None, None, False),
            # These contradict themselves, and are told.
            ("MR", CT_STORAGE, False),
            ("CT", MR_STORAGE, False),
        ],
    )
    def test_of_a_folder_only_what_means_another_modality_is(
        self, table: ModalityTable, dicom_modality: str, sop_class: str, left: bool
    ) -> None:
        assert is_left_alone(dicom_modality, sop_class, "ct", table, takes_open=True) is left


class TestCounted:
    def test_names_one_volume_as_one(self) -> None:
        assert volumes_of_others({"MR": 1}) == "1 DICOM volume of another modality (1 MR)"

    def test_names_each_modality(self) -> None:
        assert series_text({"SR": 2, "MR": 1}) == "3 series (1 MR, 2 SR)"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a CT and two MR of one patient."""
    copy_shipped(tmp_path / "in/a.dcm")
    for number in range(2):
        uids = {"SeriesInstanceUID": f"1.3.{number}", "SOPInstanceUID": f"1.2.{number}"}
        copy_shipped(tmp_path / f"in/mr{number}.dcm", like="MR_small.dcm", **uids)
    return tmp_path / "in"


@pytest.fixture
def planned(mixed: Path, table: ModalityTable) -> Callable[..., Plan]:
    def plan(path: Path = mixed, modality: str = "ct", **options: Any) -> Plan:
        return plan_items(path, mixed.parent / "out", table=table, modality=modality, **options)

    return plan


class TestPlan:
    def test_leaves_other_modalities_of_a_folder_alone_and_counts_them(
        self, planned: Callable[..., Plan]
    ) -> None:
        plan = planned()

        assert [item.modality for item in plan.items] == ["ct"]
        assert plan.refused == ()
        assert plan.other_modalities == {"MR": 2}
        assert LeftAlone.of(plan).text == "2 DICOM volumes of other modalities (2 MR)"

    def test_tells_no_modality_that_is_none(
        self, planned: Callable[..., Plan], mixed: Path
    ) -> None:
        image = dcmread(mixed / "mr0.dcm")
        image.Modality = "DOE JANE"
        image.save_as(mixed / "mr0.dcm")

        assert planned().other_modalities == {"MR": 2}

    def test_takes_all_that_is_forced(self, planned: Callable[..., Plan]) -> None:
        plan = planned(force_modality=True)

        assert len(plan.items) == 3
        assert LeftAlone.of(plan).text == ""

    def test_refuses_one_file_that_contradicts(
        self, planned: Callable[..., Plan], mixed: Path
    ) -> None:
        (refusal,) = planned(mixed / "mr0.dcm").refused
        error = refusal.error

        assert isinstance(error, ModalityConflictError)

    def test_refuses_a_series_that_was_named(
        self, planned: Callable[..., Plan], mixed: Path
    ) -> None:
        uid = str(dcmread(mixed / "mr0.dcm").SeriesInstanceUID)

        (refusal,) = planned(series=uid).refused
        error = refusal.error

        assert isinstance(error, ModalityConflictError)

    def test_refuses_a_folder_that_holds_nothing_of_the_modality(
        self, planned: Callable[..., Plan], mixed: Path
    ) -> None:
        (mixed / "a.dcm").unlink()

        with pytest.raises(ModalityConflictError, match=r"modality, ct; got 2 .* \(2 MR\)\. Pass"):
            planned()

    def test_refuses_what_contradicts_itself(
        self, planned: Callable[..., Plan], mixed: Path
    ) -> None:
        image = dcmread(mixed / "a.dcm")
        image.Modality = "MR"
        image.save_as(mixed / "a.dcm")

        (item,) = planned().refused
        error = item.error

        assert isinstance(error, ModalityConflictError)
        assert item.volume_name == image.SeriesInstanceUID
