from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from esp_medsam.errors import DiskFullError, OutputError, TargetError
from esp_medsam.io import folder as folder_module
from esp_medsam.io.atomic import (
    all_or_none,
    atomic_file,
    clear_temporaries,
    is_ours,
    remove_file,
)
from esp_medsam.io.folder import TEMPORARY_PREFIX
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.picture_file import write_gray_png
from esp_medsam.io.run_lock import alone_in


ABANDONED = f"{TEMPORARY_PREFIX}0123456789abcdef.tmp"


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]


def die_writing(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), 9)


def write(path: Path, content: bytes = b"whole", root: Path | None = None) -> None:
    with atomic_file(path, root) as file:
        file.write(content)


class TestAtomicFile:
    def test_appears_whole_in_a_folder_it_makes(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "c.bin"

        with atomic_file(path) as file:
            file.write(b"whole")
            assert not path.exists()

        assert path.read_bytes() == b"whole"
        assert not temporaries(path.parent)

    def test_an_error_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "c.bin"
        path.write_bytes(b"old")

        with pytest.raises(TargetError), atomic_file(path):  # noqa: PT012  # the message is a name
            msg = "ours passes as it is"
            raise TargetError(msg)

        assert path.read_bytes() == b"old"
        assert not temporaries(tmp_path)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it ends before torch is used
    def test_f6_a_killed_process_leaves_what_was_there_and_the_next_run_clears_up(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "c.bin"
        path.write_bytes(b"old")
        process = multiprocessing.get_context("fork").Process(target=die_writing, args=(path,))
        process.start()
        process.join()
        assert path.read_bytes() == b"old"
        assert len(temporaries(tmp_path)) == 1

        with alone_in(tmp_path) as run:
            run.clear(tmp_path)
            write(path, b"new")

        assert path.read_bytes() == b"new"
        assert not temporaries(tmp_path)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_f3_a_full_disk_is_named(self, tmp_path: Path, code: int) -> None:
        with (
            pytest.raises(DiskFullError, match="a must fit on the disk"),
            atomic_file(tmp_path / "a"),
        ):
            raise OSError(code, os.strerror(code))

        assert not list(tmp_path.iterdir())

    def test_f3_what_no_longer_fits_hides_no_error_before_it(self, tmp_path: Path) -> None:
        def fail() -> None:
            with atomic_file(tmp_path / "a") as file, Path("/dev/full").open("wb") as full:
                file.write(b"in the buffer")
                os.dup2(full.fileno(), file.fileno())
                message = "first"
                raise TargetError(message)

        with pytest.raises(TargetError, match="first"):
            fail()

        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a file")

        with pytest.raises(OutputError, match=r"must be writable; got: "):
            write(tmp_path / "a" / "b")

    def test_two_writers_of_one_file_do_not_mix(self, tmp_path: Path) -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"first, and longer")
            write(tmp_path / "a", b"second")
            assert (tmp_path / "a").read_bytes() == b"second"

        assert (tmp_path / "a").read_bytes() == b"first, and longer"
        assert not temporaries(tmp_path)

    def test_is_closed_before_it_is_renamed_where_systems_ask_for_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.io.folder._HAS_LOCKS", False)
        opened = []
        rename = os.replace

        def rename_closed(*args: object, **options: object) -> None:
            assert opened[0].closed
            rename(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "replace", rename_closed)
        with atomic_file(tmp_path / "a") as file:
            opened.append(file)
            file.write(b"whole")

        assert (tmp_path / "a").read_bytes() == b"whole"

    def test_takes_a_name_as_long_as_the_system_allows(self, tmp_path: Path) -> None:
        write(tmp_path / ("n" * 255))

        assert (tmp_path / ("n" * 255)).exists()

    def test_s9_has_a_name_that_nobody_knows_before_and_the_mode_of_the_umask(
        self, tmp_path: Path
    ) -> None:
        names = set()
        before = os.umask(0o027)
        try:
            for _ in range(3):
                with atomic_file(tmp_path / "a"):
                    (temporary,) = temporaries(tmp_path)
                    assert temporary.stat().st_mode & 0o777 == 0o640
                    assert temporary.name.endswith(".tmp")
                    names.add(temporary.name)
        finally:
            os.umask(before)

        assert len(names) == 3
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("by_descriptor", [True, False])
    def test_s5_replaces_a_link_and_not_what_it_leads_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
    ) -> None:
        monkeypatch.setattr(folder_module, "_HAS_DIR_FD", by_descriptor)
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / "a").symlink_to("theirs")

        write(tmp_path / "a")

        assert (tmp_path / "theirs").read_bytes() == b"theirs"
        assert (tmp_path / "a").read_bytes() == b"whole"
        assert not (tmp_path / "a").is_symlink()

    def test_s5_is_never_written_through_a_link_below_its_root(self, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/sub").symlink_to(tmp_path / "outside")

        with pytest.raises(OutputError, match="out/sub must be a real folder; it is a link"):
            write(tmp_path / "out/sub/a", root=tmp_path / "out")

        assert not list((tmp_path / "outside").iterdir())

    def test_takes_the_place_of_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")

        write(tmp_path / "a")

        assert (tmp_path / "a").read_bytes() == b"whole"


class TestRemoveFile:
    def test_removes_a_link_and_nothing_that_lies_behind_one(self, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/a").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a").symlink_to(tmp_path / "outside/a")
        (tmp_path / "out/sub").symlink_to(tmp_path / "outside")

        remove_file(tmp_path / "out/a", tmp_path / "out")
        remove_file(tmp_path / "out/none/a", tmp_path / "out")
        with pytest.raises(OutputError, match="out/sub must be a real folder"):
            remove_file(tmp_path / "out/sub/a", tmp_path / "out")

        assert (tmp_path / "outside/a").exists()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["sub"]

    def test_names_what_cannot_be_removed(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()

        with pytest.raises(OutputError, match="a must be writable; got: "):
            remove_file(tmp_path / "a")


class TestAllOrNone:
    def test_leaves_all_without_an_error(self, tmp_path: Path) -> None:
        with all_or_none() as written:
            write(tmp_path / "a")
            written.append(tmp_path / "a")

        assert (tmp_path / "a").exists()

    @pytest.mark.parametrize("kind", [OutputError, KeyboardInterrupt])
    def test_leaves_none_after_one(self, tmp_path: Path, kind: type[BaseException]) -> None:
        (tmp_path / "folder").mkdir()

        def fail() -> None:
            with all_or_none(tmp_path) as written:
                write(tmp_path / "a")
                written += [tmp_path / "folder", tmp_path / "a"]  # the first cannot be removed
                raise kind

        with pytest.raises(kind):
            fail()

        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


class TestClear:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder with a temporary file that nobody writes any more."""
        (tmp_path / ABANDONED).write_bytes(b"half")
        return tmp_path

    def test_removes_what_nobody_writes(self, folder: Path) -> None:
        clear_temporaries(folder)

        assert not list(folder.iterdir())

    def test_leaves_what_is_being_written(self, folder: Path) -> None:
        with atomic_file(folder / "a") as file:
            clear_temporaries(folder)
            file.write(b"whole")

        assert [path.name for path in folder.iterdir()] == ["a"]

    def test_leaves_what_another_user_left(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)

        clear_temporaries(folder)

        assert temporaries(folder)

    def test_leaves_what_it_cannot_know_nobody_writes(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("esp_medsam.io.folder.fcntl.flock", fail)
        clear_temporaries(folder)
        monkeypatch.setattr("esp_medsam.io.folder._HAS_LOCKS", False)
        clear_temporaries(folder)

        assert temporaries(folder)

    def test_leaves_what_is_no_file_of_ours(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").touch()
        names = [f"{TEMPORARY_PREFIX}{name}" for name in ("fifo.tmp", "link.tmp", "x", "dir.tmp")]
        os.mkfifo(tmp_path / names[0])
        (tmp_path / names[1]).symlink_to("theirs")
        (tmp_path / names[2]).touch()
        (tmp_path / names[3]).mkdir()
        (tmp_path / "notes.tmp").touch()
        before = sorted(tmp_path.iterdir())

        clear_temporaries(tmp_path)

        assert sorted(tmp_path.iterdir()) == before

    def test_a_writer_whose_file_is_cleared_too_early_makes_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = fcntl.flock
        cleared = []

        def clear_first(descriptor: int, operation: int) -> None:
            if not cleared:
                cleared.extend(temporaries(tmp_path))
                cleared[0].unlink()
            lock(descriptor, operation)

        monkeypatch.setattr("esp_medsam.io.folder.fcntl.flock", clear_first)

        write(tmp_path / "a")

        assert cleared
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_happens_once_a_folder_and_run(self, tmp_path: Path) -> None:
        (tmp_path / "out/sub").mkdir(parents=True)

        with alone_in(tmp_path / "out") as run:
            run.clear(tmp_path / "out/sub")
            (tmp_path / "out/sub" / ABANDONED).touch()
            run.clear(tmp_path / "out/sub")
            assert temporaries(tmp_path / "out/sub")
        with alone_in(tmp_path / "out") as run:
            run.clear(tmp_path / "out/sub")

        assert not temporaries(tmp_path / "out/sub")

    @pytest.mark.parametrize("place", ["link", "none", "../outside", "/outside"])
    def test_reaches_nothing_outside_the_run_s_own_folder(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / ABANDONED).touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/link").symlink_to(tmp_path / "outside")

        with alone_in(tmp_path / "out") as run:
            run.clear(tmp_path / "out" / place.replace("/outside", str(tmp_path / "outside"), 1))

        assert temporaries(tmp_path / "outside")


class TestIsOurs:
    def test_knows_what_was_written_here(self, tmp_path: Path) -> None:
        array = np.zeros((3, 4), np.uint8)
        write_nifti(tmp_path / "a.nii.gz", array, geometry=None)
        write_gray_png(tmp_path / "a.png", array)
        (tmp_path / "b.png").write_bytes(b"\x89PNG")
        (tmp_path / "c.nii.gz").write_bytes(b"\x1f\x8bxx")

        ours = [path.name for path in sorted(tmp_path.iterdir()) if is_ours(path)]

        assert ours == ["a.nii.gz", "a.png"]
        assert not is_ours(tmp_path / "none")

    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a_seg.png")

        assert not is_ours(tmp_path / "a_seg.png")
