"""What the container promises, in a sandbox of the same kind: no container engine is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage

from tests.support.processes import ROOT


DOCKERFILE = (ROOT / "Dockerfile").read_text()
PICTURE = Path(skimage.__path__[0]) / "data" / "retina.jpg"


def sandboxed(*mounts: str) -> list[str]:
    """Return the beginning of a command that runs as the container does."""
    if (bwrap := shutil.which("bwrap")) is None:
        pytest.skip("needs bubblewrap: apt-get install bubblewrap")
    command = [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    command += ["--tmpfs", "/tmp", *mounts, "--chdir", "/tmp", "--setenv", "HOME", "/tmp"]
    command += ["--unsetenv", "XDG_CACHE_HOME"]  # of whoever runs the tests
    command += ["--unshare-net", "--unshare-user", "--uid", "10001", "--gid", "10001"]
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("the system does not allow sandboxes to ordinary processes")
    return [*command, str(Path(sys.executable).with_name("esp-medsam"))]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
class TestReadOnlyWithoutNetworkAndRoot:
    def test_segments_into_what_is_mounted_alone(self, tmp_path: Path) -> None:
        out = tmp_path / "masks"
        out.mkdir()
        mounts = ["--bind", str(out), "/tmp/out"]
        command = [*sandboxed(*mounts), "segment", str(PICTURE), "/tmp/out"]
        command += ["--modality", "fundus", "--fast", "--preview", "--device", "cpu"]

        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        assert {path.name for path in out.iterdir()} == {
            "retina_seg.json",
            "retina_seg.png",
            "retina_seg_preview.jpg",
        }

    def test_says_in_one_line_that_a_folder_cannot_be_written(self) -> None:
        command = [*sandboxed(), "segment", str(PICTURE), "/usr/out", "--modality", "fundus"]

        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert done.stderr.startswith("E_OUTPUT: ")
        assert "Traceback" not in done.stderr


class TestDockerfile:
    def test_takes_all_that_the_package_is_built_from(self) -> None:
        kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
        named = re.findall(r"^    ([\w/.]+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)

        assert {"bundle", "esp_medsam", "pyproject.toml", "setup.cfg"} <= set(kept)
        for path in filter(lambda name: (ROOT / name).is_file(), named):
            assert path.split("/")[0] in kept, path

    def test_ends_as_a_user_without_rights(self) -> None:
        final = DOCKERFILE.split("\nFROM ")[-1]

        (user,) = re.findall(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
        assert int(user[0]) > 1000
        assert "ADD " not in DOCKERFILE
        assert 'ENTRYPOINT ["esp-medsam"]' in final


class TestMercure:
    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        """Folders of a job, and an ``esp-medsam`` that writes two files and tells its words."""
        command = tmp_path / "bin" / "esp-medsam"
        command.parent.mkdir()
        writes = 'mkdir -p "$3/a"; echo dicom > "$3/a/x_seg.dcm"; echo {} > "$3/a/x_seg.json"'
        command.write_text(f'#!/bin/sh\necho "$@"\n{writes}\n')
        command.chmod(0o755)
        (tmp_path / "in").mkdir()
        (tmp_path / "out").mkdir()
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        folders = {f"MERCURE_{name}_DIR": str(tmp_path / name.lower()) for name in ("IN", "OUT")}
        return {**os.environ, **folders, "PATH": path}

    @pytest.mark.skipif(sys.platform == "win32", reason="a script for Unix")
    def test_gets_segmentations_and_nothing_else(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        script = [str(ROOT / "examples" / "mercure" / "run.sh")]
        asked = {**environment, "ESP_MEDSAM_OPTIONS": "--targets liver,kidney"}

        done = subprocess.run(script, env=asked, capture_output=True, text=True, check=True)

        assert [path.name for path in (tmp_path / "out").iterdir()] == ["x_seg.dcm"]
        assert "--targets liver,kidney" in done.stdout
        assert f"segment {tmp_path / 'in'} " in done.stdout

    @pytest.mark.skipif(sys.platform == "win32", reason="a script for Unix")
    def test_gets_what_is_done_though_another_series_failed(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        with (tmp_path / "bin" / "esp-medsam").open("a") as command:
            command.write("exit 1\n")
        script = [str(ROOT / "examples" / "mercure" / "run.sh")]

        done = subprocess.run(script, env=environment, capture_output=True, check=False)

        assert done.returncode == 1
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["x_seg.dcm"]

    @pytest.mark.skipif(sys.platform == "win32", reason="a script for Unix")
    def test_fails_if_a_result_cannot_be_handed_over(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "out").rmdir()
        script = [str(ROOT / "examples" / "mercure" / "run.sh")]

        assert subprocess.run(script, env=environment, capture_output=True, check=False).returncode

    @pytest.mark.skipif(sys.platform == "win32", reason="a script for Unix")
    def test_without_folders_ends_in_one_line(self, environment: dict[str, str]) -> None:
        del environment["MERCURE_OUT_DIR"]
        script = [str(ROOT / "examples" / "mercure" / "run.sh")]

        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)

        assert done.returncode != 0
        assert "MERCURE_OUT_DIR: mercure sets it" in done.stderr
