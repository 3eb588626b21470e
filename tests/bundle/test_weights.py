from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from esp_medsam.errors import CheckpointError, CheckpointHashError, RuntimeCheckError
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.self_check import differences, self_check
from esp_medsam.networks.state_dicts import load_checkpoint, load_into
from esp_medsam.workflows.weights import load_network, network_of_table, pin_weights


BUNDLE = Path(__file__).parents[2] / "bundle"
WEIGHTS = BUNDLE / "models" / "model.pt"

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs the bundle's weights")


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return metadata["weights"]["models/model.pt"]


@pytest.fixture
def empty(table: ModalityTable) -> ESPMedSAM:
    return network_of_table(table)


@pytest.fixture(scope="module")
def loaded() -> ESPMedSAM:
    table = ModalityTable.read(BUNDLE / "configs" / "targets.yaml")
    network = network_of_table(table)
    load_into(network, load_checkpoint(WEIGHTS))
    return network.float().eval().requires_grad_(False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The weights of a copy of the bundle."""
    for name in ("configs/metadata.json", "configs/targets.yaml", "models/model.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((BUNDLE / name).read_bytes())
    return tmp_path / "models" / "model.pt"


class TestShippedWeights:
    def test_are_those_of_the_metadata(self, entry: dict[str, Any]) -> None:
        assert entry["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()

    def test_compute_here_what_they_computed_where_they_were_made(
        self, loaded: ESPMedSAM, entry: dict[str, Any]
    ) -> None:
        assert differences(self_check(loaded), entry["self_check"]) == []

    def test_are_loaded_without_a_warning(
        self, empty: ESPMedSAM, caplog: pytest.LogCaptureFixture
    ) -> None:
        load_network(empty, WEIGHTS)

        assert not caplog.records

    def test_an_entry_is_written_anew_as_it_is(self, copied: Path) -> None:
        before = (BUNDLE / "configs" / "metadata.json").read_text()

        pin_weights(copied.parents[1])

        after = (copied.parents[1] / "configs" / "metadata.json").read_text()
        # Last digits may differ from processor to processor.
        assert re.sub(r"-?\d+\.\d+", "", after) == re.sub(r"-?\d+\.\d+", "", before)
        checks = [next(iter(json.loads(text)["weights"].values())) for text in (before, after)]
        assert differences(*(check["self_check"] for check in checks)) == []


class TestDamagedWeights:
    @pytest.mark.parametrize("place", [0.01, 0.3, 0.7, 0.999])
    def test_f18_s2_one_changed_bit_is_refused(
        self, empty: ESPMedSAM, copied: Path, place: float
    ) -> None:
        content = bytearray(copied.read_bytes())
        content[int(place * len(content))] ^= 0x10
        copied.write_bytes(content)

        with pytest.raises(CheckpointHashError, match=r"model\.pt must"):
            load_network(empty, copied)

    def test_f18_a_page_of_zeros_is_refused_without_a_record_too(
        self, empty: ESPMedSAM, copied: Path
    ) -> None:
        content = bytearray(copied.read_bytes())
        content[2**20 : 2**20 + 4096] = bytes(4096)
        lone = copied.parents[1] / "lone.pt"
        lone.write_bytes(content)

        with pytest.raises(CheckpointError, match=r"the checksum of its .* is wrong"):
            load_network(empty, lone)

    def test_f19_weights_of_zeros_are_refused(self, empty: ESPMedSAM, copied: Path) -> None:
        torch.save({k: torch.zeros_like(v) for k, v in load_checkpoint(copied).items()}, copied)

        with pytest.raises(CheckpointHashError, match=r"pin_weights\("):
            load_network(empty, copied)

    def test_a_machine_that_computes_otherwise_is_refused(
        self, empty: ESPMedSAM, copied: Path, entry: dict[str, Any]
    ) -> None:
        """As a broken kernel of one device does; the file itself is right."""
        metadata = copied.parents[1] / "configs" / "metadata.json"
        wrong = json.loads(metadata.read_text())
        wrong["weights"]["models/model.pt"]["self_check"]["ct"]["liver"][0] += 0.05
        metadata.write_text(json.dumps(wrong))

        with pytest.raises(RuntimeCheckError, match=r"on cpu it does not.*ct\.liver.*another dev"):
            load_network(empty, copied)


INERT = (
    # Attention over one token: what it is weighted by makes no difference.
    *(f"layers.{k}.self_attn.{name}" for k in (0, 1) for name in ("q_proj", "k_proj")),
    *(f"layers.{k}.cross_attn_image_to_token.{n}" for k in (0, 1) for n in ("q_proj", "k_proj")),
)


def matrices(network: ESPMedSAM) -> list[str]:
    """Names of all kernels and matrices that all modalities share, but for those without effect."""
    return [
        name
        for name, value in network.state_dict().items()
        if name.endswith(".weight")
        and value.ndim > 1
        and ".controllers." not in name
        and not any(part in name for part in INERT)
    ]


class TestBrokenLayers:
    def missed(
        self, network: ESPMedSAM, names: list[str], expected: Any, factor: float = 0.0
    ) -> list[str]:
        """Return which of these parameters can be multiplied so, and the self-check passes."""
        found, state = [], network.state_dict()
        for name in names:
            kept = state[name].clone()
            state[name].mul_(factor)
            if not differences(self_check(network), expected):
                found.append(name)
            state[name].copy_(kept)
        return found

    @pytest.mark.parametrize("factor", [0.0, -1.0])
    def test_one_of_twenty_layers_is_found_when_it_is_zero_or_turned_around(
        self, loaded: ESPMedSAM, entry: dict[str, Any], factor: float
    ) -> None:
        names = matrices(loaded)

        assert len(names) > 100
        assert self.missed(loaded, names[::20], entry["self_check"], factor) == []

    @pytest.mark.slow
    def test_every_layer_is_found_when_it_is_zero(
        self, loaded: ESPMedSAM, entry: dict[str, Any]
    ) -> None:
        assert self.missed(loaded, matrices(loaded), entry["self_check"]) == []

    @pytest.mark.slow
    def test_every_expert_but_some_is_found_when_it_is_zero(
        self, loaded: ESPMedSAM, entry: dict[str, Any]
    ) -> None:
        """Some experts of some modalities learned next to nothing."""
        names = [n for n in loaded.state_dict() if ".expert.fc" in n and n.endswith("weight")]

        assert len(self.missed(loaded, names, entry["self_check"])) < len(names) / 8
