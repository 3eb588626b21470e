from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import torch

from esp_medsam.workflows.processor import threads_for, use_processor


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(8, 0, 8), (8, 3, 5), (2, 2, 1), (2, 9, 1), (0, 0, 1)]
)
def test_step_and_workers_share_the_cores(cores: int, workers: int, threads: int) -> None:
    assert threads_for(cores, workers) == threads


class TestUseProcessor:
    def test_says_in_one_line_what_it_chose(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)

        with caplog.at_level(logging.INFO):
            use_processor("cpu", amp=False, num_workers=1)

        (line,) = caplog.messages
        assert line.startswith("Training on cpu: float32, threads 3, workers 1")
        assert torch.get_num_threads() == 3

    def test_leaves_threads_to_a_user_who_set_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)

        use_processor("cpu", amp=False, num_workers=0)

        assert torch.get_num_threads() == 1

    @pytest.mark.parametrize("has_units", [True, False])
    def test_takes_bfloat16_only_where_there_are_units_for_it(
        self, monkeypatch: pytest.MonkeyPatch, has_units: bool
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        for name in ("workflows.processor", "inferers.precision"):
            monkeypatch.setattr(f"esp_medsam.{name}.has_bfloat16_units", lambda _: has_units)

        asked = [use_processor("cpu", amp=amp, num_workers=0) for amp in ("auto", True, False)]

        assert asked == [has_units, has_units, False]
