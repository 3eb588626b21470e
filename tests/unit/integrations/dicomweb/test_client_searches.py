from __future__ import annotations

from typing import Any

import pytest

from esp_medsam.errors import (
    PacsError,
    explain,
)
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.query import Series


SERIES = Series(study_uid="1.2", series_uid="1.2.3")


class TestSearches:
    def test_take_every_page_of_a_server_that_sends_few_at_a_time(
        self, fake: Any, pacs: Pacs
    ) -> None:
        uids = [f"1.2.3.{number}" for number in range(7)]
        fake.files = {("1.2", "1.2.3", uid): b"" for uid in uids}
        fake.page = 3

        assert pacs.find_instances(SERIES) == uids

    def test_end_where_a_server_repeats_its_first_page(
        self, fake: Any, pacs: Pacs, reply: Any
    ) -> None:
        body = b'[{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]'
        fake.replies = lambda method, path: reply(body=body)

        assert pacs.find_studies({"StudyDate": "20260101"}) == (["1.2"], 0)
        assert len(fake.requests) == 2

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("Ca*", "Ca*"),
            ("C?n", "C?n"),
            ("1.2,1.3", "1.2,1.3"),
            ("a b", "a%20b"),
            ("a+b&c=%2A", "a%2Bb%26c%3D%252A"),
        ],
    )
    def test_send_wildcards_as_they_are_to_servers_that_decode_nothing(
        self, fake: Any, pacs: Pacs, value: str, sent: str
    ) -> None:
        pacs.find_studies({"PatientID": value, "StudyDate": "20260101-"})

        assert f"PatientID={sent}&StudyDate=20260101-&limit=" in fake.requests[0]

    def test_find_nothing_where_the_server_says_404_or_204(
        self, fake: Any, pacs: Pacs, reply: Any
    ) -> None:
        for status in (404, 204):
            fake.replies = lambda method, path, status=status: reply(status=status)

            assert pacs.find_series("1.2") == ([], 0)

    def test_find_no_study_where_404_is_said_of_what_was_searched_for_alone(
        self, fake: Any, pacs: Pacs, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(status=404) if "StudyDate" in path else None

        assert pacs.find_studies({"StudyDate": "20260101"}) == ([], 0)
        assert len(fake.requests) == 2

    def test_are_refused_at_a_url_that_answers_404_to_all(
        self, fake: Any, pacs: Pacs, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(status=404)

        with pytest.raises(PacsError, match=r"url must be that of.*DICOMweb.*status 404"):
            pacs.find_studies({"StudyDate": "20260101"})

    @pytest.mark.parametrize(
        "uid",
        ["../../etc/passwd", "1.2/../3", "", "1" * 65, "1..2", "1.2\n", "..", "\uff11.2", None, 7],
    )
    def test_refuse_what_is_no_uid_and_do_not_repeat_it(
        self, fake: Any, pacs: Pacs, uid: object
    ) -> None:
        fake.files = {("1.2", "1.2.3", "1.2.3.4"): b""}
        fake.change = lambda path, found: [{"00080018": {"vr": "UI", "Value": [uid]}}]

        with pytest.raises(PacsError, match="instances by UIDs") as caught:
            pacs.find_instances(SERIES)

        assert "passwd" not in str(caught.value)

    def test_find_the_others_where_some_have_no_uid(self, fake: Any, pacs: Pacs) -> None:
        fake.page = 1
        values = ["../..", "a", "1.2", "1.3"]
        fake.change = lambda path, found: [{"0020000D": {"Value": [value]}} for value in values]

        assert pacs.find_studies({"StudyDate": "20260101"}) == (["1.2", "1.3"], 2)

    @pytest.mark.parametrize(
        "body", [b"<html>", b"7", b'["a"]', b"[[]]", b"[" * 5000, b'{"a": 1}', b"\xff\xfe"]
    )
    def test_refuse_what_is_no_dicom_json(
        self, fake: Any, pacs: Pacs, reply: Any, body: bytes
    ) -> None:
        fake.replies = lambda method, path: reply(body=body)

        with pytest.raises(PacsError) as caught:
            pacs.find_instances(SERIES)

        assert "\n" not in str(explain(caught.value))

    def test_refuse_series_of_another_study(self, fake: Any, pacs: Pacs) -> None:
        answer = {"0020000D": {"Value": ["9.9"]}, "0020000E": {"Value": ["1.2.3"]}}
        fake.change = lambda path, found: [answer]

        with pytest.raises(PacsError, match=r"series of study 1\.2; it lists one of another study"):
            pacs.find_series("1.2")
