from __future__ import annotations

import pytest
import torch

from esp_medsam.errors import DeviceError
from esp_medsam.workflows import worker_choice
from esp_medsam.workflows.worker_choice import WorkerChoice, choose_workers


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of 16 cores, 64 GiB and no GPU."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(worker_choice, "available_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    return monkeypatch


def with_gpus(machine: pytest.MonkeyPatch, count: int) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: count)


class TestOnTheCpu:
    @pytest.mark.parametrize(
        ("cores", "gib", "items", "count", "threads"),
        [
            (16, 64, 99, 8, 2),
            (16, 9, 99, 2, 8),
            (16, 64, 3, 3, 5),
            (3, 64, 99, 1, 3),
            (2, 64, 99, 1, 2),
            (1, 1, 0, 1, 1),
        ],
    )
    def test_share_cores_and_memory(
        self,
        machine: pytest.MonkeyPatch,
        cores: int,
        gib: int,
        items: int,
        count: int,
        threads: int,
    ) -> None:
        machine.setattr(torch, "get_num_threads", lambda: cores)
        machine.setattr(worker_choice, "available_memory", lambda: gib * 2**30)

        chosen = choose_workers(None, items, None)

        assert chosen == WorkerChoice(("cpu",) * count, threads)

    @pytest.mark.usefixtures("machine")
    def test_are_as_many_as_asked_for(self) -> None:
        assert choose_workers("cpu", 99, 6) == WorkerChoice(("cpu",) * 6, 2)

    @pytest.mark.usefixtures("machine")
    def test_are_no_more_than_items_if_these_are_known(self) -> None:
        assert choose_workers("cpu", 2, 6) == WorkerChoice(("cpu",) * 2, 8)
        assert choose_workers("cpu", None, None) == WorkerChoice(("cpu",) * 8, 2)

    @pytest.mark.usefixtures("machine")
    @pytest.mark.parametrize("device", ["all", "cuda"])
    def test_of_a_gpu_that_is_not_there_are_refused(self, device: str) -> None:
        with pytest.raises(DeviceError, match="0 CUDA devices"):
            choose_workers(device, 5, None)


class TestOnGpus:
    def test_two_share_one_so_that_one_reads_while_the_network_of_the_other_works(
        self, machine: pytest.MonkeyPatch
    ) -> None:
        with_gpus(machine, 4)

        assert choose_workers(None, 99, None) == WorkerChoice(("cuda",) * 2, 8)
        assert choose_workers("cuda:1", 1, None) == WorkerChoice(("cuda:1",), 16)
        assert choose_workers("cuda:2", 99, 2) == WorkerChoice(("cuda:2",) * 2, 8)

    def test_each_has_one_of_all(self, machine: pytest.MonkeyPatch) -> None:
        with_gpus(machine, 2)

        assert choose_workers("all", 99, None) == WorkerChoice(("cuda:0", "cuda:1") * 2, 4)
        assert choose_workers("all", 99, 3).devices == ("cuda:0", "cuda:1", "cuda:0")


def test_are_said_in_one_line() -> None:
    assert WorkerChoice(("cpu",), 1).text == "1 worker on cpu, with 1 thread"
    two = WorkerChoice(("cuda:0", "cuda:1"), 8)
    assert two.text == "2 workers on cuda:0, cuda:1, each with 8 threads"
