"""The examination of an installation, by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from esp_medsam import doctor
from esp_medsam.cli.main import main
from esp_medsam.workflows.bundle import find_bundle


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    lines = capsys.readouterr().out.splitlines()
    return {one["subject"]: one for one in map(json.loads, lines)}


def test_an_installation_that_works_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "--device", "cpu"])

    found = findings(capsys)
    assert status == 0, found
    needed = ("python", "package", "libraries", "devices", "memory", "DICOM", "weights")
    assert [found[subject]["status"] for subject in (*needed, "self-test")] == ["ok"] * 8
    assert "pixels" in found["self-test"]["told"]
    assert all(one["remedy"] for one in found.values() if one["status"] != "ok")


def test_what_is_missing_or_wrong_has_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = doctor.version

    def version(name: str) -> str:
        if name == "matplotlib":
            raise doctor.PackageNotFoundError(name)
        return "0.1" if name == "pydicom" else known(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "missing_decoders", lambda: ["JPEG 2000"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ESP_MEDSAM_LABEL_ENVIRONMENT", str(tmp_path / "none"))
    shutil.copytree(find_bundle(), tmp_path / "bundle")
    with (tmp_path / "bundle" / "models" / "model.pt").open("ab") as weights:
        weights.write(b"damage")

    status = main(["doctor", "--json", "--device", "cpu", "--bundle", str(tmp_path / "bundle")])

    assert status == 1
    found = findings(capsys)
    assert found["libraries"]["told"] == "pydicom 0.1 is not >=3.0.2"
    assert found["libraries"]["status"] == "wrong"
    assert found["extra report"]["status"] == "missing"
    assert "matplotlib is missing" in found["extra report"]["told"]
    assert found["DICOM"]["told"] == "no decoder for JPEG 2000"
    assert found["label"]["remedy"] == "esp-medsam label --setup"
    assert found["view"]["status"] == "missing"
    assert found["weights"]["status"] == "wrong"
    assert found["weights"]["told"].startswith("E_CHECKPOINT")
    assert found["self-test"]["status"] == "wrong"


def test_a_bundle_of_other_modalities_is_not_called_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(find_bundle(), tmp_path / "bundle")
    table = tmp_path / "bundle" / "configs" / "targets.yaml"
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    del content["modalities"]["fundus"]
    table.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    main(["doctor", "--json", "--device", "cpu", "--bundle", str(tmp_path / "bundle")])

    assert findings(capsys)["self-test"]["status"] == "missing"


def test_the_text_ends_with_how_much_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = doctor.Finding(subject="disk", status="wrong", told="full", remedy="Empty it.")
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([one]))

    assert main(["doctor"]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "wrong    disk            full -> Empty it.",
        "0 ok; 0 missing, which can be done without; 1 wrong.",
    ]
