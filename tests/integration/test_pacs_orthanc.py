"""From PACS to PACS with a real Orthanc: found, fetched, segmented, stored, and read back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from esp_medsam.cli.main import main
from esp_medsam.integrations.dicomweb import client
from esp_medsam.integrations.dicomweb.backoff import Backoff


class Orthanc(Protocol):
    """The server that conftest starts."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def send(self, *files: Path) -> None: ...
    def find(self, modality: str) -> list[str]: ...
    def save(self, instance: str, path: Path) -> Path: ...
    def rest(self, path: str) -> Any: ...


Start = Callable[..., Orthanc]


def shipped(name: str) -> Path:
    """Return a file that ships inside pydicom; nothing is downloaded."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a dead server after a tenth of a second, not after fifteen."""
    monkeypatch.setattr(client, "Backoff", lambda: Backoff(attempts=2, first=0.1))


Command = Callable[..., int]


@pytest.fixture
def pacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, at a small input size and writing what is empty, so that there is a result."""
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"ESP_MEDSAM_PACS_{name}", raising=False)
    (tmp_path / "small.yaml").write_text("input_size: [64, 64]\n")

    def call(server: Orthanc, *arguments: str, spool: str = "spool") -> int:
        common = ["--url", server.url, "--spool", str(tmp_path / spool)]
        if "--resend" not in arguments:
            common += ["--config", str(tmp_path / "small.yaml"), "--device", "cpu"]
            common += ["--write_empty"]
        return main(["pacs", *common, *arguments])

    return call


def left_of(spool: Path) -> list[Path]:
    """Return the files of patients that are still there."""
    return [path for path in spool.rglob("*") if path.suffix == ".dcm"]


class TestRoundTrip:
    def test_a_query_finds_segments_and_stores_once(
        self, tmp_path: Path, start_orthanc: Start, pacs: Command, capsys: Any
    ) -> None:
        server = start_orthanc()
        source = shipped("CT_small.dcm")
        server.send(source, shipped("MR_small.dcm"))
        query = ("--query", "ModalitiesInStudy=CT", "--modality", "ct", "--targets", "liver")

        status = pacs(server, *query)

        assert status == 0, capsys.readouterr().err
        assert capsys.readouterr().out == "1 stored, 0 held, 0 empty, 0 failed.\n"
        (instance,) = server.find("SEG")
        found = hd.seg.segread(server.save(instance, tmp_path / "seg.dcm"))
        image = dcmread(source)
        assert found.StudyInstanceUID == image.StudyInstanceUID
        assert found.PatientID == image.PatientID
        ((study, series, referenced),) = found.get_source_image_uids()
        assert (study, series, referenced) == (
            image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID,
        )  # fmt: skip
        assert left_of(tmp_path / "spool") == []

        again = pacs(server, *query)
        told = capsys.readouterr().out
        # Nothing remembers: the object is made anew, and the PACS is asked for it.
        elsewhere = pacs(server, *query, spool="other")

        assert again == elsewhere == 0
        assert told.startswith("0 stored, 1 held, 0 empty, 0 failed; 1 series left alone: 1 SEG")
        assert capsys.readouterr().out.startswith("0 stored, 1 held")
        assert server.rest("statistics")["CountInstances"] == 3

    def test_credentials_are_used_and_never_told(
        self,
        tmp_path: Path,
        start_orthanc: Start,
        pacs: Command,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capsys: Any,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server = start_orthanc(users={"doctor": "open-sesame"})
        server.send(shipped("CT_small.dcm"))
        study = ("--study", study_of(shipped("CT_small.dcm")), "--modality", "ct")

        nobody = pacs(server, *study)
        monkeypatch.setenv("ESP_MEDSAM_PACS_USER", "doctor")
        monkeypatch.setenv("ESP_MEDSAM_PACS_PASSWORD", "wrong-sesame")
        wrong = pacs(server, *study)
        (tmp_path / "password").write_text("open-sesame\n")
        (tmp_path / "password").chmod(0o600)
        right = pacs(server, *study, "--password_file", str(tmp_path / "password"))

        said = "".join(capsys.readouterr()) + caplog.text
        assert (nobody, wrong, right) == (1, 1, 0)
        assert said.count("E_PACS_ACCESS: ") >= 2
        assert len(server.find("SEG")) == 1
        image = dcmread(shipped("CT_small.dcm"))
        for secret in ("sesame", "b3Blbi1z", str(image.PatientName), str(image.PatientID)):
            assert secret not in said
