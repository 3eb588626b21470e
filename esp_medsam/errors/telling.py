"""Find the error of ours behind a caught exception, and report it in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from esp_medsam.errors.kinds import EspMedSamError, OptionError, ReadError, TooLargeError
from esp_medsam.errors.wording import one_line


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then each error that it was raised from or while handling."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)


def cause_of(error: BaseException) -> EspMedSamError | None:
    """Return the first of our errors behind ``error``, itself included, or None."""
    return next((one for one in chain_of(error) if isinstance(one, EspMedSamError)), None)


def own_error(error: BaseException) -> EspMedSamError | None:
    """Return the first of our errors behind ``error``, or an equivalent one of ours.

    Follows causes and contexts, because MONAI wraps what our transforms and constructors raise.
    Config errors that MONAI finds itself, out-of-memory errors, and system errors about a path (too
    long, no permission) are converted to errors of ours.

    Args:
        error: The exception that was caught.

    Returns:
        The error, or None if there is none.
    """
    other = cause_of(error)
    is_cause = True
    for current in chain_of(error):
        other = other or _of_config(current) or _of_memory(current)
        if is_cause:  # an error that was being handled is not the cause
            other = other or _of_path(current)
        is_cause = is_cause and current.__cause__ is not None
    return other


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise our own errors unwrapped if MONAI wraps them, and in place of MONAI's errors."""
    try:
        yield
    except EspMedSamError:
        raise
    except Exception as error:
        ours = own_error(error)
        if ours is None:
            raise
        # One that was raised keeps its own cause: MONAI's wrapping would lead back to it.
        raise ours from (ours.__cause__ if ours in chain_of(error) else error)


def explain(error: BaseException) -> str | None:
    """Return ``"<CODE>: <message>"`` of :func:`own_error` in one line, or None."""
    ours = own_error(error)
    return None if ours is None else f"{ours.code}: {one_line(str(ours))}"


def _of_path(error: BaseException) -> ReadError | None:
    """Return an error for a system error about a path; None for any other."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    path = os.fspath(error.filename)
    return ReadError(f"{path} must be a usable path; got: {error.strerror}.")


def _of_memory(error: BaseException) -> TooLargeError | None:
    """Return an error for an out-of-memory error; None for any other."""
    if not says_out_of_memory(error):
        return None
    return TooLargeError(
        "memory ran out; free some, raise the limit (ulimit -v), "
        "or, where volumes are segmented, use a smaller slice_batch."
    )


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on any device, or a loader's.

    The system's library loader reports it in an ImportError or OSError.
    """
    text = str(error).lower()
    if isinstance(error, ImportError | OSError):
        return "cannot allocate memory" in text or "failed to map segment" in text
    words = ("out of memory", "not enough memory", "can't allocate memory")
    said = isinstance(error, RuntimeError) and any(word in text for word in words)
    return said or isinstance(error, MemoryError)


def _of_config(error: BaseException) -> OptionError | None:
    """Return an error for one of MONAI's config parser, which has no error class of its own."""
    told = _told_by_config(error)
    return OptionError(told) if told else None


def _told_by_config(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, TypeError):
        built = re.match(r"Failed to instantiate component '([^']+)'", text)
        return built and f"config must give {built[1]} what it takes; got: {error.__cause__}."
    if isinstance(error, ModuleNotFoundError) and text.startswith("Cannot locate "):
        return f"config must name existing classes and functions; {text.rstrip('.')}."
    if isinstance(error, ValueError) and text.startswith("the referring item "):
        return f"config must only refer to its own keys; {text.rstrip('.')}."
    return None


def install_excepthook() -> None:
    """Make an uncaught error of ours end the process with one line on stderr and status 1.

    Every other exception goes to the hook that was installed before. Installing twice changes
    nothing.
    """
    previous = sys.excepthook
    if getattr(previous, "_esp_medsam", False):
        return

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        line = explain(error)
        if line is None:
            previous(kind, error, traceback)
        else:
            sys.stderr.write(f"{line}\n")  # the interpreter itself then exits with status 1

    hook._esp_medsam = True  # type: ignore[attr-defined]  # marks the hook as ours
    sys.excepthook = hook
