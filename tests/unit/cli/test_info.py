from __future__ import annotations

import json
from pathlib import Path

import pytest

from esp_medsam.cli.main import main


class TestInfo:
    def test_prints_the_released_networks_counts(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["info", "--network", "released", "--input_size", "64", "64"])

        out = capsys.readouterr().out
        assert status == 0
        assert out.startswith("released network\n")
        for count in ("6,065,532", "3,144,202", "3,505,024", "12,789,587"):
            assert count in out
        assert "one more target: +256 parameters" in out
        assert "one more modality: +3,144,202 parameters" in out

    def test_shipped_network_stays_below_20_million(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["info", "--json", "--modality", "ct", "--input-size", "64", "96"])

        content = json.loads(capsys.readouterr().out)
        assert status == 0
        assert content["modality"] == "ct"
        assert content["input_size"] == [64, 96]
        assert content["total_parameters"] < 20_000_000
        assert sum(content["parameters"].values()) == content["total_parameters"]
        assert content["modalities"]["ct"]["targets"] == 6

    def test_takes_any_table_and_width(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        code = "{value: '1', scheme: SCT, meaning: Any}"
        target = f"{{label: 1, category: {code}, type: {code}, color: [1, 2, 3]}}"
        (tmp_path / "t.yaml").write_text(
            "neutral_dicom_modalities: []\nmodalities:\n"
            f"  thermography: {{index: 8, dicom_modalities: [TG], targets: {{burn: {target}}}}}\n"
        )

        status = main(
            f"info --targets {tmp_path / 't.yaml'} --expert_ratio 1 --tokens_per_target 2 "
            "--input_size 32 32 --json --modality thermography".split()
        )

        content = json.loads(capsys.readouterr().out)
        assert status == 0
        assert list(content["modalities"]) == ["thermography"]
        assert content["parameters"]["modality_query"] == 512

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (
                "--input_size 100 64",
                "E_OPTION: input_size must be two multiples of 32, 16,384 at most; got 100 64.",
            ),
            ("--modality spect", "E_MODALITY: modality must be one of dermoscopy, xray"),
            (
                "--network paper --modality xray --modality fundus",
                "E_OPTION: modality must be given once",
            ),
            ("--network released --expert_ratio 1", "E_OPTION: expert_ratio must be left out"),
        ],
    )
    def test_refuses_in_one_line(
        self, capsys: pytest.CaptureFixture[str], arguments: str, line: str
    ) -> None:
        status = main(["info", *arguments.split()])

        captured = capsys.readouterr()
        assert status == 1
        assert captured.out == ""
        assert captured.err.startswith(line)
        assert captured.err.count("\n") == 1

    @pytest.mark.parametrize("arguments", ["--expert_ratio -1", "--tokens_per_target 0"])
    def test_wrong_usage_ends_with_status_2(
        self, capsys: pytest.CaptureFixture[str], arguments: str
    ) -> None:
        assert main(["info", *arguments.split()]) == 2
        assert "Invalid value for" in capsys.readouterr().err
