"""A folder that one run at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import platform
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from esp_medsam.errors import DiskFullError, LockedError, OutputError
from esp_medsam.io.folder import TEMPORARY_PREFIX, Folder
from esp_medsam.io.run_lock import alone_in
from esp_medsam.run_share import RunShare


LOCK = f"{TEMPORARY_PREFIX}run.lock"
NOTE = f"{TEMPORARY_PREFIX}run.note"


def die_alone(folder: Path) -> None:
    with alone_in(folder):
        os.kill(os.getpid(), 9)


@pytest.fixture
def others_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes a file of another user, which may be read or not even that."""
    theirs: dict[str, bool] = {}
    opened = Folder.open

    def guarded(self: Folder, name: str, flags: int) -> int:
        if name in theirs and (not theirs[name] or flags & (os.O_RDWR | os.O_WRONLY)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, name, flags)

    def make(name: str, *, is_readable: bool) -> None:
        (tmp_path / name).touch()
        theirs[name] = is_readable

    monkeypatch.setattr(Folder, "open", guarded)
    return make


def run_alone(folder: Path, share: RunShare | None = None) -> None:
    with alone_in(folder, share):
        pass


class TestAloneIn:
    def test_f14_a_second_run_is_refused_until_the_first_has_ended(self, tmp_path: Path) -> None:
        with alone_in(tmp_path / "out"):
            with pytest.raises(OutputError, match="out must be written by one run at a time"):
                run_alone(tmp_path / "out")
            run_alone(tmp_path / "other")

        run_alone(tmp_path / "out")

    def test_f14_whoever_is_refused_learns_who_writes(self, tmp_path: Path) -> None:
        told = rf"one run at a time; process {os.getpid()} on {re.escape(platform.node())}, begun 0"
        with alone_in(tmp_path), pytest.raises(LockedError, match=told):
            run_alone(tmp_path)

    @pytest.mark.parametrize("said", [b"", b"[]", b'{"host": 1}', b"{" * 5000, b"\xff"])
    def test_a_note_that_says_nothing_is_no_harm(self, tmp_path: Path, said: bytes) -> None:
        with alone_in(tmp_path):
            (tmp_path / NOTE).write_bytes(said)
            with pytest.raises(LockedError, match="another is writing"):
                run_alone(tmp_path)

    def test_a_folder_to_which_nothing_was_written_is_not_left(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()

        run_alone(tmp_path / "a/b/c")

        assert not list((tmp_path / "a").iterdir())

    def test_f15_what_a_killed_run_left_is_no_lock_and_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        process = multiprocessing.get_context("spawn").Process(target=die_alone, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == -9
        assert list(tmp_path.iterdir())

        run_alone(tmp_path)

        assert not list(tmp_path.iterdir())
        (told,) = caplog.messages
        assert f"the run of process {process.pid} on" in told
        assert told.endswith("was ended; this one goes on.")

    @pytest.mark.parametrize("call", ["mkdir", "open"])
    def test_a_folder_that_takes_no_lock_is_left_to_the_writes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path if call == "mkdir" else os, call, fail)

        run_alone(tmp_path / "out")

    def test_f3_a_disk_without_room_for_the_lock_is_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "open", fail)

        with pytest.raises(DiskFullError, match="must fit on the disk"):
            run_alone(tmp_path)

    def test_s5_a_link_in_the_place_of_the_lock_is_refused_and_its_target_stays(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / LOCK).symlink_to("theirs")

        with pytest.raises(OutputError, match=r"run\.lock must be.*file"):
            run_alone(tmp_path)

        assert (tmp_path / "theirs").read_bytes() == b"theirs"

    @pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
    def test_what_is_no_file_in_the_place_of_the_lock_is_refused_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have a hundred characters
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(LOCK)
        else:
            (os.mkfifo if kind == "pipe" else os.mkdir)(LOCK)

        with pytest.raises(OutputError, match=r"run\.lock must be this program's lock file"):
            run_alone(tmp_path)

    def test_nothing_is_written_to_a_file_in_the_place_of_the_lock(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / LOCK).hardlink_to(tmp_path / "theirs")

        run_alone(tmp_path)

        assert (tmp_path / "theirs").read_bytes() == b"theirs"
        assert not (tmp_path / LOCK).exists()

    def test_a_file_system_without_locks_keeps_nobody_out_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("esp_medsam.io.folder.fcntl.flock", fail)

        with alone_in(tmp_path):
            run_alone(tmp_path)

        assert not list(tmp_path.iterdir())
        assert "cannot be locked (no locks there)" in caplog.messages[0]

    def test_a_lock_that_its_holder_removed_meanwhile_is_made_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = fcntl.flock
        removed = []

        def remove_first(descriptor: int, operation: int) -> None:
            if not removed:
                removed.append(tmp_path / LOCK)
                (tmp_path / LOCK).unlink()
            lock(descriptor, operation)

        monkeypatch.setattr("esp_medsam.io.folder.fcntl.flock", remove_first)

        with alone_in(tmp_path):
            assert (tmp_path / LOCK).exists()
            with pytest.raises(OutputError, match="one run at a time"):
                run_alone(tmp_path)

    def test_an_error_within_it_passes_through(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="its own"), alone_in(tmp_path):
            raise OSError(0, "its own")

        assert not list(tmp_path.iterdir())


class TestShares:
    def test_are_written_at_the_same_time(self, tmp_path: Path) -> None:
        with alone_in(tmp_path, RunShare(1, 3)):
            run_alone(tmp_path, RunShare(2, 3))
            run_alone(tmp_path, RunShare(3, 3))
            with pytest.raises(LockedError, match="is writing a share of 3"):
                run_alone(tmp_path, RunShare(1, 3))

        assert not list(tmp_path.iterdir())

    def test_keep_other_divisions_and_runs_that_take_all_out(self, tmp_path: Path) -> None:
        with alone_in(tmp_path, RunShare(1, 3)):
            for share in (RunShare(1, 2), RunShare(1, 1), None):
                with pytest.raises(LockedError, match="is writing a share of 3"):
                    run_alone(tmp_path, share)

        run_alone(tmp_path)

    def test_are_kept_out_by_a_run_that_takes_all(self, tmp_path: Path) -> None:
        with alone_in(tmp_path), pytest.raises(LockedError, match="one run at a time"):
            run_alone(tmp_path, RunShare(1, 3))

    def test_that_were_killed_keep_nobody_out(self, tmp_path: Path) -> None:
        (tmp_path / f"{TEMPORARY_PREFIX}run-1-of-3.lock").touch()

        run_alone(tmp_path, RunShare(1, 2))
        run_alone(tmp_path)

    def test_that_are_kept_out_keep_nobody_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with alone_in(tmp_path, RunShare(1, 3)):
            with pytest.raises(LockedError):
                run_alone(tmp_path, RunShare(1, 2))
            assert not (tmp_path / f"{TEMPORARY_PREFIX}run-1-of-2.lock").exists()

    @pytest.mark.parametrize("name", [LOCK, f"{TEMPORARY_PREFIX}run-1-of-3.lock"])
    def test_of_other_users_that_cannot_be_looked_at_keep_out(
        self, tmp_path: Path, others_file: Callable[..., None], name: str
    ) -> None:
        others_file(name, is_readable=False)

        with pytest.raises(LockedError):
            run_alone(tmp_path)

    @pytest.mark.parametrize("name", [LOCK, f"{TEMPORARY_PREFIX}run-1-of-3.lock"])
    def test_that_other_users_left_behind_keep_nobody_out(
        self, tmp_path: Path, others_file: Callable[..., None], name: str
    ) -> None:
        others_file(name, is_readable=True)

        run_alone(tmp_path)
