from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from esp_medsam.cli.engines import Asked, EngineName
from esp_medsam.cli.main import main
from esp_medsam.integrations.ray_batch import cluster


RAY = EngineName.ray


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"engine": RAY, "workers": 0}, "--engine ray needs a worker"),
        ({"timeout": 3.0, "workers": 0}, "--timeout needs a worker"),
        ({"device": "all", "workers": 0}, "--device all needs a worker"),
        ({"timeout": float("nan")}, "--timeout must be at most 1,000,000 seconds; got nan"),
        ({"address": "auto"}, "--address needs --engine ray"),
        ({"engine": RAY, "address": ""}, "--address must not be empty"),
        ({"engine": RAY, "device": "cuda:1"}, "must be cpu, cuda or all .* got cuda:1"),
        ({"engine": RAY, "device": "mps"}, "must be cpu, cuda or all .* got mps"),
    ],
)
def test_refuses_what_cannot_be_together(asked: dict[str, Any], rule: str) -> None:
    with pytest.raises(typer.BadParameter, match=rule):
        Asked(**asked).check()


@pytest.mark.parametrize("device", [None, "cpu", "cuda", "all"])
def test_lets_ray_choose_the_gpu(device: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())

    Asked(engine=RAY, device=device, address="auto", workers=2, timeout=60.0).check()


def test_a_missing_extra_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)

    status = main(
        ["segment", str(tmp_path), str(tmp_path / "out"), "--engine", "ray", "--workers", "1"]
    )

    assert status == 1
    assert capsys.readouterr().err == (
        "E_OPTION: --engine ray must have the package ray, which is missing; install it: "
        "pip install 'esp-medsam[ray]'.\n"
    )
    assert not (tmp_path / "out").exists()
