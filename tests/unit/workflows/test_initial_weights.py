"""Weights that a training leaves, and those that one starts from."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

from esp_medsam.errors import (
    CheckpointError,
    CheckpointHashError,
    CheckpointMismatchError,
    InputNotFoundError,
)
from esp_medsam.io.folder import TEMPORARY_PREFIX
from esp_medsam.io.weights_record import read_weights_record
from esp_medsam.networks import ESPMedSAM, build_product, build_released
from esp_medsam.networks.checkpoints import load_checkpoint, to_delightsam
from esp_medsam.networks.self_check import self_check
from esp_medsam.workflows.train import (
    save_weights,
    start_from,
)
from esp_medsam.workflows.weights import load_network


@pytest.fixture(scope="module")
def network() -> ESPMedSAM:
    return build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)


class TestWeights:
    def test_half_precision_weights_start_a_network_again(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        save_weights(network, tmp_path / "deep" / "model.pt")
        other = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)

        start_from(other, tmp_path / "deep" / "model.pt")

        name = "mask_decoder.hypernetwork.fc1.weight"
        expected = network.state_dict()[name].half().float()
        torch.testing.assert_close(other.state_dict()[name], expected)
        assert other.state_dict()[name].dtype == torch.float32

    def test_are_recorded_with_what_they_compute_as_written(
        self, network: ESPMedSAM, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save_weights(network.train(), tmp_path / "model.pt")
        other = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)

        load_network(other, tmp_path / "model.pt")

        record = read_weights_record(tmp_path / "model.pt")
        assert record is not None
        assert record.self_check == self_check(other)
        assert network.training
        assert not caplog.records

    @pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
    def test_of_a_killed_run_that_are_half_written_are_removed(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        half_written = tmp_path / f"{TEMPORARY_PREFIX}0123456789abcdef.tmp"
        half_written.write_bytes(b"half")

        save_weights(network, tmp_path / "model.pt")

        assert not half_written.exists()

    def test_f18_damaged_weights_start_no_training(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        save_weights(network, tmp_path / "model.pt")
        content = bytearray((tmp_path / "model.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "model.pt").write_bytes(content)

        with pytest.raises(CheckpointHashError, match=r"remove model\.pt\.json"):
            start_from(network, tmp_path / "model.pt")

    def test_weights_without_controllers_leave_those_fresh_and_silent(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        released = build_released("xray")
        parts = ("image_encoder.", "mask_decoder.", "position_encoding.")
        shared = {
            key: value
            for key, value in released.state_dict().items()
            if key.startswith(parts) and ".controllers." not in key
        }
        torch.save(shared, tmp_path / "mobile_sam_shared.pt")
        other = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)

        start_from(other, tmp_path / "mobile_sam_shared.pt")

        after = other.state_dict()
        assert all(torch.equal(after[key], v) for key, v in shared.items() if key in after)
        assert not any(v.any() for key, v in after.items() if ".expert.fc2." in key)

    def test_refuses_a_file_that_was_not_converted(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        torch.save(to_delightsam(build_released("xray"), "xray"), tmp_path / "ESP.pth")

        with pytest.raises(CheckpointError, match=r"ESP\.pth must be a converted MobileSAM"):
            start_from(network, tmp_path / "ESP.pth")

    def test_refuses_weights_of_another_design(self, network: ESPMedSAM, tmp_path: Path) -> None:
        save_weights(network, tmp_path / "model.pt")
        other = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.2)

        with pytest.raises(CheckpointMismatchError, match=r"xray"):
            start_from(other, tmp_path / "model.pt")

    def test_leave_what_the_network_has_beyond_them_fresh(
        self, network: ESPMedSAM, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save_weights(network, tmp_path / "model.pt")
        targets = {"xray": ["lungs", "heart"], "ct": ["liver"]}
        grown = build_product({"xray": 1, "ct": 6}, targets, "xray", expert_ratio=0.1)
        before = {key: value.clone() for key, value in grown.state_dict().items()}

        with caplog.at_level(logging.INFO):
            start_from(grown, tmp_path / "model.pt")

        after, held = grown.state_dict(), load_checkpoint(tmp_path / "model.pt")
        assert all(torch.equal(after[key], value.float()) for key, value in held.items())
        fresh = set(after) - set(held)
        silent = {key for key in fresh if ".ct.expert.fc2." in key}
        assert all(torch.equal(after[key], before[key]) for key in fresh - silent)
        assert silent
        assert not any(after[key].any() for key in silent)
        assert "fresh: ct, ct.liver, xray.heart." in caplog.text

    def test_old_targets_come_out_of_a_grown_network_as_before(
        self, network: ESPMedSAM, tmp_path: Path
    ) -> None:
        save_weights(network, tmp_path / "model.pt")
        old = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)
        targets = {"ct": ["liver"], "xray": ["heart", "lungs"]}
        grown = build_product({"xray": 1, "ct": 6}, targets, "xray", expert_ratio=0.1)
        for each in (old, grown):
            start_from(each, tmp_path / "model.pt").eval()
        image, modality = torch.randn(1, 3, 64, 64), torch.tensor([1])

        with torch.no_grad():
            before = old.predict(image, modality, [0]).low_res_logits
            after = grown.predict(image, modality, [1]).low_res_logits

        torch.testing.assert_close(after, before, atol=1e-5, rtol=0)

    def test_that_the_network_has_no_place_for_are_left_out_and_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        targets = {"xray": ["lungs", "heart"], "ct": ["liver"]}
        large = build_product({"xray": 1, "ct": 6}, targets, "xray", expert_ratio=0.1)
        save_weights(large, tmp_path / "model.pt")
        small = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)

        with caplog.at_level(logging.INFO):
            start_from(small, tmp_path / "model.pt")

        assert "fresh: nothing; left out: ct, ct.liver, xray.heart." in caplog.text

    def test_refuses_a_path_without_a_file(self, network: ESPMedSAM, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match=r"pretrained must .*none\.pt"):
            start_from(network, tmp_path / "none.pt")

    def test_starts_from_scratch_without_a_path(self, network: ESPMedSAM) -> None:
        assert start_from(network, "") is network
