"""The network scripts, traces, exports and runs in ONNX Runtime, with the same numbers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM, build_paper, build_product
from esp_medsam.networks.builders import build_released_design


MakeNetwork = Callable[..., ESPMedSAM]
DESIGNS = [build_product, build_paper, build_released_design]


@pytest.fixture(scope="module")
def scripted(shared_network: ESPMedSAM) -> torch.jit.ScriptModule:
    return torch.jit.script(shared_network)


class TestScript:
    def test_gives_the_same_with_and_without_modality(
        self, shared_network: ESPMedSAM, scripted: torch.jit.ScriptModule, image: Tensor
    ) -> None:
        for modality in (None, torch.tensor([6, 3]), torch.tensor([3, 3])):
            for _ in range(2):  # the second run is the optimized one
                logits = scripted(image, modality)
            torch.testing.assert_close(logits, shared_network(image, modality), atol=1e-5, rtol=0)

    def test_keeps_predict_encode_and_decode(
        self, shared_network: ESPMedSAM, scripted: torch.jit.ScriptModule, image: Tensor
    ) -> None:
        expected = shared_network.predict(image, torch.tensor([6, 6]), [1], None)

        prediction = scripted.predict(image, torch.tensor([6, 6]), [1], None)
        encoded = scripted.encode(image, torch.tensor([6, 6]))
        decoded = scripted.decode(encoded, torch.tensor([6, 6]), [1], None)

        for low_res_logits in (prediction.low_res_logits, decoded.low_res_logits):
            torch.testing.assert_close(low_res_logits, expected.low_res_logits, atol=1e-5, rtol=0)

    def test_saves_and_loads(self, scripted: torch.jit.ScriptModule, image: Tensor) -> None:
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)

        loaded = torch.jit.load(buffer)

        torch.testing.assert_close(loaded(image), scripted(image), atol=1e-5, rtol=0)

    @pytest.mark.slow
    def test_of_tic_takes_any_size(self, make_network: MakeNetwork) -> None:
        network = make_network(image_encoder="tic")
        scripted = torch.jit.script(network)

        for size in ((64, 96), (45, 70)):
            image, modality = torch.randn(2, 3, *size), torch.tensor([3, 6])
            expected = network(image, modality)
            torch.testing.assert_close(scripted(image, modality), expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("build", DESIGNS[1:])
    def test_other_designs_script_too(
        self, build: Callable[..., ESPMedSAM], make_network: MakeNetwork, image: Tensor
    ) -> None:
        network = make_network(build)

        logits = torch.jit.script(network)(image, torch.tensor([3, 6]))

        expected = network(image, torch.tensor([3, 6]))
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


CASES = [
    {"default_modality": "ct"},
    pytest.param({"default_modality": "fundus"}, marks=pytest.mark.slow),
    pytest.param({"image_encoder": "tic"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("choices", CASES, ids=str)
class TestFixedModality:
    """``net(image)``, for each modality that may be the default, and for each encoder."""

    @pytest.fixture
    def network(self, make_network: MakeNetwork, choices: dict[str, str]) -> ESPMedSAM:
        return make_network(**choices)

    def test_traces(self, network: ESPMedSAM, image: Tensor) -> None:
        with warnings.catch_warnings():
            # Sizes become constants: a trace is for one size, which is what it is asked for here.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            traced = torch.jit.trace(network, (image,), check_trace=False)
        other = torch.randn_like(image)

        torch.testing.assert_close(traced(other), network(other), atol=1e-5, rtol=0)

    def test_exports(self, network: ESPMedSAM, image: Tensor) -> None:
        program = torch.export.export(network, (image[:1],))
        other = torch.randn_like(image[:1])

        torch.testing.assert_close(program.module()(other), network(other), atol=1e-5, rtol=0)

    @pytest.mark.slow  # torch.onnx alone takes 20 s
    def test_runs_in_onnx_runtime(self, network: ESPMedSAM, image: Tensor, tmp_path: Path) -> None:
        path = tmp_path / "network.onnx"
        with warnings.catch_warnings():
            # torch.onnx uses what torch itself has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            torch.onnx.export(network, (image[:1],), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        other = torch.randn_like(image[:1])

        (logits,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})

        torch.testing.assert_close(torch.from_numpy(logits), network(other), atol=1e-4, rtol=0)
