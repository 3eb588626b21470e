from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import PacsIncompleteError
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.fetch import check_listed, fetch_series
from esp_medsam.integrations.dicomweb.query import Series


SERIES = Series(study_uid="1.2", series_uid="1.2.3")
UIDS = ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


@pytest.fixture
def files(fake: Any, image: Any) -> dict[tuple[str, str, str], bytes]:
    """Three slices of a series, which the server holds."""
    for uid in UIDS:
        fake.files["1.2", "1.2.3", uid] = image(
            StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", SOPInstanceUID=uid
        )
    content: dict[tuple[str, str, str], bytes] = fake.files
    return content


class TestCheckListed:
    def test_takes_as_many_as_are_claimed_or_more(self) -> None:
        check_listed(Series(study_uid="1", series_uid="2", count=3), UIDS)
        check_listed(Series(study_uid="1", series_uid="2", count=2), UIDS)
        check_listed(Series(study_uid="1", series_uid="2"), UIDS)

    def test_refuses_fewer_with_both_numbers(self) -> None:
        series = Series(study_uid="1", series_uid="2", count=300)

        with pytest.raises(PacsIncompleteError, match=r"has 300 instances and.*3"):
            check_listed(series, UIDS)
        with pytest.raises(PacsIncompleteError, match="lists 0"):
            check_listed(SERIES, [])


class TestFetchSeries:
    def test_leaves_whole_files(self, files: Any, pacs: Pacs, tmp_path: Path) -> None:
        kinds = fetch_series(pacs, SERIES, UIDS, tmp_path)

        assert kinds == {"image": 3}
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
            f"{uids[2]}.dcm": content for uids, content in files.items()
        }

    def test_refuses_a_series_with_an_instance_missing(
        self, files: Any, pacs: Pacs, tmp_path: Path, fake: Any, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(status=404) if path.endswith(UIDS[1]) else None

        with pytest.raises(PacsIncompleteError, match=r"1 of 3 instances did.*1\.2\.3\.2.*404"):
            fetch_series(pacs, SERIES, UIDS, tmp_path)

    @pytest.mark.parametrize("kept", [0, 100, 2000, 5000, -200])
    def test_refuses_a_file_that_is_cut_short_though_its_answer_is_whole(
        self, files: Any, pacs: Pacs, tmp_path: Path, kept: int
    ) -> None:
        key = ("1.2", "1.2.3", UIDS[2])
        files[key] = files[key][:kept]

        with pytest.raises(PacsIncompleteError, match="2 of 3 instances did"):
            fetch_series(pacs, SERIES, UIDS, tmp_path)

    @pytest.mark.parametrize(
        "other",
        [{"SOPInstanceUID": "1.9"}, {"SeriesInstanceUID": "1.9"}, {"StudyInstanceUID": "1.9"}],
    )
    def test_refuses_what_it_did_not_ask_for(
        self, files: Any, pacs: Pacs, tmp_path: Path, image: Any, other: dict[str, str]
    ) -> None:
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": UIDS[0]}
        files["1.2", "1.2.3", UIDS[0]] = image(**{**uids, **other})

        with pytest.raises(PacsIncompleteError, match="sent another instance"):
            fetch_series(pacs, SERIES, UIDS, tmp_path)

    def test_refuses_a_series_that_grows_meanwhile(
        self, files: Any, pacs: Pacs, tmp_path: Path
    ) -> None:
        files["1.2", "1.2.3", "1.2.3.4"] = b""

        with pytest.raises(PacsIncompleteError, match="3 instances before and 4 after"):
            fetch_series(pacs, SERIES, UIDS, tmp_path)

    def test_removes_what_is_no_image_to_segment(
        self, files: Any, pacs: Pacs, tmp_path: Path, image: Any
    ) -> None:
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
        more = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11",
            "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        }
        for uid, (keyword, value) in zip(UIDS, more.items(), strict=False):
            content = image(**uids, SOPInstanceUID=uid, **{keyword: value})
            files["1.2", "1.2.3", uid] = content
        capture = image(**uids, SOPInstanceUID=UIDS[2], SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
        files["1.2", "1.2.3", UIDS[2]] = capture

        kinds = fetch_series(pacs, SERIES, UIDS, tmp_path, captures=False)

        assert kinds == {"no image": 1, "localizer": 1, "secondary capture": 1}
        assert list(tmp_path.iterdir()) == []
