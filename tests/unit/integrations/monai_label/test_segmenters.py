from __future__ import annotations

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
        return Segmenters(find_bundle(), "cpu")

    def test_an_image_that_takes_longer_is_broken_off(
        self, network: Segmenters, tmp_path: Path
    ) -> None:
        with pytest.raises(TimeUpError, match="within 5 s on this server; then 1 of 2 slices"):
            network.segment(tmp_path, modality="ct", most_seconds=5)

    def test_waiting_for_others_does_not_count(
        self, network: Segmenters, clock: Clock, tmp_path: Path
    ) -> None:
        with ThreadPoolExecutor(1) as clients:
            with network._lock:
                waiting = clients.submit(network.segment, tmp_path, modality="ct", most_seconds=30)
                clock.now += 1000

            assert waiting.result(60) == "made"
