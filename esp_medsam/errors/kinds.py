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
    """There is nothing to work on: a folder, a section of a datalist or a pattern yields nothing.

    Check what was named; ``esp-medsam inspect`` shows what is read of a folder.
    """

    code = "E_NO_INPUT"


class ReadError(EspMedSamError, ValueError):
    """A file or folder cannot be read.

    Remove the cause that the message states, such as a missing permission.
    """

    code = "E_READ"


class FormatError(ReadError):
    """A file is not of a format, pixel type or dimension that is read here.

    Convert the file to what docs/reference/input.md lists.
    """

    code = "E_FORMAT"


class CorruptFileError(ReadError):
    """A file is of a known format but damaged, cut short or in contradiction to its header.

    Copy or export it again.
    """

    code = "E_CORRUPT"


class TooLargeError(ReadError):
    """More memory is needed than is free, or a file claims more than a safe limit.

    Free memory, choose fewer targets or a smaller slice_batch, split the file, or use a larger
    machine.
    """

    code = "E_TOO_LARGE"


class GeometryError(EspMedSamError, ValueError):
    """The grid of an image or mask is missing, contradictory, or not the one it must be.

    Correct its header, or resample a mask to its image.
    """

    code = "E_GEOMETRY"


class NonFiniteError(EspMedSamError, ValueError):
    """An image, or what is computed from it, holds NaN or infinity, which would empty its mask.

    Replace such values with that of the background.
    """

    code = "E_NONFINITE"


class ModalityError(EspMedSamError, ValueError):
    """A modality is not given, not known, or not held by the network.

    Pass --modality with a name that ``esp-medsam modalities`` lists.
    """

    code = "E_MODALITY"


class ModalityConflictError(ModalityError):
    """A file states another modality than the user does, or contradicts itself.

    Pass the right --modality; if the file is wrong, pass --force_modality too.
    """

    code = "E_MODALITY_CONFLICT"


class TargetError(EspMedSamError, ValueError):
    """A target is not known to the modality or the network, or none is named where none is ready.

    Choose from the targets that ``esp-medsam modalities`` lists for the modality.
    """

    code = "E_TARGET"


class OptionError(EspMedSamError, ValueError):
    """An option, a key of a config or an entry of a datalist has a value that it cannot take.

    Follow the message; docs/reference/keys.md and docs/reference/datalist.md list what is valid.
    """

    code = "E_OPTION"


class DeviceError(EspMedSamError, ValueError):
    """The device asked for does not exist on this machine.

    Choose another one, or leave --device out.
    """

    code = "E_DEVICE"


class CheckpointError(EspMedSamError, ValueError):
    """A checkpoint cannot be read, or is not one.

    Copy the file again, or name a file of the kind that the message requires.
    """

    code = "E_CHECKPOINT"


_ANOTHER = 100
"""Shared parameters of the image encoder that are missing, from which it is another one."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint does not hold exactly the parameters that the network expects.

    Use weights that were trained with the same network and targets.yaml.

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
    """A checkpoint is not the file that its record was written for.

    Copy the weights and their record again. If you replaced the weights yourself, renew the
    record as docs/reference/configs.md describes.
    """

    code = "E_CHECKPOINT_HASH"


class WeightsNotFoundError(EspMedSamError, FileNotFoundError):
    """There are no weights at the path given or in the bundle, or there is no bundle.

    Name a file with --ckpt_path, or a bundle with --bundle.
    """

    code = "E_NO_WEIGHTS"


class DivergedError(EspMedSamError, ArithmeticError):
    """A training no longer computes finite numbers.

    Begin anew (resume false) with a lower learning_rate or max_norm, or with amp false, or look at
    the images of the datasets that the message names.
    """

    code = "E_DIVERGED"


class RuntimeCheckError(EspMedSamError, RuntimeError):
    """A network does not compute here what it computed where its weights were made.

    Use another device, or another version of torch.
    """

    code = "E_SELF_CHECK"


class NetworkOutputError(EspMedSamError, RuntimeError):
    """A network gives the same for every pixel, as one without weights does.

    Copy the weights again, or use another device.
    """

    code = "E_NETWORK"


class TableError(EspMedSamError, ValueError):
    """The table of modalities and targets, targets.yaml, is not valid.

    Correct the places that the message names.
    """

    code = "E_TABLE"


class OutputExistsError(EspMedSamError, FileExistsError):
    """An output exists that is not the one asked for, or that was changed since.

    Pass --overwrite to replace it, or move it away.
    """

    code = "E_EXISTS"


class NameClashError(EspMedSamError, ValueError):
    """Two inputs would be written under one name.

    Rename one of them.
    """

    code = "E_NAME_CLASH"


class OutputError(EspMedSamError, OSError):
    """An output cannot be written.

    Choose another output folder, or remove the cause that the message states.
    """

    code = "E_OUTPUT"


class DiskFullError(OutputError):
    """The disk, the quota or the file-size limit leaves no room for an output.

    Free some space and run the same command again.
    """

    code = "E_DISK_FULL"


class PacsError(EspMedSamError, ConnectionError):
    """A PACS does not answer, or not as DICOMweb does.

    Check the URL and the server, then run the same command again.
    """

    code = "E_PACS"


class PacsAccessError(PacsError):
    """A PACS refuses the credentials, or requires some.

    Check user and password, token or certificate.
    """

    code = "E_PACS_ACCESS"


class PacsIncompleteError(PacsError):
    """A series did not arrive whole, or changed while it was fetched.

    Run again once the series is complete.
    """

    code = "E_PACS_INCOMPLETE"


class PacsRefusedError(PacsError):
    """A PACS does not take a result.

    Remove the cause that the message states, then send the result with --resend.
    """

    code = "E_PACS_REFUSED"


def check_one_of(name: str, value: object, valid: Iterable[str]) -> None:
    """Refuse what is none of the values that an argument may have.

    Raises:
        OptionError: Naming the argument, the values and what was given.
    """
    if value not in (known := tuple(valid)):
        msg = f"{name} must be one of {', '.join(known)}; got {value!r}."
        raise OptionError(msg)
