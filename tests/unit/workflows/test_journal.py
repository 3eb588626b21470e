from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from esp_medsam.errors import OutputError, OutputExistsError
from esp_medsam.run_share import RunShare
from esp_medsam.workflows import journal
from esp_medsam.workflows.journal import Journal, check_shares, is_shared
from esp_medsam.workflows.results import ItemResult
from tests.support.journals import done, failed, opened, rows, write_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A record of a result."""
    return write_record(tmp_path)


class TestItems:
    def test_have_what_happened_and_what_was_made(self, path: Path, record: str) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png")
            assert rows(path)[0]["status"] == "running"
            kept.end(failed())
            assert rows(path)[0]["code"] == "E_CORRUPT"
        with opened(path) as kept:
            kept.begin("in/a.png")
            kept.end(done(record))

        (row,) = rows(path)
        assert (row["item"], row["status"], row["attempts"], row["run"]) == ("a.png", "done", 2, 2)
        assert (row["code"], row["message"], row["seconds"]) == (None, None, 1.25)
        assert (row["bytes"], row["sha256"], row["weights_sha256"]) == (9, "5a", "31")
        assert json.loads(row["outputs"]) == {"a_seg.png": "77"}
        assert row["began"] <= row["ended"]

    def test_that_were_done_before_are_told_as_their_records_say(
        self, path: Path, record: str
    ) -> None:
        """As where the journal was lost."""
        for _ in range(2):
            with opened(path) as kept:
                kept.end(done(record, "kept"))

        (row,) = rows(path)
        assert (row["status"], row["attempts"], row["run"]) == ("done", 0, 2)
        assert row["sha256"] == "5a"

    def test_that_were_running_when_the_run_was_killed_are_seen(self, path: Path) -> None:
        kept = opened(path)
        kept.begin("in/a.png")
        del kept

        with opened(path) as kept:
            kept.begin("in/a.png")

        assert rows(path)[0]["attempts"] == 2

    def test_that_a_run_left_are_told_as_interrupted(self, path: Path) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png")

        assert rows(path)[0]["status"] == "interrupted"

    def test_that_fail_after_they_were_done_state_nothing_of_the_result_before(
        self, path: Path, record: str
    ) -> None:
        with opened(path) as kept:
            kept.end(done(record))
            kept.begin("in/a.png")
            kept.end(failed())

        (row,) = rows(path)
        assert (row["status"], row["sha256"], row["record"]) == ("failed", None, None)

    def test_that_were_made_anew_elsewhere_are_told_anew(self, path: Path, record: str) -> None:
        for sha256 in ("old", "new"):
            content = json.loads(Path(record).read_text(encoding="utf-8"))
            content["source"]["sha256"] = sha256
            Path(record).write_text(json.dumps(content), encoding="utf-8")
            with opened(path) as kept:
                kept.end(done(record, "kept"))

        assert rows(path)[0]["sha256"] == "new"

    def test_of_records_of_the_first_schema_have_no_hashes(self, path: Path, record: str) -> None:
        content = json.loads(Path(record).read_text(encoding="utf-8"))
        content |= {"schema": 1, "files": ["a_seg.png"]}
        Path(record).write_text(json.dumps(content), encoding="utf-8")

        with opened(path) as kept:
            kept.end(done(record, "kept"))

        assert json.loads(rows(path)[0]["outputs"]) == {"a_seg.png": None}

    def test_may_have_names_that_are_not_utf_8(self, path: Path) -> None:
        name = os.fsdecode(b"M\xfcller.png")
        with opened(path) as kept:
            kept.begin(f"in/{name}")
            kept.end(ItemResult(path=f"in/{name}", status="failed", code="E", message=name))

        assert rows(path)[0]["item"] == "M\\udcfcller.png"

    @pytest.mark.parametrize(
        ("label", "expected"),
        [("in (1.2.3)", "(1.2.3)"), ("in/b/c.png", "b/c.png"), ("other/c.png", "other/c.png")],
    )
    def test_are_called_by_their_place_in_the_input(
        self, path: Path, label: str, expected: str
    ) -> None:
        with opened(path) as kept:
            kept.begin(label)

        assert rows(path)[0]["item"] == expected

    def test_of_several_folders_are_told_apart(self, path: Path) -> None:
        for out in ("a", "b"):
            with Journal(path, Path("in"), {}, prefix=f"{out}/") as kept:
                kept.begin("in/ct.nii.gz")

        assert {row["item"] for row in rows(path)} == {"a/ct.nii.gz", "b/ct.nii.gz"}


class TestRuns:
    def test_say_who_and_when(self, path: Path) -> None:
        with opened(path):
            assert rows(path, "run")[0]["ended"] is None

        (run,) = rows(path, "run")
        assert run["began"] <= run["ended"]
        assert run["software"].startswith("esp-medsam ")
        assert json.loads(run["settings"]) == {"modality": "fundus"}


class TestPlace:
    def test_f21_a_damaged_journal_is_made_anew(self, path: Path) -> None:
        with opened(path) as kept:
            for number in range(500):
                kept.begin(f"in/{number}.png")
        path.write_bytes(path.read_bytes()[:-5000])

        with opened(path) as kept:
            kept.begin("in/b.png")

        assert [row["item"] for row in rows(path)] == ["b.png"]
        assert path.with_name(f"{path.name}.damaged").exists()

    def test_a_journal_that_somebody_holds_stays(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png")
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path, **_: connect(path, timeout=0.1))
        other = connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(OutputError, match="database is locked"):
            opened(path)

        other.execute("COMMIT")
        other.close()
        assert len(rows(path)) == 1

    @pytest.mark.parametrize("content", [b"not a database", b"x" * 4096])
    def test_something_else_stays_and_is_named(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

        with pytest.raises(OutputExistsError, match="must be a journal of this program"):
            opened(path)

        assert path.read_bytes() == content

    def test_a_database_of_others_stays(self, path: Path) -> None:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE theirs (x)")
        database.commit()
        database.close()

        with pytest.raises(OutputExistsError, match="must be a journal of this program"):
            opened(path)

    @pytest.mark.parametrize("ending", ["", "-wal"])
    def test_links_are_not_followed(self, path: Path, tmp_path: Path, ending: str) -> None:
        Path(f"{path}{ending}").symlink_to(tmp_path / "elsewhere")

        with pytest.raises(OutputExistsError, match="it is something else"):
            opened(path)

        assert not (tmp_path / "elsewhere").exists()

    def test_a_journal_of_a_later_version_stays(self, path: Path) -> None:
        opened(path).__exit__()
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 9")
        database.close()

        with pytest.raises(OutputExistsError, match="it is of version 9"):
            opened(path)

    def test_f4_a_full_disk_is_told_and_the_run_goes_on(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png")
            pages = kept._database.execute("PRAGMA page_count").fetchone()[0]
            kept._database.execute(f"PRAGMA max_page_count = {pages}")

            for number in range(10_000):
                kept.begin(f"in/{number}.png")

        (told,) = caplog.messages
        assert "must fit on the disk" in told
        assert told.endswith("The journal is not kept any further.")

        assert rows(path)[0]["item"]

    def test_a_folder_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="must be writable"):
            opened(tmp_path / "none" / "journal.sqlite")

    @pytest.mark.parametrize(
        ("kind", "place", "expected"),
        [
            ("nfs4", "/data", True),
            ("ext4", "/data", False),
            ("nfs", "/other", False),
            ("fuse.sshfs", "/data/out", True),
        ],
    )
    def test_is_known_to_be_shared_by_the_innermost_mount(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, place: str, expected: bool
    ) -> None:
        mounts = f"disk / ext4 rw 0 0\nserver:/a {place} {kind} rw 0 0\n".encode()
        mounts += b"server:/b /mnt/b\xe9b\xe9\\040all nfs rw 0 0\n"
        monkeypatch.setattr(journal.Path, "read_bytes", lambda _: mounts)

        assert is_shared(Path("/data/out")) is expected
        assert is_shared(Path(os.fsdecode(b"/mnt/b\xe9b\xe9 all/out")))

    def test_on_a_shared_file_system_needs_no_memory_in_common(
        self, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        monkeypatch.setattr(journal, "is_shared", lambda _: True)

        with opened(path) as kept:
            kept.begin("in/a.png")
            assert not list(path.parent.glob("*-shm"))

        assert rows(path)


def test_others_may_write_while_a_kept_result_waits_to_be_noted(path: Path, record: str) -> None:
    with opened(path) as one, opened(path) as other:
        one.end(done(record, "kept"))
        other.begin("in/b.png")  # which would wait for half a minute, and fail

    assert sorted(row["item"] for row in rows(path)) == ["a.png", "b.png"]


def test_a_journal_of_the_first_version_is_kept(path: Path) -> None:
    with opened(path) as kept:
        kept.begin("in/a.png")
        kept.end(failed())
    database = sqlite3.connect(path)
    database.executescript(
        "ALTER TABLE item DROP COLUMN tried; ALTER TABLE item DROP COLUMN failures; "
        "ALTER TABLE item DROP COLUMN worker; "
        "PRAGMA user_version = 1;"
    )
    database.close()

    with opened(path) as kept:
        kept.begin("in/a.png", "one")
        kept.end(failed())

    (row,) = rows(path)
    assert (row["attempts"], row["tried"]) == (1, "one")


class TestShares:
    def test_of_another_number_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "esp-medsam-journal-2-of-3.sqlite").touch()

        check_shares(tmp_path, RunShare(1, 3))
        with pytest.raises(OutputExistsError, match=r"part must be one of 3 shares in .*; got 1/4"):
            check_shares(tmp_path, RunShare(1, 4))

    def test_of_no_journal_are_not_meant(self, tmp_path: Path) -> None:
        for name in ("esp-medsam-journal.sqlite", "esp-medsam-journal-x-of-y.sqlite"):
            (tmp_path / name).touch()

        check_shares(tmp_path, RunShare(1, 4))
