from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.networks import build_released
from esp_medsam.networks.checkpoints import load_checkpoint, to_delightsam


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "ESP_isic_best.pth"
    torch.manual_seed(0)
    torch.save(to_delightsam(build_released("dermoscopy"), "dermoscopy"), path)
    return path


class TestConvert:
    def test_writes_the_released_network(
        self, official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "out.pt"

        status = main(
            f"convert --from delightsam --modality dermoscopy {official} {output}".split()
        )

        assert status == 0
        assert capsys.readouterr().out == (
            f"De-LightSAM network for dermoscopy: written to {output}.\n"
        )
        assert "image_encoder.stem1.conv.weight" in load_checkpoint(output)

    def test_existing_output_needs_overwrite(
        self, official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "out.pt"
        output.touch()
        command = f"convert --from delightsam --modality dermoscopy {official} {output}".split()

        assert main(command) == 1
        assert capsys.readouterr().err.startswith("E_EXISTS: ")
        assert main([*command, "--overwrite"]) == 0

    def test_wrong_file_gets_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.pth").write_bytes(b"not a checkpoint")

        status = main(f"convert --from sam {tmp_path / 'a.pth'} {tmp_path / 'out.pt'}".split())

        captured = capsys.readouterr()
        assert status == 1
        assert captured.err.startswith(f"E_CHECKPOINT: {tmp_path / 'a.pth'} must be a state dict")
        assert captured.err.count("\n") == 1

    def test_unknown_origin_is_wrong_usage(self, tmp_path: Path) -> None:
        assert main(f"convert --from medsam {tmp_path / 'a'} {tmp_path / 'b'}".split()) == 2
