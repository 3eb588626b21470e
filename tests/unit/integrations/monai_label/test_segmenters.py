from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam.errors import TimeUpError
from esp_medsam.integrations.monai_label import segmenters
from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.workflows.bundle import find_bundle


class Clock:
    """A clock that goes on only when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class TestTime:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(segmenters, "time", SimpleNamespace(monotonic=clock.monotonic))
        return clock

    @pytest.fixture
    def network(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Segmenters:
        """Segmenters whose network takes ten seconds for each of two slices."""

        def segment_one(_: Any, *, on_slices: Callable[[int, int], None]) -> str:
            for done in (1, 2):
                clock.now += 10
                on_slices(done, 2)
            return "made"

        monkeypatch.setattr(segmenters, "segment_one", segment_one)
        monkeypatch.setattr(segmenters, "read_parts", lambda _: {})
        return Segmenters("cpu")

    def test_an_image_that_takes_longer_is_broken_off(
        self, network: Segmenters, tmp_path: Path
    ) -> None:
        with pytest.raises(TimeUpError, match="within 5 s on this server; then 1 of 2 slices"):
            network.segment(tmp_path, bundle=find_bundle(), modality="ct", most_seconds=5)

    def test_clicks_that_take_longer_are_broken_off(
        self,
        network: Segmenters,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        class Slices:
            record = "read"

            def segment(
                self, target: str, prompts: Any, on_slices: Callable[[int, int], None]
            ) -> dict[int, Any]:
                for done in (0, 1, 2):
                    on_slices(done, 3)
                    clock.now += 10
                return {0: target, 1: prompts}

        monkeypatch.setattr(segmenters, "prompt_one", lambda *_: Slices())
        asked = {"bundle": find_bundle(), "modality": "ct"}
        with pytest.raises(TimeUpError, match="within 15 s on this server; then 2 of 3 slices"):
            network.prompted(tmp_path, "liver", [], most_seconds=15, **asked)
        assert network.prompted(tmp_path, "liver", [], most_seconds=25, **asked)[0] == "read"

    def test_waiting_for_others_does_not_count(
        self, network: Segmenters, clock: Clock, tmp_path: Path
    ) -> None:
        with ThreadPoolExecutor(1) as clients:
            with network._lock:
                asked = {"bundle": find_bundle(), "modality": "ct", "most_seconds": 30}
                waiting = clients.submit(network.segment, tmp_path, **asked)
                clock.now += 1000

            assert waiting.result(60) == "made"


class TestMemory:
    def test_networks_that_were_not_asked_for_longest_are_given_up(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        read: list[str] = []

        def read_parts(request: Any) -> dict[str, Any]:
            read.append(request.root.name)
            return {}

        monkeypatch.setattr(segmenters, "read_parts", read_parts)
        monkeypatch.setattr(segmenters, "segment_one", lambda *_, **__: "made")
        own = Segmenters("cpu")
        bundles = [tmp_path / str(number) for number in range(segmenters.MOST_READ + 1)]
        for bundle in bundles:
            shutil.copytree(find_bundle() / "configs", bundle / "configs")
        for bundle in [*bundles[:-1], bundles[0], bundles[-1], bundles[0], bundles[1]]:
            own.segment(tmp_path, bundle=bundle, modality="ct", most_seconds=1)

        assert read == [*(bundle.name for bundle in bundles), "1"]
