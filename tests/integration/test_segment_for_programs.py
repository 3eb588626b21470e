"""`esp-medsam segment` as programs drive it: JSON, and plans without a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esp_medsam.cli.main import main


BUNDLE = Path(__file__).parents[2] / "bundle"


class TestForPrograms:
    @pytest.fixture
    def asked(self, photographs: Path, weights: Path, tmp_path: Path) -> list[str]:
        (photographs / "bad.png").write_bytes(b"no picture")
        own = ["--modality", "fundus", "--ckpt_path", str(weights), "--bundle", str(BUNDLE)]
        small = ["--input_size", "64", "--device", "cpu"]
        return ["segment", str(photographs), str(tmp_path / "out"), *own, *small, "--json"]

    def test_a_run_prints_an_object_per_item(
        self, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(asked) == 1

        told = capsys.readouterr()
        items = {Path(one["path"]).name: one for one in map(json.loads, told.out.splitlines())}
        assert {name: one["status"] for name, one in items.items()} == {
            "a.png": "done",
            "b.jpg": "done",
            "bad.png": "failed",
        }
        record = json.loads(Path(items["a.png"]["record"]).read_text())
        (target,) = record["targets"]
        assert items["a.png"]["voxels"] == {"vessels": target["voxels"]}
        assert items["bad.png"]["code"].startswith("E_")
        assert "2 done, 0 kept, 1 failed" in told.err

    def test_a_dry_run_says_what_a_run_would_do_and_does_nothing(
        self, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*asked, "--dry_run"]) == 0

        planned = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {one["status"] for one in planned} == {"to do"}  # no content is read
        assert not (tmp_path / "out").exists()
        assert main(asked) == 1
        capsys.readouterr()
        assert main([*asked, "--dry_run"]) == 0
        again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted(one["status"] for one in again) == ["kept", "kept", "to do"]
        for one in again:
            if one["status"] == "kept":
                assert all(Path(name).is_file() for name in one["files"])

    def test_a_dry_run_tells_what_would_be_refused(
        self, asked: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(asked)
        capsys.readouterr()

        assert main([*asked, "--dry_run", "--threshold", "0.3"]) == 1

        planned = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted(one["code"] or "" for one in planned) == ["", "E_EXISTS", "E_EXISTS"]
