from __future__ import annotations

import pytest
import torch
from torch import nn

from esp_medsam.errors import DeviceError
from esp_medsam.inferers.device import Placement, device_of, is_out_of_memory


class TestDeviceOf:
    def test_takes_a_string_or_a_device(self) -> None:
        assert device_of("cpu") == device_of(torch.device("cpu")) == torch.device("cpu")

    def test_unknown_name_is_refused(self) -> None:
        with pytest.raises(DeviceError, match=r"cpu, cuda, cuda:<index> or mps; got 'gpu0'"):
            device_of("gpu0")

    def test_absent_cuda_device_is_refused(self) -> None:
        with pytest.raises(DeviceError, match="CUDA devices; got cuda:99"):
            device_of("cuda:99")


class TestPlacement:
    def test_halves_the_slice_batch_then_gives_up_on_the_cpu(self) -> None:
        error = torch.OutOfMemoryError("out of memory")
        with Placement(nn.Linear(1, 1), None, 4) as placement:
            placement.relieve(error)
            placement.relieve(error)

            assert placement.slice_batch == 1
            with pytest.raises(torch.OutOfMemoryError):
                placement.relieve(error)

    def test_goes_on_on_the_cpu_and_gives_the_network_back(self) -> None:
        network = nn.Linear(1, 1, device="meta")
        placement = Placement(network, None, 1)
        network.to = lambda device: None  # type: ignore[method-assign]  # meta holds no values

        with placement:
            placement.relieve(torch.OutOfMemoryError("out of memory"))
            assert placement.device == torch.device("cpu")

        assert placement.device == torch.device("meta")
        assert placement.warnings == ("Out of memory on meta: went on with slice_batch=1 on cpu.",)

    def test_network_without_parameters_runs_on_the_cpu(self) -> None:
        assert Placement(object(), None, 1).device == torch.device("cpu")

    def test_nothing_happened_nothing_to_tell(self) -> None:
        assert Placement(object(), None, 1).warnings == ()


class TestIsOutOfMemory:
    def test_knows_the_words_of_other_devices(self) -> None:
        assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**60, dtype=torch.uint8)  # the words for memory differ by system
        assert is_out_of_memory(caught.value)
        assert not is_out_of_memory(RuntimeError("sizes differ"))


@pytest.mark.parametrize(("device", "expected"), [("cpu", 1), ("meta", 4)])
def test_the_device_decides_the_slice_batch_unless_it_is_given(device: str, expected: int) -> None:
    assert Placement(object(), torch.device(device), None).slice_batch == expected
    assert Placement(object(), torch.device(device), 7).slice_batch == 7


@pytest.mark.parametrize(
    ("asked", "held", "moves"), [("cuda", 0, False), ("cuda:0", 0, False), ("cuda:1", 0, True)]
)
def test_a_network_that_is_there_is_not_moved(
    monkeypatch: pytest.MonkeyPatch, asked: str, held: int, moves: bool
) -> None:
    moved: list[torch.device] = []

    class Parameter:
        device = torch.device("cuda", held)

    class Network:
        def parameters(self) -> list[Parameter]:
            return [Parameter()]

        def to(self, device: torch.device) -> None:
            moved.append(device)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    placement = Placement(Network(), torch.device(asked), 1)
    placement._move(torch.device(asked))

    assert bool(moved) is moves
