from __future__ import annotations

import os
import signal

import pytest

from esp_medsam.cli.outcome import signals_as_exit


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
class TestSignalsAsExit:
    def test_a_request_to_end_ends_what_was_begun(self) -> None:
        ended = []

        def wait() -> None:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            finally:
                ended.append(True)

        with pytest.raises(SystemExit) as status, signals_as_exit():
            wait()

        assert status.value.code == 143
        assert ended
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_what_is_ignored_stays_ignored(self) -> None:
        """As nohup has it."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with signals_as_exit():
                os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGHUP, before)
