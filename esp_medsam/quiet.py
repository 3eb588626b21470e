"""Silence libraries that log what they read, or how they export a network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


_lock = Lock()
_reading = 0
_silence = ExitStack()


_LIBRARIES = (
    *("pydicom", "highdicom", "PIL", "nibabel", "openjpeg", "pylibjpeg", "jpeg_ls"),
    *("onnx_ir", "onnxscript", "torch.onnx", "torch.jit"),
)
"""Libraries with a logger: some log all that they read or rewrite, at one level or another."""


@contextmanager
def quietly() -> Iterator[None]:
    """Silence warnings and loggers of libraries, which quote values that may name the patient.

    Warning filters and logger levels belong to the process, not to a thread. So the first of
    several reading threads silences them and the last one restores them: a thread that ends early
    does not end the silence for others, and the silence does not outlast the last thread.
    """
    global _reading
    with _lock:
        if not _reading:
            _silence.enter_context(_library_silence())
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if not _reading:
                _silence.close()


@contextmanager
def _library_silence() -> Iterator[None]:
    levels = {logger: logger.level for logger in _loggers()}
    for logger in levels:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    """Return the loggers of libraries, and their child loggers that exist by now."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_BELOW)]
    return [logging.getLogger(name) for name in (*_LIBRARIES, *names)]


_BELOW = tuple(f"{name}." for name in _LIBRARIES)
