from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from esp_medsam.errors import (
    CheckpointError,
    CheckpointHashError,
    CheckpointMismatchError,
    WeightsNotFoundError,
)
from esp_medsam.networks import build_product
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.workflows.runtime_choice import for_inference
from esp_medsam.workflows.weights import load_network, record_weights


class TestLoadNetwork:
    def test_half_precision_weights_run_in_single(self, tmp_path: Path) -> None:
        source = nn.Linear(2, 1)
        torch.save({k: v.half() for k, v in source.state_dict().items()}, tmp_path / "model.pt")

        network = load_network(nn.Linear(2, 1), tmp_path / "model.pt")

        assert network.weight.dtype == torch.float32
        torch.testing.assert_close(network.weight, source.weight.half().float())
        assert not network.training
        assert not network.weight.requires_grad

    def test_every_key_that_does_not_fit_is_named(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(3, 1), "extra": torch.zeros(1)}, tmp_path / "model.pt")

        with pytest.raises(CheckpointMismatchError, match=r"bias.*extra.*weight"):
            load_network(nn.Linear(2, 1), tmp_path / "model.pt")

    def test_file_that_is_no_checkpoint_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(b"not weights")

        with pytest.raises(CheckpointError):
            load_network(nn.Linear(2, 1), tmp_path / "model.pt")

    def test_weights_of_which_nothing_is_known_are_told_of(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")

        load_network(nn.Linear(2, 1), tmp_path / "model.pt")

        (record,) = caplog.records
        assert "model.pt: no record of these weights" in record.message

    def test_f18_weights_that_are_not_what_stands_beside_them_are_refused(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")
        record_weights(tmp_path / "model.pt")
        load_network(nn.Linear(2, 1), tmp_path / "model.pt")
        assert not caplog.records

        torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")

        with pytest.raises(CheckpointHashError, match=r"remove model\.pt\.json"):
            load_network(nn.Linear(2, 1), tmp_path / "model.pt")

    def test_f20_missing_weights_name_the_options(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsNotFoundError, match=r"`bundle_root`.*`ckpt_path`"):
            load_network(nn.Linear(2, 1), tmp_path / "none.pt")


class TestForInference:
    def test_rewrites_the_product_s_networks(self) -> None:
        network = build_product({"ct": 6}, {"ct": ["liver"]}).eval()

        found = for_inference(network)

        assert isinstance(found, InferenceNetwork)
        assert found.modalities == {"ct": 6}

    def test_leaves_others_as_they_are(self) -> None:
        other = nn.Linear(2, 1)
        network = build_product({"ct": 6}, {"ct": ["liver"]}).eval()
        network.image_encoder = nn.Identity()

        assert for_inference(other) is other
        assert for_inference(network) is network
