"""Runs on a Ray that is not one: calls are made in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam.errors import ClusterError, WorkerDiedError
from esp_medsam.integrations.ray_batch import engine, ray_worker, seen_results
from esp_medsam.integrations.ray_batch.actor import Death, Heard
from esp_medsam.integrations.ray_batch.pool import RayPool
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows import workers
from esp_medsam.workflows.bundle import TABLE
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult, failure
from esp_medsam.workflows.worker import Reading, Ready, Unfit
from tests.support.fake_ray import ActorDiedError, FakeRay, OutOfMemoryError


Run = Callable[..., dict[str, ItemResult]]


class FakeActor:
    """An actor that does what names of items tell, without a process."""

    started: list[Request] = []
    unfit: Unfit | None = None

    def __init__(self, storage: Any, level: int) -> None:
        del storage, level

    def enter(self) -> tuple[str, Unfit | None]:
        return "node-1", self.unfit

    def start(self, request: Request, threads: int, tells: bool) -> Heard:
        self.started.append(request)
        return Heard((Ready("host:1"),))

    def segment(self, item: Item) -> Heard:
        reading = Reading(begins=True)
        if item.name == "actor dies" and len(self.started) < 3:
            raise ActorDiedError
        if item.name == "memory":
            raise OutOfMemoryError
        if item.name == "crash":
            return Heard((reading,), Death("SIGSEGV", is_crash=True))
        self.item = item
        return Heard((reading,)) if item.name == "slow" else self.listen()

    def listen(self) -> Heard:
        done = ItemResult(path=self.item.label, status="done")
        return Heard((Reading(begins=False), done))

    def stop(self) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that segments items with some names on a Ray."""
    monkeypatch.chdir(tmp_path)
    for name in ("in", "out", str(TABLE.parent)):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / TABLE).write_text("table")
    monkeypatch.setattr(FakeActor, "started", [])
    monkeypatch.setattr(FakeActor, "unfit", None)
    monkeypatch.setattr(seen_results, "_is_written", lambda record: True)
    request = Request(
        root=tmp_path,
        table=table,
        configs=(),
        settings={"dataset_dir": "in", "output_dir": "out"},
    )
    cleaned: list[str] = []

    def run(ray: FakeRay, *names: str, **settings: Any) -> dict[str, ItemResult]:
        monkeypatch.setitem(sys.modules, "ray", ray)
        items = [Item(path=f"{number}", name=name) for number, name in enumerate(names)]
        outputs = SimpleNamespace(output_dir=Path("out"), weights=None)
        held = SimpleNamespace(
            outputs=outputs, clean=cleaned.append, is_whole=False, __len__=lambda: len(items)
        )

        def attempt(item: Any) -> ItemResult | None:
            begun.append(item.path)
            return ItemResult(path=item.path, status="kept") if item.name == "kept" else None

        begun: list[str] = []
        pool = RayPool(run=held, request=request, tell=told.append, **settings)  # type: ignore[arg-type]
        found = pool.each(items, attempt, lambda item, error: failure(item.label, error))
        results = {one.path: one for one in found}
        assert begun == list(map(str, range(len(names))))  # each once
        assert not list(Path("out").iterdir())
        return results

    told: list[str] = []
    return run


CPUS = {"CPU": 2.0, "memory": 2.0**34}


def test_all_items_have_results_and_the_ray_ends(run: Run) -> None:
    ray = FakeRay(CPUS, make=FakeActor)

    found = run(ray, "a", "kept", "slow", "b", count=2)

    assert [found[path].status for path in "0123"] == ["done", "kept", "done", "done"]
    assert ray.shutdowns == 1
    assert len(ray.killed) == len(ray.options)
    assert ray.options[0] == {
        "num_cpus": 1,
        "num_gpus": 0,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 1,
        "scheduling_strategy": "SPREAD",
    }


def test_what_is_done_needs_no_ray(run: Run) -> None:
    ray = FakeRay(make=FakeActor)

    found = run(ray, "kept", "kept")

    assert [one.status for one in found.values()] == ["kept"] * 2
    assert not ray.inits


def test_f8_f12_an_item_whose_actor_dies_is_tried_again_with_one_slice(run: Run) -> None:
    ray = FakeRay(CPUS, CPUS, make=FakeActor)

    found = run(ray, "actor dies", "b", count=2)

    assert [found[path].status for path in "01"] == ["done", "done"]
    (warning,) = found["0"].warnings
    assert warning == (
        "Segmented in attempt 2: the worker before ended by the end of its Ray actor on node-1."
    )
    assert FakeActor.started[-1].settings["slice_batch"] == 1


def test_f12_an_item_of_a_lost_node_gets_the_place_of_an_idle_worker(run: Run) -> None:
    """As what is left of the cluster has no other."""
    ray = FakeRay(CPUS, CPUS, make=FakeActor, places=2)

    class Lost(FakeActor):
        def segment(self, item: Item) -> Heard:
            if item.name == "actor dies":
                ray.places = 1
            return super().segment(item)

    ray.make = Lost

    found = run(ray, "actor dies", "b", count=2)

    assert [found[path].status for path in "01"] == ["done", "done"]
    assert "attempt 2" in found["0"].warnings[0]


def test_f8_f11_attempts_end_as_those_of_processes(run: Run) -> None:
    found = run(FakeRay(CPUS, make=FakeActor), "memory", "crash", "c")

    assert [found[path].code for path in "012"] == ["E_WORKER_DIED", "E_DECODE_CRASH", None]
    assert "2 of them ended, the last by Ray, for lack of memory on node-1" in found["0"].message
    assert "ended the process by SIGSEGV" in found["1"].message


def test_a_gpu_is_taken_whole_and_the_last_attempt_is_on_the_cpu(run: Run) -> None:
    ray = FakeRay({"CPU": 8.0, "GPU": 1.0, "memory": 2.0**34}, make=FakeActor)

    found = run(ray, "memory")

    assert "3 of them ended" in found["0"].message
    taken = [(one["num_gpus"], one["num_cpus"]) for one in ray.options]
    assert taken == [(1, 4), (1, 4), (0, 4)]
    assert [one.settings["device"] for one in FakeActor.started] == ["cuda", "cuda", "cpu"]


def test_nodes_that_do_not_see_the_files_end_the_run_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeActor, "unfit", Unfit(ClusterError("node-1 sees nothing")))
    ray = FakeRay(CPUS, make=FakeActor)

    with pytest.raises(ClusterError, match="node-1 sees nothing"):
        run(ray, "a", "b", count=2)

    assert ray.shutdowns == 1


def test_a_node_that_cannot_make_actors_ends_the_run_in_one_line(run: Run) -> None:
    class Unmade(FakeActor):
        def enter(self) -> tuple[str, Unfit | None]:
            raise ActorDiedError

    with pytest.raises(ClusterError, match="Install the same esp-medsam, Python and Ray"):
        run(FakeRay(CPUS, make=Unmade), "a")


def test_f12_an_actor_that_is_lost_with_its_node_before_it_begins_is_made_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    class Lost(FakeActor):
        count = 0

        def enter(self) -> tuple[str, Unfit | None]:
            Lost.count += 1
            if Lost.count < 3:
                raise ActorDiedError
            return "node", None

    found = run(FakeRay(CPUS, make=Lost), "a")

    assert found["0"].status == "done"
    assert not found["0"].warnings
    assert not caplog.text


def test_a_full_cluster_is_told_and_not_waited_for_beyond_a_limit(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "MOST_SECONDS_TO_START", 0.2)
    monkeypatch.setattr(engine, "SECONDS_TO_TELL", 0.0)

    with pytest.raises(WorkerDiedError, match=r"must have 2 CPUs free for a worker within 0\.2 s"):
        run(FakeRay(CPUS, make=FakeActor, places=0), "a")

    assert "Waiting for a worker to start in the cluster, with 2 CPUs, for up to 0 s" in caplog.text


def test_f12_a_cluster_without_a_node_any_more_ends_the_run_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SECONDS_TO_TELL", 0.0)
    ray = FakeRay(CPUS, make=FakeActor, places=0)
    monkeypatch.setattr(engine, "nodes_of", lambda ray: [])

    with pytest.raises(ClusterError, match=r"must have a node that lives .* it has none any more"):
        run(ray, "a")


def test_an_actor_without_a_place_leaves_its_item_to_another(run: Run) -> None:
    found = run(FakeRay(CPUS, make=FakeActor, places=1), "a", "b", "c", count=2)

    assert [found[path].status for path in "012"] == ["done"] * 3
    assert not any(one.warnings for one in found.values())


def test_one_of_two_nodes_that_sees_the_files_is_enough(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    class Mixed(FakeActor):
        count = 0

        def enter(self) -> tuple[str, Unfit | None]:
            Mixed.count += 1
            error = ClusterError("node-2 sees nothing")
            return "node", Unfit(error) if Mixed.count == 1 else None

    found = run(FakeRay(CPUS, CPUS, make=Mixed), "a", "b", count=2)

    assert [found[path].status for path in "01"] == ["done", "done"]
    assert "There is one worker less: node-2 sees nothing" in caplog.text


class TestSeenResults:
    def test_a_record_that_never_shows_is_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(seen_results, "MOST_SECONDS_TO_SEE", 0.1)
        told = ItemResult(path="a", status="done", record=str(tmp_path / "a_seg.json"))

        (found,) = seen_results.seen_results([told])

        assert found.code == "E_CLUSTER"
        assert "must be seen by the machine that started the run" in found.message

    def test_a_record_that_shows_late_does_not_hold_up_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = {"late": 3, "soon": 0}

        def is_written(record: Path) -> bool:
            looks[record.name] -= 1
            return looks[record.name] < 0

        monkeypatch.setattr(seen_results, "_is_written", is_written)
        told = [ItemResult(path=name, status="done", record=name) for name in ("late", "soon")]

        found = list(seen_results.seen_results(told))

        assert [one.path for one in found] == ["soon", "late"]


def test_wanted_resources_are_told_in_words() -> None:
    assert ray_worker.wanted_text({"num_gpus": 1, "num_cpus": 4}) == "1 GPU and 4 CPUs"
    assert ray_worker.wanted_text({"num_gpus": 0, "num_cpus": 1}) == "1 CPU"
