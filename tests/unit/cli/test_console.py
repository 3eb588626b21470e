"""The command on consoles of all kinds, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from tests.support.processes import COMMAND, ROOT


def run(
    arguments: list[str], cwd: Path, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, after a line of shell."""
    shell = f'{before} "$0" -c "{COMMAND}" "$@"'
    return subprocess.run(
        ["bash", "-c", shell, sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestConsole:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    @pytest.mark.parametrize("arguments", [["modalities"], ["--version"], ["--help"]])
    def test_full_one_is_told_in_one_line(self, arguments: list[str], tmp_path: Path) -> None:
        ended = run(arguments, tmp_path, "exec > /dev/full;")

        assert ended.returncode == 1
        assert ended.stderr == (
            "E_OUTPUT: standard output must be writable; got: No space left on device.\n"
        )

    @pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams")
    @pytest.mark.parametrize("arguments", [["modalities"], ["--version"], ["segment", "--help"]])
    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed_one_hides_what_is_told_and_nothing_else(
        self, arguments: list[str], closed: str, tmp_path: Path
    ) -> None:
        ended = run(arguments, tmp_path, f"exec {closed};")

        assert ended.returncode == 0
        assert ended.stderr == ""

    def test_deleted_current_folder_is_told_in_one_line(self, tmp_path: Path) -> None:
        ended = run(["inspect", "in"], tmp_path, 'mkdir gone; cd gone; rmdir "$PWD";')

        assert ended.returncode == 1
        assert ended.stderr.startswith("E_NOT_FOUND: The current folder must exist;")
        assert ended.stderr.count("\n") == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of addresses")
    @pytest.mark.parametrize("kilobytes", [300_000, 500_000, 700_000, 900_000, 1_200_000])
    def test_too_little_memory_to_start_is_told_in_one_line(
        self, tmp_path: Path, kilobytes: int
    ) -> None:
        PIL.Image.new("L", (8, 8)).save(tmp_path / "a.png")

        options = ["--modality", "fundus", "--preview", "b.png"]  # which load torch
        ended = run(["inspect", "a.png", *options], tmp_path, f"ulimit -v {kilobytes};")

        assert ended.returncode == 1
        assert ended.stderr.startswith("E_TOO_LARGE: torch and MONAI must fit in memory; they need")
        assert ended.stderr.count("\n") == 1

    def test_shows_what_it_has_no_letters_for(self, tmp_path: Path) -> None:
        ended = run(["inspect", "\u0142\U0001f600"], tmp_path, PYTHONIOENCODING="cp1252")

        assert ended.returncode == 1
        assert ended.stderr.startswith("E_NOT_FOUND: \\u0142\\U0001f600 must be")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
class TestCompletion:
    def test_installed_in_bash_completes_commands_and_options(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/esp-medsam"
        code = "from esp_medsam.cli.main import main; raise SystemExit(main())"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        program.chmod(0o755)
        environment = {
            "HOME": str(tmp_path),
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        script = """
            esp-medsam --install-completion bash > /dev/null && . ~/.bashrc
            completed() {
                COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _esp_medsam_completion $1
                echo "${COMPREPLY[@]}"
            }
            completed esp-medsam seg
            completed esp-medsam segment --mod
        """

        ended = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
        )

        assert ended.stdout.splitlines() == ["segment seg2nifti", "--modality"]
