"""Silence for libraries that talk of what they read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


_lock = Lock()
_reading = 0
_silence = ExitStack()


@contextmanager
def quietly() -> Iterator[None]:
    """Silence warnings and pydicom: its words quote values, and a value may name the patient.

    Filters of warnings and levels of loggers belong to the process, not to a thread. So the first
    of several threads that read silences, and the last one gives back what was there: one that
    ends early makes no other talk, and none leaves silence behind.
    """
    global _reading
    with _lock:
        if not _reading:
            _silence.enter_context(_silenced())
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if not _reading:
                _silence.close()


@contextmanager
def _silenced() -> Iterator[None]:
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
