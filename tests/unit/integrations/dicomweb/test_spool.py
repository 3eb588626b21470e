from __future__ import annotations

import os
from pathlib import Path

import pytest

from esp_medsam.errors import OutputError
from esp_medsam.integrations.dicomweb.query import Series
from esp_medsam.integrations.dicomweb.spool import Made, Spool, default_spool


URL = "https://pacs.example/dicom-web"
SERIES = Series(study_uid="1.2", series_uid="1.2.3")


def finished(tmp_path: Path) -> Path:
    path = tmp_path / "finished.dcm"
    path.write_bytes(b"DICM")
    return path


class TestSpool:
    def test_keeps_a_file_for_its_server_alone(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "spool", URL)

        entry = spool.put(finished(tmp_path), "1.2.9")

        assert spool.entries() == [entry]
        assert entry.read_bytes() == b"DICM"
        other = Spool(tmp_path / "spool", "https://other.example")
        assert other.entries() == []
        assert other.of_others() == {URL: 1}
        assert Spool(tmp_path / "spool", URL).entries() == [entry]

    def test_is_private(self, tmp_path: Path) -> None:
        (tmp_path / "spool").mkdir(mode=0o755)
        spool = Spool(tmp_path / "spool", URL)
        spool.put(finished(tmp_path), "1.2.9")
        spool.write_record("a", SERIES, [])

        for path in (tmp_path / "spool").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
        assert Spool(tmp_path / "new", URL).root.stat().st_mode & 0o077 == 0
        # That one is the user's, and may be anything: not ours to close.
        assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("uid", ["../1.2", "", "..", "1.2/3"])
    def test_has_no_place_for_what_is_no_uid(self, tmp_path: Path, uid: str) -> None:
        with pytest.raises(OutputError, match="must be named by a UID"):
            Spool(tmp_path, URL).entry(uid)

    def test_passes_over_what_is_half_written(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, URL)
        (spool.outbox / ".esp-medsam-1234.tmp").write_bytes(b"DI")
        (spool.outbox / "note.dcm").write_bytes(b"")

        assert spool.entries() == []

    def test_remembers_what_a_series_gave(self, tmp_path: Path) -> None:
        made = [Made(label="a", series_uid="1.2", instance_uid="1.2.9"), Made(label="b")]
        spool = Spool(tmp_path, URL)
        spool.write_record("key", SERIES, made)

        assert spool.record("key") == made
        assert spool.record("other") is None

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b'{"results": 7}', b'{"results": [{"seg": "../1"}]}', b"{" * 9999]
    )
    def test_takes_a_damaged_record_for_none(self, tmp_path: Path, content: bytes) -> None:
        spool = Spool(tmp_path, URL)
        spool.write_record("key", SERIES, [])
        next(tmp_path.glob("*/records/key.json")).write_bytes(content)

        assert spool.record("key") is None

    def test_clears_away_what_killed_runs_left_half_written(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, URL)
        spool.write_record("key", SERIES, [])
        server = spool.outbox.parent
        for folder in (server, server / "records"):
            (folder / ".esp-medsam-1234.tmp").write_bytes(b"{")

        Spool(tmp_path, URL)

        assert [path.name for path in (server / "records").iterdir()] == ["key.json"]
        assert sorted(path.name for path in server.iterdir()) == [
            "outbox",
            "records",
            "server.json",
        ]

    def test_does_not_wait_for_a_pipe_in_the_place_of_a_record(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, URL)
        os.mkfifo(spool.outbox.parent / "records" / "key.json")

        assert spool.record("key") is None

    def test_refuses_a_folder_that_is_a_link(self, tmp_path: Path) -> None:
        outbox = Spool(tmp_path / "spool", URL).outbox
        (tmp_path / "elsewhere").mkdir()
        outbox.rmdir()
        outbox.symlink_to(tmp_path / "elsewhere")

        with pytest.raises(OutputError, match=r"folder.*own; it is a link"):
            Spool(tmp_path / "spool", URL)

    def test_refuses_a_place_that_is_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="must be a folder that can be written to"):
            Spool(finished(tmp_path), URL)


def test_the_default_follows_the_user_s_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    assert default_spool() == Path("/state/esp-medsam/pacs")
