"""`esp-medsam segment --engine ray` on a Ray of this machine, whose parts are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.support.processes import descendants, until_gone
from tests.support.troubled import SLOW, TROUBLE


pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc"),
]

ROOT = Path(__file__).parents[2]

CONFIG = """
network: {_target_: tests.support.troubled.Troubled, table: "@table"}
pixel_mean: [0.0, 0.0, 0.0]
pixel_std: [1.0, 1.0, 1.0]
input_size: [32, 32]
"""

COUNT = 6

# Whoever started the tests in the background had SIGINT ignored, by all that they start.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from esp_medsam.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run over pictures that each take a second, without its engine."""
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        picture = PIL.Image.new("RGB", (32, 32), (SLOW,) * 3)
        picture.save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "weights.pt").write_bytes(b"weights")
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv(TROUBLE, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    own = ["--config", str(tmp_path / "config.yaml"), "--trust_config", "--device", "cpu"]
    own += ["--bundle", str(ROOT / "bundle"), "--ckpt_path", str(tmp_path / "weights.pt")]
    folders = [str(tmp_path / "in"), str(tmp_path / "out")]
    return [sys.executable, "-c", START, "segment", *folders, "--modality", "fundus", *own]


ON_RAY = ["--engine", "ray", "--workers", "2", "--json"]


@pytest.fixture
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run on two actors that have segmented something."""
    pipe = subprocess.PIPE
    run = subprocess.Popen([*command, *ON_RAY], stdout=pipe, stderr=pipe, text=True)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.readline(), run.stderr.read()
    yield run
    run.kill()
    run.communicate()


def outputs(out: Path) -> dict[str, Any]:
    """Pictures by their bytes, and records by what they say, but for times."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in out.glob("*_seg.png")}
    for path in out.glob("*_seg.json"):
        record = json.loads(path.read_text())
        for file in record["files"]:
            del file["modified_ns"]
        found[path.name] = record
    return found


def undisturbed(command: list[str], tmp_path: Path) -> dict[str, Any]:
    elsewhere = [
        str(tmp_path / "alone") if one == str(tmp_path / "out") else one for one in command
    ]
    subprocess.run([*elsewhere, "--workers", "0", "--quiet"], check=True, capture_output=True)
    return outputs(tmp_path / "alone")


def test_f8_an_actor_that_is_killed_is_replaced(
    running: subprocess.Popen[str], command: list[str], tmp_path: Path
) -> None:
    """And the run makes what one without Ray makes."""
    actors = [pid for pid, name in descendants(running.pid) if name.startswith("ray::SegmentActor")]
    assert len(actors) == 2

    os.kill(actors[0], signal.SIGKILL)
    said, errors = running.communicate()

    assert running.returncode == 0, errors
    told = [json.loads(line) for line in said.splitlines()]
    assert [one["status"] for one in told] == ["done"] * (COUNT - 1)
    warnings = [one for each in told for one in each["warnings"] if "attempt 2" in one]
    assert len(warnings) == 1
    assert "the end of its Ray actor" in warnings[0]
    assert not list((tmp_path / "out").glob(".*"))
    assert outputs(tmp_path / "out") == undisturbed(command, tmp_path)


def test_f13_a_driver_that_is_killed_takes_all_with_it_and_the_next_goes_on(
    running: subprocess.Popen[str], command: list[str], tmp_path: Path
) -> None:
    working = ("ray::SegmentActor", "spawn_main", "raylet")  # Ray's own agents take a minute
    pids = [pid for pid, name in descendants(running.pid) if any(one in name for one in working)]
    assert len(pids) >= 5

    running.kill()

    until_gone(pids)
    done = len(list((tmp_path / "out").glob("*_seg.json")))
    assert 0 < done < COUNT
    again = subprocess.run([*command, *ON_RAY], capture_output=True, text=True, check=True)
    told = [json.loads(line)["status"] for line in again.stdout.splitlines()]
    assert sorted(told) == ["done"] * (COUNT - done) + ["kept"] * done
    assert not list((tmp_path / "out").glob(".*"))
    assert outputs(tmp_path / "out") == undisturbed(command, tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f2_a_signal_ends_the_run_and_its_ray(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    pids = [pid for pid, _ in descendants(running.pid)]

    os.kill(running.pid, number)
    _, said = running.communicate()

    assert running.returncode == status, said
    assert said.endswith("the same command goes on.\n")
    until_gone(pids)
    assert not list((tmp_path / "out").glob(".*"))
