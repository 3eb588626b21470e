"""Workers of `esp-medsam segment`, which die, hang and crash while the run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from esp_medsam.cli.main import main
from esp_medsam.io.record import JOURNAL
from esp_medsam.workflows import workers
from tests.support.troubled import (
    DIES,
    DIES_LAST,
    DIES_ONCE,
    FINE,
    HANGS,
    HANGS_WRITING,
    LOSES_ONCE,
    SLOW,
    TIGHT_ONCE,
    TROUBLE,
)


ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundle"

CONFIG = """
network: {_target_: tests.support.troubled.Troubled, table: "@table"}
pixel_mean: [0.0, 0.0, 0.0]
pixel_std: [1.0, 1.0, 1.0]
input_size: [32, 32]
preprocessing:
  _target_: Compose
  transforms:
    - {_target_: tests.support.troubled.CrashOnRead}
    - _target_: esp_medsam.io.LoadMedicalImaged
      keys: image
      table: "@result_table"
      modality: "@displayable_configs#modality"
    - {_target_: esp_medsam.transforms.MeasureImaged, keys: image}
"""

Run = Callable[..., int]


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that writes a picture of one gray value for each, named by its number."""
    (tmp_path / "in").mkdir()

    def write(*values: int, name: str = "") -> Path:
        for number, value in enumerate(values):
            picture = PIL.Image.new("RGB", (32, 32), (value,) * 3)
            picture.save(tmp_path / "in" / f"{name}{number}.png")
        return tmp_path / "in"

    return write


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a run with the network that does what pictures tell it."""
    (tmp_path / "weights.pt").write_bytes(b"weights")
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv(TROUBLE, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    own = ["--config", str(tmp_path / "config.yaml"), "--trust_config", "--bundle", str(BUNDLE)]
    own += ["--ckpt_path", str(tmp_path / "weights.pt"), "--device", "cpu"]
    return ["segment", str(tmp_path / "in"), str(tmp_path / "out"), "--modality", "fundus", *own]


def outputs(out: Path) -> dict[str, str]:
    """All files but the journal by their hashes, records by what they say."""
    found = {}
    for path in set(out.rglob("*")) - {out / JOURNAL}:
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".json":
            record = json.loads(content)
            for file in record["files"]:
                del file["modified_ns"]
            content = json.dumps(record).encode()
        found[str(path.relative_to(out))] = hashlib.sha256(content).hexdigest()
    return found


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    lines = capsys.readouterr().out.splitlines()
    return {Path(one["path"]).stem: one for one in map(json.loads, lines)}


class TestWorkers:
    def test_make_what_one_process_makes(
        self, command: list[str], pictures: Callable[..., Path], tmp_path: Path
    ) -> None:
        pictures(FINE, FINE - 1, FINE - 2, FINE - 3, FINE - 4)
        assert main([*command, "--workers", "0"]) == 0
        (tmp_path / "out").rename(tmp_path / "alone")

        assert main([*command, "--workers", "2"]) == 0

        assert outputs(tmp_path / "out") == outputs(tmp_path / "alone")

    def test_are_not_started_for_what_is_done(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pictures(FINE, FINE - 1)
        assert main([*command, "--workers", "0"]) == 0
        monkeypatch.setattr(workers, "WorkerProcess", None)

        assert main([*command, "--workers", "2"]) == 0

        assert "0 done, 2 kept, 0 failed" in capsys.readouterr().out

    def test_f8_f9_f11_that_die_fail_their_item_alone(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pictures(FINE, DIES, FINE, DIES_ONCE, LOSES_ONCE)
        pictures(FINE, name="crash")

        assert main([*command, "--workers", "2", "--json"]) == 1

        found = told(capsys)
        assert {name: one["code"] for name, one in found.items()} == {
            "0": None,
            "1": "E_WORKER_DIED",
            "2": None,
            "3": None,
            "4": None,
            "crash0": "E_DECODE_CRASH",
        }
        assert "2 of them ended, the last by SIGKILL" in found["1"]["message"]
        again = "Segmented in attempt 2: the worker before ended by SIGKILL."
        assert found["3"]["warnings"][-1] == again
        assert found["4"]["warnings"][-1] == again.replace("SIGKILL", "exit status 1")
        assert "ended the process by SIGSEGV" in found["crash0"]["message"]
        assert not list((tmp_path / "out").rglob(".*"))

    def test_f10_that_hang_fail_their_item_when_its_time_is_up(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """With the default number of workers."""
        monkeypatch.delenv("ESP_MEDSAM_WORKERS")
        pictures(FINE, HANGS, FINE)

        assert main([*command, "--timeout", "10", "--json"]) == 1

        assert {name: one["code"] for name, one in told(capsys).items()} == {
            "0": None,
            "1": "E_TIMEOUT",
            "2": None,
        }

    def test_that_cannot_be_replaced_fail_what_is_left_and_the_run_tells_all(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pictures(FINE, DIES_LAST, FINE)

        assert main([*command, "--workers", "1", "--json"]) == 1

        captured = capsys.readouterr()
        found = [json.loads(line) for line in captured.out.splitlines()]
        assert sorted((Path(one["path"]).stem, one["code"]) for one in found) == [
            ("0", None),
            ("1", "E_WORKER_DIED"),
            ("2", "E_WORKER_DIED"),
        ]
        assert "1 done, 0 kept, 2 failed" in captured.err

    def test_leave_no_mask_where_they_are_ended_before_the_record(
        self, command: list[str], pictures: Callable[..., Path], tmp_path: Path
    ) -> None:
        pictures(HANGS_WRITING)

        assert main([*command, "--workers", "1", "--timeout", "10"]) == 1

        assert not list((tmp_path / "out").rglob("*"))

    def test_try_what_does_not_fit_beside_others_again_alone(
        self, command: list[str], pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        pictures(TIGHT_ONCE, SLOW, FINE)

        assert main([*command, "--workers", "2", "--json"]) == 0

        assert [one["status"] for one in told(capsys).values()] == ["done"] * 3

    def test_that_cannot_start_end_the_run_in_one_line(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Without the overlay, the weights are no weights."""
        pictures(FINE, FINE)
        del command[command.index("--config") : command.index("--bundle")]

        assert main([*command, "--workers", "1"]) == 1

        captured = capsys.readouterr()
        assert "E_CHECKPOINT: " in captured.err
        assert "Traceback" not in captured.err
        assert [path.name for path in (tmp_path / "out").rglob("*")] == [JOURNAL]

    def test_are_needed_to_keep_a_time(
        self, command: list[str], pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        pictures(FINE)

        assert main([*command, "--workers", "0", "--timeout", "3"]) == 2

        assert "--timeout needs a worker" in capsys.readouterr().err

    @pytest.mark.parametrize("timeout", ["nan", "inf", "3000000"])
    def test_are_not_given_a_time_that_is_none(
        self,
        command: list[str],
        pictures: Callable[..., Path],
        capsys: pytest.CaptureFixture[str],
        timeout: str,
    ) -> None:
        pictures(FINE)

        assert main([*command, "--workers", "1", "--timeout", timeout]) == 2

        assert re.search(
            "--timeout(':)? (must be at most|Input should be greater)", capsys.readouterr().err
        )


class TestJournal:
    def rows(self, path: Path) -> dict[str, tuple[object, ...]]:
        database = sqlite3.connect(path)
        found = database.execute("SELECT item, status, code, attempts, run FROM item").fetchall()
        database.close()
        return {name: tuple(rest) for name, *rest in found}

    @pytest.mark.parametrize("count", ["0", "2"])
    def test_has_what_became_of_each_item(
        self, command: list[str], pictures: Callable[..., Path], tmp_path: Path, count: str
    ) -> None:
        """And is not taken for an input where results lie beside their images."""
        folder = pictures(FINE, FINE)
        (folder / "bad.png").write_bytes(b"no picture")
        command[2] = str(folder)

        assert main([*command, "--workers", count]) == 1
        assert main([*command, "--workers", count]) == 1

        bad = ("failed", "E_FORMAT", 2, 2)
        done = ("done", None, 1, 2)
        assert self.rows(folder / JOURNAL) == {"0.png": done, "1.png": done, "bad.png": bad}
        assert not list(folder.glob(f"{JOURNAL}-*"))

    def test_may_lie_elsewhere_and_is_not_needed_for_one_item(
        self, command: list[str], pictures: Callable[..., Path], tmp_path: Path
    ) -> None:
        one = [*command[:1], str(pictures(FINE) / "0.png"), *command[2:]]
        assert main(one) == 0
        assert not list((tmp_path / "out").glob("*.sqlite"))
        pictures(FINE, FINE)

        assert main([*command, "--journal", str(tmp_path / "j.sqlite"), "--overwrite"]) == 0

        names = {f"{tmp_path}/out/{name}" for name in ("0.png", "1.png")}
        assert set(self.rows(tmp_path / "j.sqlite")) == names
        assert not list((tmp_path / "out").glob("*.sqlite"))


class TestSignals:
    """As a user, a scheduler or the system ends a run."""

    @pytest.fixture
    def running(
        self, command: list[str], pictures: Callable[..., Path]
    ) -> Iterator[subprocess.Popen[str]]:
        """A run of two workers that have segmented something."""
        pictures(*[SLOW] * 8)
        # Whoever started the tests in the background had SIGINT ignored, by all that they start.
        start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        start += "import sys; from esp_medsam.cli.main import main; sys.exit(main())"
        run = subprocess.Popen(
            [sys.executable, "-c", start, *command, "--workers", "2", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stdout is not None
        assert run.stdout.readline()
        yield run
        run.kill()
        run.communicate()

    @staticmethod
    def children(run: subprocess.Popen[str]) -> list[int]:
        lists = Path(f"/proc/{run.pid}/task").glob("*/children")
        return [int(pid) for path in lists for pid in path.read_text().split()]

    @staticmethod
    def until_gone(pids: list[int]) -> None:
        for _ in range(300):
            if not any(Path(f"/proc/{pid}").exists() for pid in pids):
                return
            time.sleep(0.1)
        pytest.fail("A worker lives on.")

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
    @pytest.mark.parametrize(
        ("number", "status"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    )
    def test_f1_f2_end_the_workers_and_the_next_run_goes_on(
        self,
        running: subprocess.Popen[str],
        command: list[str],
        tmp_path: Path,
        number: signal.Signals,
        status: int,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pids = self.children(running)
        assert len(pids) >= 2

        os.kill(running.pid, number)
        _, said = running.communicate(timeout=60)  # far less, but machines may be busy

        assert running.returncode == status
        self.until_gone(pids)
        if status > 0:
            assert said.endswith("the same command goes on.\n")
            assert not list((tmp_path / "out").rglob(".*"))
        done = len(list((tmp_path / "out").rglob("*_seg.json")))
        assert 0 < done < 8
        assert main([*command, "--workers", "0"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{8 - done} done ")
        assert f", {done} kept, 0 failed;" in said
        assert not list((tmp_path / "out").rglob(".*"))
