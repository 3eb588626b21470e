"""The scripts of examples/ for schedulers, with a stand-in for the command that notes its words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from esp_medsam.cli.segment import segment
from esp_medsam.run_share import RunShare
from tests.support.processes import ROOT


EXAMPLES = ROOT / "examples"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``esp-medsam`` appends its arguments to ``calls``."""
    command = tmp_path / "bin" / "esp-medsam"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$CALLS"\necho >> "$CALLS"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CALLS": str(tmp_path / "calls")}


def calls(folder: Path) -> list[list[str]]:
    lines = (folder / "calls").read_text().splitlines()
    return [line.split("|")[:-1] for line in lines]


def shares(folder: Path) -> list[RunShare]:
    """Return the shares that were asked for, after checking the rest of each call."""
    found = []
    for call in calls(folder):
        assert call[:5] == ["segment", call[1], call[2], "--modality", "ct"]
        assert call[5] == "--part"
        assert call[7:] == ["--retry", "2"]
        found.append(RunShare.of(call[6]))
    return sorted(found, key=lambda share: share.number)


@pytest.mark.skipif(sys.platform == "win32", reason="these are for Unix")
class TestExamples:
    def test_each_task_of_a_slurm_array_takes_a_share(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        own = {"IN": "my scans", "OUT": "masks", "MODALITY": "ct", "SHARES": "3"}
        for number in (1, 2, 3):
            task = {**environment, **own, "SLURM_ARRAY_TASK_ID": str(number)}
            subprocess.run(["bash", str(EXAMPLES / "slurm.sh")], env=task, check=True)

        assert shares(tmp_path) == [RunShare(number, 3) for number in (1, 2, 3)]
        assert calls(tmp_path)[0][1:3] == ["my scans", "masks"]

    def test_a_slurm_task_without_its_settings_ends_before_it_begins(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        done = subprocess.run(
            ["bash", str(EXAMPLES / "slurm.sh")], env=environment, capture_output=True, check=False
        )

        assert done.returncode != 0
        assert not (tmp_path / "calls").exists()

    def test_each_pod_of_a_kubernetes_job_takes_a_share(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        job = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]
        (container,) = job["template"]["spec"]["containers"]
        own = {each["name"]: each["value"] for each in container["env"]}
        for index in (0, job["completions"] - 1):
            pod = {**environment, **own, "JOB_COMPLETION_INDEX": str(index)}
            subprocess.run([*container["command"], *container["args"]], env=pod, check=True)

        count = job["completions"]
        assert shares(tmp_path) == [RunShare(1, count), RunShare(count, count)]

    def test_snakemake_takes_all_shares(self, environment: dict[str, str], tmp_path: Path) -> None:
        if (snakemake := shutil.which("snakemake")) is None:
            pytest.skip("needs snakemake, which has an environment of its own")
        command = [snakemake, "--snakefile", str(EXAMPLES / "Snakefile"), "--cores", "4"]
        command += ["--directory", str(tmp_path), "--config", "scans=my scans", "masks=masks"]
        command += ["modality=ct", "shares=3"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

        assert shares(tmp_path) == [RunShare(number, 3) for number in (1, 2, 3)]

    def test_options_of_all_examples_are_the_command_s(self) -> None:
        known = segment.__annotations__
        for path in filter(Path.is_file, EXAMPLES.iterdir()):
            text = path.read_text()
            if "esp-medsam segment" not in text:
                continue
            asked = text.split("esp-medsam segment")[-1]
            options = set(re.findall(r"--([a-z_]+)", asked))
            assert {"modality", "part", "retry"} <= options, path.name
            assert options <= set(known), path.name
