from __future__ import annotations

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.integrations.dicomweb.query import (
    Series,
    checked_uid,
    read_query,
    series_of,
)


class TestReadQuery:
    def test_takes_keywords_and_tags(self) -> None:
        query = "ModalitiesInStudy=CT&00080020=20260101-20261231&PatientID=a%26b"

        assert read_query(query) == {
            "ModalitiesInStudy": "CT",
            "00080020": "20260101-20261231",
            "PatientID": "a&b",
        }

    @pytest.mark.parametrize(
        "query", ["", "?", "StudyDate", "limit=3", "StudyDate=", "StudyDate=1&StudyDate=2", "x=1"]
    )
    def test_refuses_what_would_find_other_studies_than_meant(self, query: str) -> None:
        with pytest.raises(OptionError, match="query must"):
            read_query(query)


class TestCheckedUid:
    def test_takes_a_uid(self) -> None:
        assert checked_uid("1.2.840", "study") == "1.2.840"

    @pytest.mark.parametrize(
        "value", ["", "..", "1.2/..", "1.2%2e", "1.2\x00", "a", "1." + "1" * 64]
    )
    def test_refuses_what_leads_elsewhere(self, value: str) -> None:
        with pytest.raises(OptionError, match=r"study must be a UID.*and dots"):
            checked_uid(value, "study")


class TestSeriesOf:
    def test_reads_what_is_there(self) -> None:
        answer = {
            "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
            "00201209": {"vr": "IS", "Value": ["20"]},
        }

        assert series_of(answer, "1.2") == Series(
            study_uid="1.2", series_uid="1.2.3", dicom_modality="CT", count=20
        )

    @pytest.mark.parametrize("value", ["ct; rm -rf", 7, None, {}, "\x1b[2J"])
    def test_takes_nothing_for_a_modality_that_is_none(self, value: object) -> None:
        answer = {
            "0020000E": {"Value": ["1.2.3"]},
            "00080060": {"Value": [value]},
            "00201209": {"Value": [value]},
        }

        assert series_of(answer, "1.2").dicom_modality == ""
