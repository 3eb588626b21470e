from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from esp_medsam.errors import ClusterError, DeviceError, OptionError
from esp_medsam.integrations.ray_batch import cluster
from esp_medsam.integrations.ray_batch.cluster import (
    Node,
    check_installed,
    choose_actors,
    connected,
    nodes_of,
)
from tests.support.fake_ray import FakeRay, RayError


LARGE, SMALL, GPUS = Node(16, 0, 64 * 2**30), Node(2, 0, 64 * 2**30), Node(32, 4, 256 * 2**30)


class TestChooseActors:
    @pytest.mark.parametrize(
        ("nodes", "items", "count", "devices", "threads"),
        [
            ([LARGE], None, None, ("cpu",) * 8, 2),
            ([LARGE, LARGE], None, None, ("cpu",) * 16, 2),
            ([SMALL], None, None, ("cpu",), 2),
            ([SMALL, SMALL], None, 2, ("cpu",) * 2, 2),
            ([SMALL], None, 2, ("cpu",) * 2, 1),
            ([LARGE], 3, None, ("cpu",) * 3, 5),
            ([Node(64, 0, 8 * 2**30)], None, None, ("cpu",) * 2, 32),
            ([LARGE], 0, None, ("cpu",), 16),
            ([SMALL], None, 8, ("cpu",) * 8, 2),
            ([GPUS], None, None, ("cuda",) * 4, 4),
            ([GPUS, LARGE], 2, None, ("cuda",) * 2, 4),
            ([Node(2, 4, 2**30)], None, None, ("cuda",) * 4, 1),
        ],
    )
    def test_takes_a_gpu_or_some_cores_for_each(
        self,
        nodes: list[Node],
        items: int | None,
        count: int | None,
        devices: tuple[str, ...],
        threads: int,
    ) -> None:
        chosen = choose_actors(nodes, None, items, count)

        assert chosen.devices == devices
        assert chosen.threads == threads

    def test_takes_the_cpus_of_a_node_with_gpus_if_asked(self) -> None:
        assert choose_actors([GPUS], "cpu", None, None).devices == ("cpu",) * 16

    def test_waits_for_gpus_only_if_their_number_is_given(self) -> None:
        assert choose_actors([LARGE], "cuda", None, 2).devices == ("cuda",) * 2

        with pytest.raises(DeviceError, match="have no GPU; got cuda"):
            choose_actors([LARGE], "cuda", None, None)


def test_nodes_are_those_that_live() -> None:
    ray = FakeRay({"CPU": 8.0, "GPU": 1.0, "memory": 2.0**33}, {"CPU": 4.0})

    assert nodes_of(ray) == [Node(8, 1, 2**33), Node(4, 0, 0)]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)

    with pytest.raises(OptionError, match=r"pip install 'esp-medsam\[ray\]'"):
        check_installed()


class TestConnected:
    @pytest.fixture
    def ray(self, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
        ray = FakeRay()
        monkeypatch.setitem(sys.modules, "ray", ray)
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            monkeypatch.setenv(name, "before")
        monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "before")
        monkeypatch.delenv("RAY_DEDUP_LOGS_SKIP_REGEX")
        monkeypatch.setattr(cluster, "_check_answers", lambda address: None)
        return ray

    def test_starts_one_on_loopback_that_tells_nobody_and_ends_it(self, ray: FakeRay) -> None:
        with connected(None, cpus=3, is_verbose=False) as found:
            assert found is ray
            assert not ray.shutdowns

        (settings,) = ray.inits
        assert settings["address"] == "local"
        assert settings["num_cpus"] == 3
        assert settings["include_dashboard"] is False
        assert settings["log_to_driver"] is False
        assert settings["object_store_memory"] == 100 * 2**20
        assert settings["_node_ip_address"] == "127.0.0.1"
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] == "."
        assert ray.shutdowns == 1

    def test_takes_one_that_is_there_as_it_is(self, ray: FakeRay) -> None:
        with connected("ray://head:10001", cpus=3, is_verbose=True):
            pass

        (settings,) = ray.inits
        assert settings.pop("logging_level")
        assert settings == {"address": "ray://head:10001", "log_to_driver": True}
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "before"
        assert "RAY_DEDUP_LOGS_SKIP_REGEX" not in os.environ

    @pytest.mark.parametrize(
        ("address", "told"),
        [
            ("head:6379", "`address` must be that of a Ray .*; head:6379 gave: gone"),
            (None, "start"),
        ],
    )
    def test_tells_in_one_line_why_there_is_none(
        self, ray: FakeRay, monkeypatch: pytest.MonkeyPatch, address: str | None, told: str
    ) -> None:
        def fail(**_: Any) -> None:
            msg = "gone\nwith details"
            raise ConnectionError(msg)

        monkeypatch.setattr(ray, "init", fail)

        with pytest.raises(ClusterError, match=told), connected(address, cpus=1, is_verbose=False):
            pass

        assert ray.shutdowns == 1

    def test_tells_in_one_line_that_it_is_gone(self, ray: FakeRay) -> None:
        with (
            pytest.raises(ClusterError, match=r"gave RayError\. .* the same command goes on"),
            connected("auto", cpus=1, is_verbose=False),
        ):
            raise RayError

    def test_lets_a_handler_act_when_ray_has_returned(self, ray: FakeRay) -> None:
        """Which turns what the handler raises into an error of its own."""

        def end(number: int, _: object) -> None:
            sys.exit(128 + number)

        before = signal.signal(signal.SIGTERM, end)
        try:
            with (
                pytest.raises(SystemExit) as error,
                connected(None, cpus=1, is_verbose=False),
            ):
                signal.raise_signal(signal.SIGTERM)
            assert error.value.code == 143
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # only the first one counts
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_keeps_the_handler_that_ray_replaces(
        self, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN))

        with connected(None, cpus=1, is_verbose=False):
            pass

        assert signal.getsignal(signal.SIGTERM) == before

    def test_ends_as_a_terminated_command_does_while_it_connects(
        self, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ended(**_: Any) -> None:
            sys.exit(signal.SIGTERM)

        monkeypatch.setattr(ray, "init", ended)

        with pytest.raises(SystemExit) as error, connected(None, cpus=1, is_verbose=False):
            pass

        assert error.value.code == 143


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "head", "a:b", ":99999", "127.0.0.1:-1"]
)
def test_an_address_at_which_nothing_listens_is_told_before_ray_waits_for_it(address: str) -> None:
    with (
        pytest.raises(ClusterError, match=f"answers; got {address}, which gave: "),
        connected(address, cpus=1, is_verbose=False),
    ):
        pass
