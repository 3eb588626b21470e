from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec as find
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam.cli import pacs as command
from esp_medsam.cli.main import main
from esp_medsam.integrations.dicomweb.spool import Spool
from esp_medsam.integrations.dicomweb.store import resend
from esp_medsam.workflows.request import Request


ROOT = Path(__file__).parents[4]
URL = "https://pacs.example/dicom-web"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"ESP_MEDSAM_PACS_{name}", raising=False)


@pytest.fixture
def waiting(tmp_path: Path, image: Callable[..., bytes]) -> Callable[[str], Path]:
    """Return a function that puts an object into the spool of a server."""

    def wait(url: str) -> Path:
        (tmp_path / "seg.dcm").write_bytes(image(SOPInstanceUID="1.2.9"))
        return Spool(tmp_path / "spool", url).put(tmp_path / "seg.dcm", "1.2.9")

    return wait


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--modality", "ct"],
            ["--study", "1.2", "--query", "StudyDate=1", "--modality", "ct"],
            ["--study", "1.2"],
            ["--query", "StudyDate=1", "--series", "1.2", "--modality", "ct"],
            ["--resend", "--study", "1.2"],
            ["--study", "1.2", "--modality", "ct", "--spooled_for", URL],
            ["--study", "1.2", "--modality", "ct", "--password", "sesame"],
        ],
    )
    def test_that_contradicts_itself_ends_with_2(self, arguments: list[str]) -> None:
        assert main(["pacs", "--url", URL, *arguments]) == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--url", URL, "--study", "../1"], "E_OPTION: study must be a UID"),
            (["--url", URL, "--study", "1.2", "--series", "x"], "E_OPTION: series must be a UID"),
            (["--url", URL, "--query", "limit=1"], "E_OPTION: query must name attributes"),
            (
                ["--url", "https://a:b@c/", "--study", "1.2"],
                "E_OPTION: url must not contain a user",
            ),
        ],
    )
    def test_of_a_bad_value_ends_with_one_line(
        self, arguments: list[str], words: str, capsys: Any
    ) -> None:
        assert main(["pacs", *arguments, "--modality", "ct"]) == 1
        told = capsys.readouterr().err
        assert told.startswith(words)
        assert told.count("\n") == 1

    def test_without_the_extra_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        missing = "dicomweb_client"
        monkeypatch.setattr(
            command, "find_spec", lambda name: None if name == missing else find(name)
        )

        assert main(["pacs", "--url", URL, "--resend"]) == 1
        assert "install esp-medsam[dicomweb]" in capsys.readouterr().err

    def test_of_the_how_to_names_options_that_there_are(self, capsys: Any) -> None:
        text = (ROOT / "docs/how-to/pacs.md").read_text(encoding="utf-8")
        main(["pacs", "--help"])
        known = set(re.findall(r"--[a-z_]+", capsys.readouterr().out))

        named = set(re.findall(r"`[^`\n]*`|^.*esp-medsam pacs.*$", text, re.M))

        assert {option for part in named for option in re.findall(r"--[a-z_]+", part)} <= known


class TestQuery:
    def test_that_matches_nothing_says_so(
        self, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        def build(request: Request, work: Path) -> SimpleNamespace:
            return SimpleNamespace(outputs=SimpleNamespace(output_dir=work / "out"))

        monkeypatch.setattr(command, "_build", build)
        arguments = ["--query", "StudyDate=1", "--modality", "ct", "--spool", str(tmp_path)]

        assert main(["pacs", "--url", fake.url, *arguments]) == 0
        assert capsys.readouterr().err == "No study matches the query.\n"


class TestResend:
    def test_sends_what_waits_for_this_server(
        self, fake: Any, tmp_path: Path, waiting: Callable[[str], Path], capsys: Any
    ) -> None:
        entry = waiting(fake.url)

        status = main(["pacs", "--resend", "--url", fake.url, "--spool", str(tmp_path / "spool")])

        assert status == 0
        assert capsys.readouterr().out == "1 stored, 0 held, 0 empty, 0 failed.\n"
        assert [uids[2] for uids in fake.files] == ["1.2.9"]
        assert not entry.exists()

    def test_sends_what_waits_for_another_only_where_that_is_said(
        self, fake: Any, tmp_path: Path, waiting: Callable[[str], Path], capsys: Any
    ) -> None:
        entry = waiting(URL)
        arguments = ["pacs", "--resend", "--url", fake.url, "--spool", str(tmp_path / "spool")]

        assert main(arguments) == 0
        kept, told = entry.exists(), capsys.readouterr().err
        assert main([*arguments, "--spooled_for", f"{URL}/"]) == 0

        assert kept
        assert f"1 results wait for {URL}" in told
        assert len(fake.files) == 1
        assert not entry.exists()

    def test_keeps_what_is_damaged_and_sends_the_rest(
        self, fake: Any, tmp_path: Path, waiting: Callable[[str], Path], capsys: Any
    ) -> None:
        entry = waiting(fake.url)
        (entry.parent / "1.1.dcm").write_bytes(b"\0" * 200)
        (entry.parent / "1.2.dcm").write_bytes(entry.read_bytes()[:-1000])

        status = main(["pacs", "--resend", "--url", fake.url, "--spool", str(tmp_path / "spool")])

        told = capsys.readouterr()
        assert status == 1
        assert told.out == "1 stored, 0 held, 0 empty, 2 failed.\n"
        assert "failed instance 1.1: E_CORRUPT" in told.err
        assert "failed instance 1.2: E_CORRUPT" in told.err
        assert [uids[2] for uids in fake.files] == ["1.2.9"]

    def test_takes_for_held_what_another_run_has_sent_meanwhile(
        self, fake: Any, pacs: Any, tmp_path: Path, waiting: Callable[[str], Path]
    ) -> None:
        entry = waiting(fake.url)
        spool = Spool(tmp_path / "spool", fake.url)
        shutil.copy(entry, entry.with_name("1.2.8.dcm"))
        sending = resend(pacs, spool)

        first = next(sending)
        entry.unlink()

        assert [sent.status for sent in (first, *sending)] == ["stored", "held"]


class TestEnded:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_unwinds_the_run(self, number: signal.Signals) -> None:
        # Whoever started the tests with nohup has SIGHUP ignored, which the command would keep.
        before = signal.signal(number, signal.SIG_DFL)
        unwound = []

        def run() -> None:
            with command._ended():
                try:
                    os.kill(os.getpid(), number)
                finally:
                    unwound.append(True)

        try:
            with pytest.raises(SystemExit) as caught:
                run()

            assert caught.value.code == 128 + number
            assert unwound == [True]
            assert signal.getsignal(number) is signal.SIG_DFL
        finally:
            signal.signal(number, before)

    def test_ctrl_c_during_a_run_leaves_no_patient(
        self, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        def interrupted(request: Request, work: Path) -> None:
            (work / "patient.dcm").write_bytes(b"DICM")
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "_build", interrupted)
        arguments = ["--study", "1.2", "--modality", "ct", "--spool", str(tmp_path / "spool")]

        assert main(["pacs", "--url", fake.url, *arguments]) == 130
        assert "Interrupted" in capsys.readouterr().err
        assert list((tmp_path / "spool").rglob("patient.dcm")) == []
