"""The exceptions, each with its code, what it means and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from esp_medsam.errors.wording import listed, quoted


class EspMedSamError(Exception):
    """Base of the exceptions defined here.

    Attributes:
        code: Stable name of the kind of failure; reports and scripts may rely on it.
    """

    code: str = "E_ERROR"


class InputNotFoundError(EspMedSamError, FileNotFoundError):
    """An input path does not exist.

    Check the path.
    """

    code = "E_NOT_FOUND"


class InputChangedError(EspMedSamError, ValueError):
    """An input was changed between the time it was read and the time its result is written.

    Run again once nothing writes to it.
    """

    code = "E_INPUT_CHANGED"


class EmptyInputError(EspMedSamError, ValueError):
    """There is nothing to work on: a folder, a section of a datalist or a pattern is empty.

    Check the path or pattern; ``esp-medsam inspect`` shows what is read from a folder.
    """

    code = "E_NO_INPUT"


class ReadError(EspMedSamError, ValueError):
    """A file or folder cannot be read.

    Remove the cause that the message states, such as a missing permission.
    """

    code = "E_READ"


class FormatError(ReadError):
    """A file has a format, pixel type or dimension that is not supported.

    Convert the file to a format that docs/reference/input.md lists.
    """

    code = "E_FORMAT"


class CorruptFileError(ReadError):
    """A file has a known format but is damaged, truncated or inconsistent with its header.

    Copy or export it again.
    """

    code = "E_CORRUPT"


class TooLargeError(ReadError):
    """More memory is needed than is free, or a file exceeds a safe limit.

    Free memory, choose fewer targets or a smaller slice_batch, split the file, or use a larger
    machine.
    """

    code = "E_TOO_LARGE"


class GeometryError(EspMedSamError, ValueError):
    """The grid of an image or mask is missing or contradictory, or does not match.

    Correct the header, or resample the mask to its image.
    """

    code = "E_GEOMETRY"


class NonFiniteError(EspMedSamError, ValueError):
    """An image, or a value computed from it, holds NaN or infinity, which would empty its mask.

    Replace such values with the background value.
    """

    code = "E_NONFINITE"


class ModalityError(EspMedSamError, ValueError):
    """A modality is not given, not known, or not one of the network's.

    Pass --modality with a name that ``esp-medsam modalities`` lists.
    """

    code = "E_MODALITY"


class ModalityConflictError(ModalityError):
    """A file states a modality other than the given one, or contradicts itself.

    Pass the right --modality; if the file is wrong, also pass --force_modality.
    """

    code = "E_MODALITY_CONFLICT"


class TargetError(EspMedSamError, ValueError):
    """A target is not one of the modality or the network, or none is chosen and none is ready.

    Choose from the targets that ``esp-medsam modalities`` lists for the modality.
    """

    code = "E_TARGET"


class OptionError(EspMedSamError, ValueError):
    """An option, a key of a config or an entry of a datalist has an invalid value.

    Follow the message; docs/reference/keys.md and docs/reference/datalist.md list what is valid.
    """

    code = "E_OPTION"


class DeviceError(EspMedSamError, ValueError):
    """The device asked for does not exist on this machine.

    Choose another one, or leave --device out.
    """

    code = "E_DEVICE"


class CheckpointError(EspMedSamError, ValueError):
    """A checkpoint cannot be read, or the file is not a checkpoint.

    Copy the file again, or name a file of the kind that the message states.
    """

    code = "E_CHECKPOINT"


_ANOTHER = 100
"""Shared parameters of the image encoder that are missing, from which it is another one."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint does not hold exactly the parameters that the network expects.

    Use weights that were trained with the same network and targets.yaml.

    Args:
        source: File that was read, as the user named it.
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
                f"it has another image encoder: {len(other)} parameters of that part are "
                f"missing, such as {other[0]}. Use weights made with the image_encoder that "
                "targets.yaml names"
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
    """A checkpoint is not the file that its record belongs to.

    Copy the weights and their record again. If you replaced the weights yourself, renew the record
    as docs/reference/configs.md describes.
    """

    code = "E_CHECKPOINT_HASH"


class WeightsNotFoundError(EspMedSamError, FileNotFoundError):
    """The bundle or --ckpt_path has no weights, or no bundle is installed.

    Name a file with --ckpt_path, or a bundle with --bundle.
    """

    code = "E_NO_WEIGHTS"


class DivergedError(EspMedSamError, ArithmeticError):
    """The loss or gradients of a training are no longer finite.

    Start over (resume false) with a lower learning_rate or max_norm, or with amp false, or check
    the images of the datasets that the message names.
    """

    code = "E_DIVERGED"


class TimeUpError(EspMedSamError, TimeoutError):
    """The segmentation of an image takes longer than it may.

    Allow more time, or ask for fewer targets.
    """

    code = "E_TIMEOUT"


class WorkerDiedError(EspMedSamError, RuntimeError):
    """The process that segmented an image ended, again and again; often, memory ran out.

    Free memory, use fewer workers, or choose a smaller ``input_size``.
    """

    code = "E_WORKER_DIED"


class ClusterError(EspMedSamError, RuntimeError):
    """A cluster does not answer, or a node of it does not see the files of the run.

    Check the address, and that all nodes mount the same storage and have the same software.
    """

    code = "E_CLUSTER"


class DecodeCrashError(EspMedSamError, ValueError):
    """The library that reads a file crashed on it.

    Export the file again, or convert it with another program.
    """

    code = "E_DECODE_CRASH"


class RuntimeCheckError(EspMedSamError, RuntimeError):
    """A network does not compute the results that are recorded with its weights.

    Use another device, or another version of torch.
    """

    code = "E_SELF_CHECK"


class NetworkOutputError(EspMedSamError, RuntimeError):
    """A network gives the same value for every pixel, as an untrained one does.

    Copy the weights again, or use another device.
    """

    code = "E_NETWORK"


class TableError(EspMedSamError, ValueError):
    """The table of modalities and targets, targets.yaml, is not valid.

    Correct the places that the message names.
    """

    code = "E_TABLE"


class OutputExistsError(EspMedSamError, FileExistsError):
    """An output exists that was made in another way, or that was changed since.

    Pass --overwrite to replace it, or move it away.
    """

    code = "E_EXISTS"


class NameClashError(EspMedSamError, ValueError):
    """Two inputs have the same output name.

    Rename one of them.
    """

    code = "E_NAME_CLASH"


class OutputError(EspMedSamError, OSError):
    """An output cannot be written.

    Choose another output folder, or remove the cause that the message states.
    """

    code = "E_OUTPUT"


class LockedError(OutputError):
    """Another run is writing to the output folder.

    Wait until it has ended, or choose another folder.
    """

    code = "E_LOCKED"


class DiskFullError(OutputError):
    """The disk, the quota or the file-size limit leaves no room for an output.

    Free some space and run the same command again.
    """

    code = "E_DISK_FULL"


class PacsError(EspMedSamError, ConnectionError):
    """A PACS does not answer, or does not answer as DICOMweb requires.

    Check the URL and the server, then run the same command again.
    """

    code = "E_PACS"


class PacsAccessError(PacsError):
    """A PACS requires credentials, or refuses them.

    Check user and password, token or certificate.
    """

    code = "E_PACS_ACCESS"


class PacsIncompleteError(PacsError):
    """A series arrived incomplete, or changed while it was fetched.

    Run again once the series is complete.
    """

    code = "E_PACS_INCOMPLETE"


class PacsRefusedError(PacsError):
    """A PACS refuses to store a result.

    Remove the cause that the message states, then send the result with --resend.
    """

    code = "E_PACS_REFUSED"


def one_of(valid: Iterable[str]) -> str:
    """Return the rule of an argument that has a few valid values."""
    return f"must be one of {', '.join(valid)}"


def check_one_of(
    name: str, value: object, valid: Iterable[str], kind: type[EspMedSamError] = OptionError
) -> None:
    """Refuse a value that is not among those of an argument.

    Raises:
        EspMedSamError: Of the given kind, naming the argument, the values and what was given.
    """
    if value not in (known := tuple(valid)):
        msg = f"{name} {one_of(known)}; got {quoted(value)}."
        raise kind(msg)


def not_found(
    path: str | os.PathLike[str], what: str = "file", *, argument: str = ""
) -> InputNotFoundError:
    """Return the error of a path that the user named and that does not exist.

    Args:
        path: The path.
        what: What must be there.
        argument: What the user calls the path, if it is not the path itself.
    """
    name = os.fspath(path)
    place = f"{argument} must be an existing {what}; there is none at {name}"
    msg = place if argument else f"{name} must be an existing {what}; there is none"
    return InputNotFoundError(f"{msg}.")
