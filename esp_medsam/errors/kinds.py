"""The exceptions, each with its code, what it means and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from esp_medsam.errors.wording import listed


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


def check_one_of(name: str, value: object, valid: Iterable[str]) -> None:
    """Refuse what is none of the values that an argument may have.

    Raises:
        OptionError: Naming the argument, the values and what was given.
    """
    if value not in (known := tuple(valid)):
        msg = f"{name} must be one of {', '.join(known)}; got {value!r}."
        raise OptionError(msg)
