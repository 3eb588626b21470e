from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from esp_medsam.errors import OutputError
from esp_medsam.integrations.dicomweb.work import work_folder


HOLD = """
import sys
from pathlib import Path
from esp_medsam.integrations.dicomweb.work import work_folder
with work_folder(Path(sys.argv[1])) as folder:
    (folder / "patient.dcm").write_bytes(b"DICM")
    print(folder, flush=True)
    sys.stdin.read()
"""


class TestWorkFolder:
    def test_is_private_and_gone_afterwards(self, tmp_path: Path) -> None:
        with work_folder(tmp_path / "work") as folder:
            (folder / "in").mkdir()
            (folder / "in/patient.dcm").write_bytes(b"DICM")

            assert folder.stat().st_mode & 0o077 == 0

        assert [path.name for path in (tmp_path / "work").iterdir()] == ["guard.lock"]

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
    def test_is_gone_after_a_failure(self, tmp_path: Path, kind: type[BaseException]) -> None:
        def fail() -> None:
            with work_folder(tmp_path) as folder:
                (folder / "patient.dcm").write_bytes(b"DICM")
                raise kind

        with pytest.raises(kind):
            fail()

        assert [path.name for path in tmp_path.iterdir()] == ["guard.lock"]

    def test_of_a_living_process_stays_and_of_a_killed_one_goes(self, tmp_path: Path) -> None:
        held = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert held.stdout is not None
        assert held.stdin is not None
        with held:
            theirs = Path(held.stdout.readline().strip())
            with work_folder(tmp_path):
                while_alive = (theirs / "patient.dcm").exists()
            held.kill()
            held.wait()
        left = (theirs / "patient.dcm").exists()

        with work_folder(tmp_path):
            assert while_alive
            assert left
            assert not theirs.exists()

    def test_removes_nothing_that_it_did_not_make(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / ("0" * 32)).symlink_to(tmp_path / "thesis")

        with work_folder(tmp_path):
            pass

        assert (tmp_path / "thesis").is_dir()

    def test_removes_the_lock_of_a_run_that_had_no_folder_yet(self, tmp_path: Path) -> None:
        (tmp_path / f"{'0' * 32}.lock").touch()

        with work_folder(tmp_path):
            pass

        assert [path.name for path in tmp_path.iterdir()] == ["guard.lock"]

    def test_does_not_wait_for_a_pipe_in_the_place_of_a_lock(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / f"{'0' * 32}.lock")

        with work_folder(tmp_path):
            pass

    def test_refuses_or_passes_a_pipe_in_the_place_of_the_guard(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "guard.lock")

        # From filelock 4 on a lock is truncated, which a pipe cannot be.
        with suppress(OutputError), work_folder(tmp_path):
            pass
