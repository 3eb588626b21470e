"""From PACS to PACS with a real Orthanc: found, fetched, segmented, stored, and read back."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from esp_medsam.cli.main import main
from esp_medsam.integrations.dicomweb import client, run
from esp_medsam.integrations.dicomweb.backoff import Backoff
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.outcome import PacsResult
from esp_medsam.integrations.dicomweb.store import send
from tests.support.orthanc import Orthanc
from tests.support.shipped_dicom import copy_shipped, copy_stack, shipped


Start = Callable[..., Orthanc]


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
        assert told.startswith("0 stored, 1 held, 0 empty, 0 failed; left alone: 1 series (1 SEG)")
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


@pytest.mark.slow
class TestPage:
    def test_its_blocks_lead_to_a_segmentation_in_orthanc(
        self, tmp_path: Path, blocks_of: Callable[[str], Any]
    ) -> None:
        """In one shell, as a reader would run them, on the port that the page names."""
        missing = [name for name in ("Orthanc", "img2dcm", "curl") if shutil.which(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: apt-get install orthanc dcmtk curl")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 8043)) == 0:
                pytest.skip("needs port 8043, which something uses")
        (tmp_path / ".venv").symlink_to(sys.prefix)
        script = "\n".join(b.content for b in blocks_of("docs/how-to/pacs.md") if not b.reason)
        script = f"trap 'kill $(jobs -p) 2> kill.log || true' EXIT\n{script}"

        run = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(run, cwd=tmp_path, check=False, capture_output=True, text=True)

        assert "1 stored, 0 held, 0 empty, 0 failed." in done.stdout, done.stderr
        assert "1 Vessels\nmade of ['" in done.stdout, done.stderr
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
class TestKinds:
    @pytest.mark.parametrize(
        ("folder", "modality"),
        [
            ("CT/totalseg_ct_dicom", "ct"),
            ("MRI/niivue_t1_dicom", "mri"),
            ("US/pydicom_us_rgb", "ultrasound"),
            ("US/pydicom_echo_multiframe", "ultrasound"),
        ],
    )
    def test_l7_come_back_as_segmentations_that_name_their_sources(
        self,
        tmp_path: Path,
        start_orthanc: Start,
        pacs: Command,
        shared: Path,
        folder: str,
        modality: str,
        capsys: Any,
    ) -> None:
        server = start_orthanc()
        files = sorted((shared / "volumes" / folder / "dicom").iterdir())
        server.send(*files)
        study = study_of(files[0])

        status = pacs(server, "--study", study, "--modality", modality)

        assert status == 0, capsys.readouterr().err
        stored = server.find("SEG")
        told = f"{len(stored)} stored, 0 held, 0 empty, 0 failed"
        assert capsys.readouterr().out.startswith(told)
        referenced: set[str] = set()
        for number, instance in enumerate(stored):
            found = hd.seg.segread(server.save(instance, tmp_path / f"{number}.dcm"))
            assert found.StudyInstanceUID == study
            referenced |= {str(uids[2]) for uids in found.get_source_image_uids()}
        sources = [dcmread(path, stop_before_pixels=True) for path in files]
        assert referenced == {str(source.SOPInstanceUID) for source in sources}


@pytest.mark.slow
class TestLeftAlone:
    def test_other_series_are_counted_and_a_named_one_is_an_error(
        self, start_orthanc: Start, pacs: Command, tmp_path: Path, capsys: Any
    ) -> None:
        server = start_orthanc()
        study = study_of(shipped("CT_small.dcm"))
        for number, (modality, kind) in enumerate([("CT", "LOCALIZER"), ("SR", "AXIAL")]):
            copy_shipped(
                tmp_path / f"{number}.dcm",
                Modality=modality,
                ImageType=["ORIGINAL", "PRIMARY", kind],
                SeriesInstanceUID=f"1.2.826.0.1.{number}",
                SOPInstanceUID=f"1.2.826.0.1.{number}.1",
            )
        server.send(shipped("CT_small.dcm"), tmp_path / "0.dcm", tmp_path / "1.dcm")

        all_of_them = pacs(server, "--study", study, "--modality", "ct")
        told = capsys.readouterr().out
        report = pacs(server, "--study", study, "--series", "1.2.826.0.1.1", "--modality", "ct")

        assert all_of_them == 0
        assert told == (
            "1 stored, 0 held, 0 empty, 0 failed; left alone: 2 series (1 SR, 1 localizer).\n"
        )
        assert report == 1
        assert "E_MODALITY_CONFLICT" in capsys.readouterr().err


@pytest.mark.slow
class TestInterruptions:
    def test_f23_a_pacs_that_dies_before_the_result_is_stored_gets_it_later(
        self,
        tmp_path: Path,
        start_orthanc: Start,
        pacs: Command,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
    ) -> None:
        server = start_orthanc()
        server.send(shipped("CT_small.dcm"))
        study = ("--study", study_of(shipped("CT_small.dcm")), "--modality", "ct")

        def killing(pacs: Pacs, entry: Path) -> PacsResult:
            server.kill()
            return send(pacs, entry)

        with monkeypatch.context() as patch:
            patch.setattr(run, "send", killing)
            status = pacs(server, *study)
        told = capsys.readouterr()
        (waiting,) = left_of(tmp_path / "spool")
        mode = waiting.stat().st_mode & 0o777
        down = pacs(server, "--resend")
        still = left_of(tmp_path / "spool")
        server.start()
        elsewhere = main(
            ["pacs", "--resend", "--url", "http://127.0.0.1:9", "--spool", str(tmp_path / "spool")]
        )
        kept = left_of(tmp_path / "spool")
        up = pacs(server, "--resend")

        assert (status, down, elsewhere, up) == (1, 1, 0, 0)
        assert told.out.startswith("0 stored, 0 held, 0 empty, 1 failed")
        assert f"The result waits in {waiting}" in told.err
        assert "no connection" in told.err
        assert mode == 0o600
        assert still == kept == [waiting]
        assert left_of(tmp_path / "spool") == []
        assert len(server.find("SEG")) == 1
        assert pacs(server, "--resend") == pacs(server, *study) == 0
        assert len(server.find("SEG")) == 1

    def test_a_pacs_that_dies_during_the_fetch_gets_nothing_until_all_is_there(
        self,
        tmp_path: Path,
        start_orthanc: Start,
        pacs: Command,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
    ) -> None:
        server = start_orthanc()
        server.send(*sorted(copy_stack(tmp_path / "slices", [0, 5, 10, 15]).iterdir()))
        study = ("--query", "ModalitiesInStudy=CT", "--modality", "ct")
        fetch, fetched = Pacs.fetch, []

        def dying(*arguments: Any) -> None:
            if len(fetched) == 2:
                server.kill()
            fetched.append(arguments)
            fetch(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Pacs, "fetch", dying)
            status = pacs(server, *study)
        told = capsys.readouterr().err
        left = left_of(tmp_path / "spool")
        server.start()
        again = pacs(server, *study)

        assert (status, again) == (1, 0)
        assert "E_PACS_INCOMPLETE" in told
        assert "2 of 4 instances did" in told
        assert left == []
        assert len(server.find("SEG")) == 1

    def test_f24_an_answer_that_is_lost_stores_once(
        self, start_orthanc: Start, pacs: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = start_orthanc()
        server.send(shipped("CT_small.dcm"))
        store, calls = DICOMwebClient.store_instances, []

        def lost(*arguments: Any, **options: Any) -> object:
            store(*arguments, **options)
            calls.append(arguments)
            raise requests.ReadTimeout

        monkeypatch.setattr(DICOMwebClient, "store_instances", lost)
        status = pacs(server, "--study", study_of(shipped("CT_small.dcm")), "--modality", "ct")

        assert status == 0
        assert len(calls) == len(server.find("SEG")) == 1

    @pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
    def test_a_run_that_is_ended_leaves_no_patient_to_the_next(
        self, tmp_path: Path, start_orthanc: Start, pacs: Command, end: signal.Signals
    ) -> None:
        server = start_orthanc()
        server.send(*sorted(copy_stack(tmp_path / "slices", [0, 5, 10]).iterdir()))
        spool = tmp_path / "spool"
        arguments = ["pacs", "--url", server.url, "--spool", str(spool), "--modality", "ct"]
        arguments += ["--query", "ModalitiesInStudy=CT", "--device", "cpu"]
        running = subprocess.Popen([sys.executable, "-c", STALL, *arguments])
        for _ in range(600):
            if len(left_of(spool)) >= 2:
                break
            time.sleep(0.1)
        before = left_of(spool)

        running.send_signal(end)
        status = running.wait(timeout=120)
        after = left_of(spool)
        next_run = pacs(server, "--resend")

        assert len(before) == 2
        assert status == (-9 if end is signal.SIGKILL else 128 + end)
        assert (len(after) == 2) is (end is signal.SIGKILL)
        assert next_run == 0
        assert left_of(spool) == []


STALL = """
import sys, time
from esp_medsam.cli.main import main
from esp_medsam.integrations.dicomweb.client import Pacs
fetch, fetched = Pacs.fetch, []
def stall(*arguments):
    fetched.append(arguments)
    if len(fetched) == 3:
        time.sleep(60)
    fetch(*arguments)
Pacs.fetch = stall
sys.exit(main(sys.argv[1:]))
"""
"""The command, which stops at the third instance of a series."""
