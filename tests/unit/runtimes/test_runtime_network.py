"""A network whose encoder another runtime computes has the outputs of the original."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.builders import build_released_design
from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RUNTIMES, Runtime, RuntimeNetwork
from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine
from esp_medsam.runtimes.runtime_network import identity_of
from esp_medsam.runtimes.store import NoStore, Store


CT = torch.tensor([0, 0])


@pytest.fixture(scope="module")
def network() -> ESPMedSAM:
    torch.manual_seed(0)
    return build_product({"ct": 0, "mri": 1}, {"ct": ["liver", "kidney"], "mri": ["brain"]}).eval()


@pytest.fixture(scope="module")
def single(network: ESPMedSAM) -> ESPMedSAM:
    return fuse(network, "ct")


def own_engine(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return an engine that is PyTorch itself."""
    del example, store
    return graph


def with_engine(build: Callable[..., Engine], **other: object) -> Runtime:
    """Return a runtime of a given engine."""

    class Given(Runtime):
        def build(self, graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
            return build(graph, example, store)

    return Given(**{"name": "given", "devices": ("cpu",), **other})  # type: ignore[arg-type]


def assert_same_prediction(found: InferenceNetwork, expected: ESPMedSAM, image: Tensor) -> None:
    modality = CT[: len(image)]
    with torch.no_grad():
        own = expected.predict(image, modality, None, None)
        other = found.decode(found.encode(image, modality), modality, None, None)

    for one, two in zip(other, own, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("build", [build_product, build_released_design])
def test_a_runtime_computes_what_pytorch_does(
    name: str, build: Callable[..., ESPMedSAM], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip(name)
    torch.manual_seed(0)
    network = build({"ct": 0}, {"ct": ["liver", "kidney"]}, default_modality="ct").eval()
    for parameter in network.parameters():  # so that nothing is trivially zero
        torch.nn.init.normal_(parameter, std=0.05)
    used = InferenceNetwork(network, lambda one: RuntimeNetwork(one, RUNTIMES[name]))

    for batch in (1, 2):
        assert_same_prediction(used, network, torch.randn(batch, 3, 64, 96))

    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert used.runtime_of("ct") == f"{name} {RUNTIMES[name].version}"


def test_an_engine_is_made_once_for_each_size(single: ESPMedSAM) -> None:
    made: list[tuple[int, ...]] = []

    def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
        made.append(tuple(example.shape))
        return own_engine(graph, example, store)

    network = RuntimeNetwork(single, with_engine(build))

    with torch.no_grad():
        for size in ((64, 64), (32, 64), (64, 64)):
            for batch in (1, 3):
                network.encode(torch.randn(batch, 3, *size), None)

    assert made == [(1, 3, 64, 64), (1, 3, 32, 64)]


class TestWherePyTorchTakesItsPlace:
    """One warning says why, and the results are PyTorch's."""

    def checked(
        self, network: ESPMedSAM, runtime: Runtime, caplog: pytest.LogCaptureFixture
    ) -> str:
        used = InferenceNetwork(network, lambda one: RuntimeNetwork(one, runtime))
        with caplog.at_level(logging.WARNING):
            for side in (64, 96):
                assert_same_prediction(used, network, torch.randn(2, 3, side, 64))
        assert used.runtime_of("ct").startswith("eager ")
        (record,) = caplog.records
        return record.getMessage()

    def test_an_engine_that_cannot_be_made(
        self, network: ESPMedSAM, caplog: pytest.LogCaptureFixture
    ) -> None:
        def build(*_: object) -> Engine:
            msg = "no such instruction."
            raise ValueError(msg)

        told = self.checked(network, with_engine(build), caplog)

        assert told == (
            "PyTorch computes instead of runtime given: ValueError: no such instruction."
        )

    @pytest.mark.parametrize("wrong", [0.01, torch.nan])
    def test_an_engine_that_computes_something_else(
        self, network: ESPMedSAM, caplog: pytest.LogCaptureFixture, wrong: float
    ) -> None:
        def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
            def run(image: Tensor) -> Sequence[Tensor]:
                return [each + wrong for each in graph(image)]

            del example, store
            return run

        told = self.checked(network, with_engine(build), caplog)

        assert told.startswith("PyTorch computes instead of runtime given: it differs from PyTorch")

    def test_another_device(self, network: ESPMedSAM, caplog: pytest.LogCaptureFixture) -> None:
        told = self.checked(network, with_engine(own_engine, devices=("cuda",)), caplog)

        assert told == "PyTorch computes instead of runtime given: it does not run on cpu."


def test_after_a_failure_all_shapes_are_pytorch_s_as_the_record_says(single: ESPMedSAM) -> None:
    ran: list[int] = []

    def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
        if example.shape[-1] == 96:
            msg = "not of this size"
            raise ValueError(msg)

        def run(image: Tensor) -> Sequence[Tensor]:
            ran.append(int(image.shape[-1]))
            return own_engine(graph, example, store)(image)

        return run

    network = RuntimeNetwork(single, with_engine(build))
    with torch.no_grad():
        network.encode(torch.randn(1, 3, 64, 64), None)
        before = list(ran)
        network.encode(torch.randn(1, 3, 64, 96), None)
        network.encode(torch.randn(1, 3, 64, 64), None)

    assert before
    assert ran == before
    assert network.runtime.startswith("eager ")


def test_a_lack_of_memory_is_not_hidden(single: ESPMedSAM) -> None:
    def build(*_: object) -> Engine:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        RuntimeNetwork(single, with_engine(build)).encode(torch.randn(1, 3, 64, 64), None)


class TestIdentity:
    """A graph is known by what it computes."""

    def test_differs_by_modality_weights_and_size(self, network: ESPMedSAM) -> None:
        asked: list[str] = []

        def store(identity: str) -> Store:
            asked.append(identity)
            return NoStore()

        runtime = with_engine(own_engine)
        for name in ("ct", "ct", "mri"):
            one = RuntimeNetwork(fuse(network, name), runtime, store)
            one.encode(torch.randn(1, 3, 64, 64), None)
            one.encode(torch.randn(1, 3, 64, 32), None)

        assert asked[:2] == asked[2:4]
        assert len(set(asked)) == 4

    def test_changes_with_a_single_weight(self, network: ESPMedSAM) -> None:
        before, single = identity_of(fuse(network, "ct")), fuse(network, "ct")
        parameter = next(single.image_encoder.parameters())
        parameter.data = parameter.data.clone()
        parameter.data += 1e-6

        assert identity_of(single) != before


def test_a_network_that_moves_is_built_anew(network: ESPMedSAM) -> None:
    used = InferenceNetwork(network, lambda one: RuntimeNetwork(one, with_engine(own_engine)))
    with torch.no_grad():
        used.encode(torch.randn(2, 3, 64, 64), CT)
    assert used.runtime_of("ct").startswith("given ")

    used.to("cpu")

    assert used.rewritten == {}


def test_without_a_store_a_model_is_made_each_time() -> None:
    made = [NoStore().bytes_of("onnx", lambda: b"made") for _ in range(2)]

    assert made == [b"made", b"made"]
