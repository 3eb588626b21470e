"""Exceptions that user input can cause, each with a stable error code.

Every class also inherits the built-in that a caller would expect, so ``except ValueError`` and
``except FileNotFoundError`` keep working. Messages state the rule, the value and the remedy in
one line; :func:`explain` puts the code in front.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any


class EspMedSamError(Exception):
    """Base of the exceptions defined here.

    Attributes:
        code: Stable name of the kind of failure; reports and scripts may rely on it.
    """

    code: str = "E_ERROR"


class InputNotFoundError(EspMedSamError, FileNotFoundError):
    """An input path does not exist."""

    code = "E_NOT_FOUND"


class InputChangedError(EspMedSamError, ValueError):
    """An input was changed between the time it was read and the time its result is written."""

    code = "E_INPUT_CHANGED"


class EmptyInputError(EspMedSamError, ValueError):
    """A folder holds no readable image."""

    code = "E_NO_INPUT"


class ReadError(EspMedSamError, ValueError):
    """A file cannot be read."""

    code = "E_READ"


class FormatError(ReadError):
    """A file is not of a format, pixel type or dimension that is read here."""

    code = "E_FORMAT"


class CorruptFileError(ReadError):
    """A file is of a known format but damaged or cut short."""

    code = "E_CORRUPT"


class TooLargeError(ReadError):
    """A file claims more pixels than the memory at hand, or a safe limit, can hold."""

    code = "E_TOO_LARGE"


class GeometryError(EspMedSamError, ValueError):
    """An image's grid is missing, contradictory or cannot be represented."""

    code = "E_GEOMETRY"


class NonFiniteError(EspMedSamError, ValueError):
    """An image holds NaN or infinity, which would silently empty its mask."""

    code = "E_NONFINITE"


class ModalityError(EspMedSamError, ValueError):
    """A modality is not given, not known, or not held by the network."""

    code = "E_MODALITY"


class ModalityConflictError(ModalityError):
    """A file states another modality than the user does."""

    code = "E_MODALITY_CONFLICT"


class TargetError(EspMedSamError, ValueError):
    """A target is not known to the modality."""

    code = "E_TARGET"


class OptionError(EspMedSamError, ValueError):
    """An option has a value that it cannot take."""

    code = "E_OPTION"


class DeviceError(EspMedSamError, ValueError):
    """The device asked for is not at hand."""

    code = "E_DEVICE"


class CheckpointError(EspMedSamError, ValueError):
    """A checkpoint cannot be read, or is not one."""

    code = "E_CHECKPOINT"


_ANOTHER = 100
"""Shared parameters of the image encoder that are missing, from which it is another one."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint does not hold exactly the parameters that the network expects.

    Args:
        source: What was read, as the user named it.
        missing: Parameters that the network has and the checkpoint lacks.
        unexpected: Entries of the checkpoint that the network has no place for.
        mismatched: Parameters whose shape or type differs, with both stated.
    """

    code = "E_CHECKPOINT_MISMATCH"

    def __init__(
        self,
        source: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        mismatched: Sequence[str] = (),
    ) -> None:
        self.source = source
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = tuple(mismatched)
        super().__init__(f"{source} must hold exactly the network's parameters; {self._found()}.")

    def _found(self) -> str:
        """Return what differs, or in which part all does."""
        other, held = (
            [k for k in keys if k.startswith("image_encoder.") and ".controllers." not in k]
            for keys in (self.missing, self.unexpected)
        )
        if len(other) > _ANOTHER and len(held) > _ANOTHER:
            return (
                f"its image encoder is of another kind: {len(other)} of that part are missing, "
                f"such as {other[0]}. Which one a network has stands in targets.yaml, as "
                "image_encoder: use weights that were made with the same"
            )
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "mis-shaped": self.mismatched,
        }
        return "got " + "; ".join(
            f"{len(keys)} {kind}{': ' if keys else ''}{listed(keys)}"
            for kind, keys in kinds.items()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments: the default would pass the message as ``source``."""
        state = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "mismatched": self.mismatched,
        }
        return _rebuild_mismatch, (self.source, state)


def _rebuild_mismatch(source: str, keys: dict[str, tuple[str, ...]]) -> CheckpointMismatchError:
    return CheckpointMismatchError(source, **keys)


class CheckpointHashError(CheckpointError):
    """A checkpoint is not the file that its record was written for."""

    code = "E_CHECKPOINT_HASH"


class WeightsNotFoundError(EspMedSamError, FileNotFoundError):
    """The bundle has no weights, or the path given holds none."""

    code = "E_NO_WEIGHTS"


class DivergedError(EspMedSamError, ArithmeticError):
    """A training no longer computes finite numbers."""

    code = "E_DIVERGED"


class RuntimeCheckError(EspMedSamError, RuntimeError):
    """A network does not compute here what it computed where its weights were made."""

    code = "E_SELF_CHECK"


class NetworkOutputError(EspMedSamError, RuntimeError):
    """A network gives the same for every pixel, as one without weights does."""

    code = "E_NETWORK"


class TableError(EspMedSamError, ValueError):
    """The table of modalities and targets is not valid."""

    code = "E_TABLE"


class OutputExistsError(EspMedSamError, FileExistsError):
    """An output exists that would differ from the one asked for."""

    code = "E_EXISTS"


class NameClashError(EspMedSamError, ValueError):
    """Two inputs would be written under one name."""

    code = "E_NAME_CLASH"


class OutputError(EspMedSamError, OSError):
    """An output cannot be written."""

    code = "E_OUTPUT"


class DiskFullError(OutputError):
    """The disk, the quota or the file-size limit leaves no room for an output."""

    code = "E_DISK_FULL"


class PacsError(EspMedSamError, ConnectionError):
    """A PACS does not answer, or not as DICOMweb does."""

    code = "E_PACS"


class PacsAccessError(PacsError):
    """A PACS asks for other credentials."""

    code = "E_PACS_ACCESS"


class PacsIncompleteError(PacsError):
    """A series did not arrive whole."""

    code = "E_PACS_INCOMPLETE"


class PacsRefusedError(PacsError):
    """A PACS does not take an object."""

    code = "E_PACS_REFUSED"


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, or while."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)


def cause_of(error: BaseException) -> EspMedSamError | None:
    """Return the first of our errors behind ``error``, itself included; None where none is."""
    return next((one for one in chain_of(error) if isinstance(one, EspMedSamError)), None)


def explain(error: BaseException) -> str | None:
    """Return ``"<CODE>: <message>"`` of the first of our errors behind ``error``, in one line.

    Follows causes and contexts, because MONAI wraps what our transforms and constructors raise.
    What MONAI itself finds wrong in a config, that memory ran out, and what the system says of a
    path (too long, no permission) are told as errors of ours.

    Args:
        error: The exception that was caught.

    Returns:
        The line, or None where none of ours is behind ``error``.
    """
    ours = cause_of(error)
    if ours is not None:
        return f"{ours.code}: {one_line(str(ours))}"
    other: str | None = None
    is_cause = True
    for current in chain_of(error):
        other = other or _of_config(current) or _of_memory(current)
        if is_cause:  # what failed on the way to another failure is not what failed
            other = other or _of_path(current)
        is_cause = is_cause and current.__cause__ is not None
    return other and one_line(other)


def _of_path(error: BaseException) -> str | None:
    """Return what the system says of a path that it was asked for."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    path = os.fspath(error.filename)
    return f"{ReadError.code}: {path} must be a path that can be used; got: {error.strerror}."


def _of_memory(error: BaseException) -> str | None:
    """Return that memory ran out."""
    if not says_out_of_memory(error):
        return None
    return (
        f"{TooLargeError.code}: memory ran out; free some, raise the limit (ulimit -v), "
        "or, where volumes are segmented, use a smaller slice_batch."
    )


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on any device, or a loader's.

    Where a library is loaded, the system's loader says so, in an ImportError or OSError.
    """
    text = str(error).lower()
    if isinstance(error, ImportError | OSError):
        return "cannot allocate memory" in text or "failed to map segment" in text
    words = ("out of memory", "not enough memory", "can't allocate memory")
    said = isinstance(error, RuntimeError) and any(word in text for word in words)
    return said or isinstance(error, MemoryError)


def _of_config(error: BaseException) -> str | None:
    """Return what MONAI's config parser found wrong: it has no errors of its own for it."""
    told = _told_by_config(error)
    return told and f"{OptionError.code}: {told}"


def _told_by_config(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, TypeError):
        built = re.match(r"Failed to instantiate component '([^']+)'", text)
        return built and f"config must give {built[1]} what it takes; got: {error.__cause__}."
    if isinstance(error, ModuleNotFoundError) and text.startswith("Cannot locate "):
        return f"config must name classes and functions that there are; {text.rstrip('.')}."
    if isinstance(error, ValueError) and text.startswith("the referring item "):
        return f"config must refer to its own keys; {text.rstrip('.')}."
    return None


def one_line(text: str) -> str:
    """Escape what would break a line: a file name may hold a newline or a terminal code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(parts: Sequence[str], separator: str = ", ") -> str:
    """Return what a message lists: the first of many, and how many more there are."""
    more = f"{separator}and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return separator.join(parts[:_LISTED]) + more


_LISTED = 20
"""Parts that a message lists; it must stay a line that can be read."""


def check_one_of(name: str, value: object, valid: Iterable[str]) -> None:
    """Refuse what is none of the values that an argument may have.

    Raises:
        OptionError: Naming the argument, the values and what was given.
    """
    if value not in (known := tuple(valid)):
        msg = f"{name} must be one of {', '.join(known)}; got {value!r}."
        raise OptionError(msg)


def quoted(value: object) -> str:
    """Return a value as a message quotes it: a hostile one may be a megabyte long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a value too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 60
"""Characters of a value that a message quotes."""


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
