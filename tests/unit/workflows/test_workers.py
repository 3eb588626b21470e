"""What workers do when a GPU is lost, which tests with real processes cannot show without one."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import DeviceError
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows import workers
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.worker import Broken, Ready
from esp_medsam.workflows.workers import Job, Workers


class Machine:
    """A machine whose GPUs may be lost, or hold some workers only; and where those were started."""

    is_lost, most = False, 99

    def __init__(self) -> None:
        self.started: list[str] = []


class FakeProcess:
    """A worker without a process; it dies on items called ``kills``, and the GPU with it.

    Items called ``slow`` take until it was looked at some times.
    """

    death, has_crashed, is_reading = "SIGKILL", False, False

    def __init__(self, machine: Machine, request: Request, *, is_spare: bool) -> None:
        self.machine, self.is_spare = machine, is_spare
        self.device = request.settings["device"]
        self.connection, self._theirs = Pipe()
        self._never, self._held = Pipe()
        self.job: Any = None
        self.name = ""
        self.is_ready, self._lives, self.seconds_left = False, True, 0.01
        self._looks_left = 0

    @property
    def sentinel(self) -> Any:
        return self._never

    def start(self) -> None:
        self.machine.started.append(self.device)
        is_gone = self.machine.is_lost and self.device != "cpu"
        on_gpus = [one for one in self.machine.started if one != "cpu"]
        is_gone = is_gone or (self.device != "cpu" and len(on_gpus) > self.machine.most)
        self._theirs.send(Broken(DeviceError("gone")) if is_gone else Ready("host:1"))

    def begin(self, job: Job, most_seconds: float) -> None:
        self.job = job
        if not self.is_ready:
            return
        if job.item.name == "kills" and self.device != "cpu":
            self.machine.is_lost, self._lives = True, False
            self._theirs.close()
            return
        self._looks_left = 5 if job.item.name == "slow" else 0
        self._work()

    def _work(self) -> None:
        if self._looks_left == 0:
            self._theirs.send(ItemResult(path=self.job.item.label, status="done"))
        self._looks_left -= 1

    def is_alive(self) -> bool:
        return self._lives

    def messages(self) -> Any:
        if self.is_ready and self._looks_left >= 0:
            self._work()
        try:
            while not self.connection.closed and self.connection.poll():
                yield self.connection.recv()
        except EOFError:
            return

    def ask_to_end(self) -> None:
        self.connection.close()

    def end(self) -> None:
        for one in (self.connection, self._theirs, self._never, self._held):
            one.close()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()

    def process(request: Request, threads: int, *, is_spare: bool, tells: bool) -> FakeProcess:
        return FakeProcess(machine, request, is_spare=is_spare)

    monkeypatch.setattr(workers, "WorkerProcess", process)
    return machine


def run(table: ModalityTable, names: list[str], devices: list[str]) -> dict[str, ItemResult]:
    requests = [
        Request(root=Path(), table=table, configs=(), settings={"device": device})
        for device in devices
    ]
    pool = Workers(requests, clean=lambda _: None, threads=1)
    items = [Item(path=f"{number}", name=name) for number, name in enumerate(names)]
    return {one.path: one for one in pool.each(items, lambda _: None, each_alone)}  # type: ignore[arg-type]


def test_f9_a_lost_gpu_leaves_its_items_to_the_cpu(machine: Machine, table: ModalityTable) -> None:
    found = run(table, ["a", "kills", "b", "c"], ["cuda:0"])

    assert [found[path].status for path in "0123"] == ["done"] * 4
    assert [len(found[path].warnings) for path in "0123"] == [0, 1, 1, 0]
    assert "attempt 2" in found["1"].warnings[0]
    assert [(found[path].worker, found[path].attempts) for path in "01"] == [
        ("host:1", 1),
        ("host:1", 2),
    ]
    # The first; again for the one that died; then the CPU; once more, in case; then the CPU.
    assert machine.started == ["cuda:0", "cuda:0", "cpu", "cuda:0", "cpu", "cpu"]


def test_a_place_on_the_cpu_takes_over_the_last_try_of_a_gpu(
    machine: Machine, table: ModalityTable
) -> None:
    """Which is its third, where the CPU has two."""
    machine.is_lost = True

    found = run(table, ["slow", "b", "c"], ["cpu", "cuda:0"])

    assert [found[path].status for path in "012"] == ["done"] * 3
    assert "attempt 1: the worker before ended by E_DEVICE" in found["1"].warnings[0]


def test_a_gpu_with_room_for_one_worker_goes_on_with_it(
    machine: Machine, table: ModalityTable
) -> None:
    machine.most = 1

    found = run(table, ["slow", "b", "c", "d"], ["cuda", "cuda"])

    assert [(found[path].status, found[path].warnings) for path in "0123"] == [("done", ())] * 4
    assert machine.started == ["cuda", "cuda"]


def test_gpus_of_one_name_on_several_machines_are_not_one(
    machine: Machine, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one start that fails would take a machine's place from a run on a cluster."""
    monkeypatch.setattr(workers.Processes, "shares_devices", False)
    machine.most = 1

    found = run(table, ["slow", "b", "c", "d"], ["cuda", "cuda"])

    assert [found[path].status for path in "0123"] == ["done"] * 4
    assert machine.started[:3] == ["cuda", "cuda", "cpu"]


def test_a_gpu_that_was_never_there_ends_the_run(machine: Machine, table: ModalityTable) -> None:
    machine.is_lost = True

    with pytest.raises(DeviceError, match="gone"):
        run(table, ["a", "b"], ["cuda:0", "cuda:1"])
