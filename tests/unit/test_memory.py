"""What is refused before any of it is allocated."""

from __future__ import annotations

from pathlib import Path

import pytest

from esp_medsam import memory
from esp_medsam.errors import TooLargeError


class TestCheckFits:
    def test_refuses_more_than_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: 2**30)

        memory.check_fits(Path("a"), 2**30, "it")
        with pytest.raises(TooLargeError, match=r"it needs 2\.0 GiB, 1\.0 GiB are free"):
            memory.check_fits(Path("a"), 2**31, "it")

    def test_knows_a_sensible_amount(self) -> None:
        assert 2**26 < memory.available_memory() < 2**50

    def test_is_no_more_than_the_limit_of_the_process_leaves(self) -> None:
        resource = pytest.importorskip("resource")
        if not Path("/proc/self/statm").exists():
            pytest.skip("the system does not say what a process has taken")
        before = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        try:
            resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, before[1]))
            available = memory.available_memory()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

        assert 2**27 < available <= 2**28
