from __future__ import annotations

import logging
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from esp_medsam.errors import (
    DiskFullError,
    PacsAccessError,
    PacsError,
    PacsRefusedError,
)
from esp_medsam.integrations.dicomweb.access import Access, BearerAuth, read_access
from esp_medsam.integrations.dicomweb.backoff import Backoff
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.query import Series


FULL = Path("/dev/full")

SERIES = Series(study_uid="1.2", series_uid="1.2.3")


@pytest.fixture
def segmentation(image: Any) -> Dataset:
    return dcmread(BytesIO(image(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.9")))


class TestFailures:
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_that_may_pass_are_tried_again_with_growing_pauses(
        self, fake: Any, pacs: Pacs, reply: Any, pauses: list[float], status: int
    ) -> None:
        fake.replies = lambda method, path: reply(status=status)

        with pytest.raises(PacsError, match=f"got status {status}"):
            pacs.find_series("1.2")

        assert len(fake.requests) == 3
        assert 0.75 <= pauses[0] <= 1.25
        assert 1.5 <= pauses[1] <= 2.5

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            *[(status, PacsError) for status in (400, 406, 409, 415, 501)],
            *[(status, PacsAccessError) for status in (401, 403)],
        ],
    )
    def test_that_will_not_pass_are_told_at_once(
        self, fake: Any, pacs: Pacs, reply: Any, status: int, error: type[PacsError]
    ) -> None:
        fake.replies = lambda method, path: reply(status=status)

        with pytest.raises(error, match=f"status {status}"):
            pacs.find_series("1.2")

        assert len(fake.requests) == 1

    def test_end_when_the_server_is_back(self, fake: Any, pacs: Pacs, reply: Any) -> None:
        fake.files = {("1.2", "1.2.3", "1.2.3.4"): b""}
        fake.replies = lambda method, path: reply(status=503) if len(fake.requests) < 3 else None

        assert pacs.find_instances(SERIES) == ["1.2.3.4"]

    def test_wait_as_long_as_the_server_asks_for(
        self, fake: Any, pacs: Pacs, reply: Any, pauses: list[float]
    ) -> None:
        busy = reply(status=503, headers={"Retry-After": "17"})
        fake.replies = lambda method, path: busy if len(fake.requests) == 1 else None

        pacs.find_series("1.2")

        assert pauses == [17.0]

    def test_do_not_wait_for_an_hour(
        self, fake: Any, pacs: Pacs, reply: Any, pauses: list[float]
    ) -> None:
        fake.replies = lambda method, path: reply(status=503, headers={"Retry-After": "3600"})

        with pytest.raises(PacsError, match="503"):
            pacs.find_series("1.2")

        assert pauses == []

    def test_of_a_server_that_is_not_there_are_tried_again(self, pauses: list[float]) -> None:
        pacs = Pacs(
            Access(url="http://127.0.0.1:9"), backoff=Backoff(attempts=3, sleep=pauses.append)
        )

        with pytest.raises(PacsError, match="got no connection"):
            pacs.find_series("1.2")

        assert len(pauses) == 2

    def test_of_a_server_that_says_nothing_end(self, fake: Any, reply: Any) -> None:
        fake.replies = lambda method, path: reply(after=10.0)
        pacs = Pacs(Access(url=fake.url), timeout=0.1, backoff=Backoff(attempts=1))
        start = time.perf_counter()

        with pytest.raises(PacsError, match="no answer in time"):
            pacs.find_series("1.2")

        assert time.perf_counter() - start < 9

    def test_redirects_are_not_followed(self, fake: Any, pacs: Pacs, reply: Any) -> None:
        fake.replies = lambda method, path: reply(status=302, headers={"Location": "/elsewhere"})

        with pytest.raises(PacsError, match="got a redirect"):
            pacs.find_series("1.2")

        assert len(fake.requests) == 1


class TestFetch:
    def test_saves_the_very_bytes(self, fake: Any, pacs: Pacs, tmp_path: Path) -> None:
        content = bytes(range(256)) * 8192 + b"\r\n--XY"
        fake.files = {("1.2", "1.2.3", "1.2.3.4"): content}

        pacs.fetch(SERIES, "1.2.3.4", tmp_path / "a")

        assert (tmp_path / "a").read_bytes() == content
        assert "transfer-syntax=*" in fake.headers[0]["Accept"]

    @pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
    def test_names_a_full_disk(self, fake: Any, pacs: Pacs) -> None:
        fake.files[("1.2", "1.2.3", "1.2.3.4")] = b"DICM"

        with pytest.raises(DiskFullError, match="/dev/full must fit on the disk"):
            pacs.fetch(SERIES, "1.2.3.4", FULL)

        assert len(fake.requests) == 1

    def test_takes_a_file_that_is_not_wrapped(
        self, fake: Any, pacs: Pacs, tmp_path: Path, reply: Any
    ) -> None:
        kind = {"Content-Type": "application/dicom"}
        fake.replies = lambda method, path: reply(headers=kind, body=b"DICM")

        pacs.fetch(SERIES, "1.2.3.4", tmp_path / "a")

        assert (tmp_path / "a").read_bytes() == b"DICM"

    @pytest.mark.parametrize(
        ("body", "claimed"),
        [
            (b"--X\r\nContent-Type: application/dicom\r\n\r\nDICM", None),
            (b"--X\r\nContent-Type: application/dicom\r\n\r\nDICM", 10_000),
            (b"--X\r\n\r\nDICM\r\n--X\r\n\r\nDICM\r\n--X--", None),
            (b"--Y\r\n\r\nDICM\r\n--Y--", None),
            (b"", None),
        ],
    )
    def test_refuses_what_is_cut_short_after_trying_again(
        self, fake: Any, pacs: Pacs, tmp_path: Path, reply: Any, body: bytes, claimed: int | None
    ) -> None:
        kind = {"Content-Type": "multipart/related; boundary=X"}
        fake.replies = lambda method, path: reply(headers=kind, body=body, claimed=claimed)

        with pytest.raises(PacsError, match=r"cut short|no connection"):
            pacs.fetch(SERIES, "1.2.3.4", tmp_path / "a")

        assert len(fake.requests) == 3

    def test_begins_anew_where_an_answer_broke_off(
        self, fake: Any, pacs: Pacs, tmp_path: Path, reply: Any
    ) -> None:
        kind = {"Content-Type": "multipart/related; boundary=XYZ"}
        broken = reply(headers=kind, body=b"--XYZ\r\n\r\n" + b"x" * 3_000_000, claimed=9_000_000)
        fake.files = {("1.2", "1.2.3", "1.2.3.4"): b"DICM"}
        fake.replies = lambda method, path: broken if len(fake.requests) == 1 else None

        pacs.fetch(SERIES, "1.2.3.4", tmp_path / "a")

        assert (tmp_path / "a").read_bytes() == b"DICM"


class TestStore:
    def test_stores_and_is_held(self, fake: Any, pacs: Pacs, segmentation: Dataset) -> None:
        uid = str(segmentation.SOPInstanceUID)

        assert pacs.store(segmentation) == (True, ())
        assert pacs.holds("1.2", "1.2.9", uid)
        assert pacs.store(segmentation) == (False, ())
        assert len(fake.asked("POST")) == 1

    @pytest.mark.parametrize("status", [0, 504])
    def test_f24_a_lost_answer_stores_once(
        self, fake: Any, pacs: Pacs, reply: Any, segmentation: Dataset, status: int
    ) -> None:
        lost = reply(status=status, done=True)
        fake.replies = lambda method, path: lost if method == "POST" else None

        sent, _ = pacs.store(segmentation)

        assert sent
        assert len(fake.asked("POST")) == 1
        assert len(fake.files) == 1

    def test_a_large_object_is_sent_whole_again(
        self, fake: Any, pacs: Pacs, reply: Any, segmentation: Dataset
    ) -> None:
        # Larger than what the client library sends at once, and it sends nothing the second time.
        segmentation.add_new(0x00420011, "OB", bytes(3_000_000))
        posts = iter([reply(status=503)])
        fake.replies = lambda method, path: next(posts, None) if method == "POST" else None

        pacs.store(segmentation)

        ((_, stored),) = fake.files.items()
        assert len(stored) > 3_000_000

    @pytest.mark.parametrize("status", [200, 202, 409])
    def test_a_refusal_is_told_with_its_reason(
        self, fake: Any, pacs: Pacs, reply: Any, segmentation: Dataset, status: int
    ) -> None:
        item = (
            b'{"00081155": {"vr": "UI", "Value": ["1.2"]},'
            b' "00081197": {"vr": "US", "Value": [42752]}}'
        )
        body = b'{"00081198": {"vr": "SQ", "Value": [' + item + b"]}}"
        kind = {"Content-Type": "application/dicom+json"}
        refused = reply(status=status, headers=kind, body=body)
        fake.replies = lambda method, path: refused if method == "POST" else None

        with pytest.raises(PacsRefusedError, match="failure reason A700H"):
            pacs.store(segmentation)

        assert len(fake.asked("POST")) == 1

    def test_a_warning_is_handed_on(
        self, fake: Any, pacs: Pacs, reply: Any, segmentation: Dataset
    ) -> None:
        body = (
            b'{"00081199": {"vr": "SQ", "Value": [{"00081196": {"vr": "US", "Value": [45056]}}]}}'
        )
        warned = reply(headers={"Content-Type": "application/dicom+json"}, body=body)
        fake.replies = lambda method, path: warned if method == "POST" else None

        assert pacs.store(segmentation) == (True, ("The PACS stored it with warning B000H.",))


class TestSecrets:
    def test_are_sent_and_never_told(
        self, fake: Any, reply: Any, caplog: pytest.LogCaptureFixture, capsys: Any
    ) -> None:
        caplog.set_level(logging.DEBUG)
        access = Access(url=fake.url, auth=BearerAuth("s3cret"))
        pacs = Pacs(access, backoff=Backoff(attempts=2, sleep=lambda seconds: None))
        said = repr(access) + repr(access.auth) + repr(pacs)
        filters = {"PatientName": "Canary^Jane"}  # here: a traceback quotes the line that asks

        for status in (200, 400, 503, 0):
            answer = None if status == 200 else reply(status=status)
            fake.replies = lambda method, path, answer=answer: answer
            try:
                pacs.find_studies(filters)
            except PacsError as error:
                logging.getLogger("here").exception("failed")
                said += str(error) + repr(error) + repr(error.__cause__)

        said += caplog.text + "".join(capsys.readouterr())
        assert fake.headers[0]["Authorization"] == "Bearer s3cret"
        assert len(caplog.records) == 3
        assert "s3cret" not in said
        assert "Canary" not in said

    def test_of_the_environment_are_not_used(
        self, fake: Any, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

        pacs.find_series("1.2")

        assert "Authorization" not in fake.headers[0]


class TestCertificates:
    def test_of_client_and_authority_are_used(
        self, fake_tls: Any, certificate: tuple[Path, Path]
    ) -> None:
        cert, key = certificate
        access = read_access(
            fake_tls.url, client_cert=cert, client_key=key, ca_bundle=cert, environ={}
        )

        assert Pacs(access).find_series("1.2") == ([], 0)

    @pytest.mark.parametrize("shown", ["nothing", "own authority", "client alone"])
    def test_that_do_not_fit_are_told_at_once(
        self,
        fake_tls: Any,
        certificate: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
        pauses: list[float],
        shown: str,
    ) -> None:
        cert, key = certificate
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))  # which nobody named to us
        options: dict[str, Any] = {
            "nothing": {},
            "own authority": {"ca_bundle": cert},
            "client alone": {"client_cert": cert, "client_key": key},
        }[shown]
        access = read_access(fake_tls.url, **options, environ={})
        pacs = Pacs(access, backoff=Backoff(attempts=2, sleep=pauses.append))

        with pytest.raises(PacsError, match=r"certificate|no connection"):
            pacs.find_series("1.2")

        assert fake_tls.requests == []
        if shown != "own authority":  # refused by us; by the server it may look like a reset
            assert pauses == []
