from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from esp_medsam.errors import DiskFullError, OutputError, TargetError
from esp_medsam.io.atomic import TEMPORARY_PREFIX, alone_in, atomic_file, is_ours
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.raster import write_gray_png


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]


def die_alone(folder: Path) -> None:
    with alone_in(folder):
        os.kill(os.getpid(), 9)


def die_writing(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), 9)


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
    def test_a_killed_process_leaves_no_part_and_the_next_write_cleans_up(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "c.bin"
        process = multiprocessing.get_context("fork").Process(target=die_writing, args=(path,))
        process.start()
        process.join()
        assert not path.exists()
        assert len(temporaries(tmp_path)) == 1

        with atomic_file(path) as file:
            file.write(b"new")

        assert path.read_bytes() == b"new"
        assert not temporaries(tmp_path)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_a_full_disk_is_named(self, tmp_path: Path, code: int) -> None:
        with pytest.raises(DiskFullError, match="Make room"), atomic_file(tmp_path / "a"):
            raise OSError(code, os.strerror(code))

        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a file")

        with (
            pytest.raises(OutputError, match=r"must be writable; got: "),
            atomic_file(tmp_path / "a" / "b"),
        ):
            pass

    def test_two_writers_of_one_file_do_not_mix(self, tmp_path: Path) -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"first")
            with (
                pytest.raises(OutputError, match="one run at a time"),
                atomic_file(tmp_path / "a"),
            ):
                pass

        assert (tmp_path / "a").read_bytes() == b"first"

    def test_what_the_next_process_writes_is_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = Path.replace

        def rename_and_let_another_begin(temporary: Path, path: Path) -> Path:
            renamed = rename(temporary, path)
            temporary.write_bytes(b"another's")
            return renamed

        monkeypatch.setattr(Path, "replace", rename_and_let_another_begin)
        with atomic_file(tmp_path / "a") as file:
            file.write(b"first")

        assert [path.read_bytes() for path in temporaries(tmp_path)] == [b"another's"]

    def test_is_closed_before_it_is_renamed_where_systems_ask_for_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.io.atomic._HAS_LOCKS", False)
        opened = []
        rename = Path.replace

        def rename_closed(temporary: Path, path: Path) -> Path:
            assert opened[0].closed
            return rename(temporary, path)

        monkeypatch.setattr(Path, "replace", rename_closed)
        with atomic_file(tmp_path / "a") as file:
            opened.append(file)
            file.write(b"whole")

        assert (tmp_path / "a").read_bytes() == b"whole"

    def test_takes_a_name_as_long_as_the_system_allows(self, tmp_path: Path) -> None:
        with atomic_file(tmp_path / ("n" * 255)) as file:
            file.write(b"x")

        assert (tmp_path / ("n" * 255)).exists()


class TestAloneIn:
    def test_a_second_run_is_refused_until_the_first_has_ended(self, tmp_path: Path) -> None:
        with alone_in(tmp_path / "out"):
            with pytest.raises(OutputError, match="out must be written by one run at a time"):
                run_alone(tmp_path / "out")
            run_alone(tmp_path / "other")

        run_alone(tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    def test_what_a_killed_run_left_is_no_lock(self, tmp_path: Path) -> None:
        process = multiprocessing.get_context("spawn").Process(target=die_alone, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == -9
        assert temporaries(tmp_path)

        run_alone(tmp_path)

        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("call", ["mkdir", "open"])
    def test_a_folder_that_takes_no_lock_is_left_to_the_writes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, call, fail)

        run_alone(tmp_path)

    def test_a_file_system_without_locks_keeps_nobody_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("esp_medsam.io.atomic.fcntl.flock", fail)

        with alone_in(tmp_path):
            run_alone(tmp_path)

        assert not list(tmp_path.iterdir())

    def test_an_error_within_it_passes_through(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="its own"), alone_in(tmp_path):
            raise OSError(0, "its own")

        assert not list(tmp_path.iterdir())


def run_alone(folder: Path) -> None:
    with alone_in(folder):
        pass


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
