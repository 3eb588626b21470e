"""Read state dicts from files and load them completely, or report everything that does not fit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from esp_medsam.errors import (
    CheckpointError,
    CheckpointMismatchError,
    TooLargeError,
    not_found,
    says_out_of_memory,
)
from esp_medsam.networks.checkpoint_archive import NotPlainError, check_archive
from esp_medsam.regular_file import open_regular


WRAPPERS = ("state_dict", "model")
"""Keys under which training loops store the state dict next to their own state."""

_LONGEST_NAME, _SHOWN = 500, 60
"""Most characters of a parameter's name, and of an invalid name in a message."""


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the state dict in a file, on the CPU.

    Only tensors are read: a file that needs more, and so could run code, is refused.

    Args:
        path: File from ``torch.save`` with a state dict, plain or under "state_dict" or "model".

    Raises:
        InputNotFoundError: If the file does not exist.
        CheckpointError: If the file cannot be read, or holds something else.
        TooLargeError: If memory runs out.
    """
    source = Path(path)
    if not source.exists():
        raise not_found(source)
    try:
        with open_regular(source) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about a file are moot or errors
            check_archive(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"{source} must be a readable file; got: {error.strerror or error}."
        raise CheckpointError(msg) from error
    except NotPlainError as error:
        msg = f"{source} must be a state dict saved by torch.save; {error}."
        raise CheckpointError(msg) from error
    except Exception as error:  # a damaged file can raise any error
        if says_out_of_memory(error):
            msg = (
                f"{source} must fit in memory; memory ran out. Free some, or use a larger machine."
            )
            raise TooLargeError(msg) from error
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:120]
        msg = (
            f"{source} must be a state dict saved by torch.save; "
            f"reading it gave {type(error).__name__}{': ' if reason else ''}{reason}."
        )
        raise CheckpointError(msg) from error
    return _state_dict(content, source)


def _state_dict(content: object, file: Path) -> dict[str, Tensor]:
    """Return the state dict in ``content``, unwrapped."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        held = "an empty dict" if isinstance(content, dict) else f"a {type(content).__name__}"
        msg = f"{file} must hold a state dict, plain or under {' or '.join(WRAPPERS)}; got {held}."
        raise CheckpointError(msg)
    for key, value in content.items():
        is_plain = isinstance(value, Tensor) and value.nbytes <= value.untyped_storage().nbytes()
        if not isinstance(key, str) or len(key) > _LONGEST_NAME or not is_plain:
            msg = (
                f"{file} must hold a state dict, of names and tensors only; got "
                f"{repr(key)[:_SHOWN]}: {type(value).__name__}."
            )
            raise CheckpointError(msg)
    return dict(content)


def compare(source: str, state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Require ``state_dict`` to hold exactly the names and shapes of ``expected``.

    Floating-point types may differ, so half-precision weights fit.

    Args:
        source: Name of ``state_dict`` in messages.
        state_dict: State dict to check.
        expected: Expected names and shapes; values do not matter.

    Raises:
        CheckpointMismatchError: If anything differs; it names all differences.
    """
    mismatched = [
        f"{key} {_describe(state_dict[key])} for {_describe(tensor)}"
        for key, tensor in expected.items()
        if key in state_dict and _kind(state_dict[key]) != _kind(tensor)
    ]
    missing = [key for key in expected if key not in state_dict]
    unexpected = [key for key in state_dict if key not in expected]
    if missing or unexpected or mismatched:
        raise CheckpointMismatchError(
            source, missing=missing, unexpected=unexpected, mismatched=mismatched
        )


def _kind(tensor: Tensor) -> tuple[torch.Size, object]:
    return tensor.shape, "float" if tensor.is_floating_point() else tensor.dtype


def _describe(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def load_into(
    network: nn.Module, state_dict: Mapping[str, Tensor], *, source: str = "state_dict"
) -> None:
    """Load a state dict that fits the network exactly; otherwise leave the network unchanged.

    Args:
        network: Takes the values in its own precision.
        state_dict: Values of all its parameters and buffers.
        source: Name of ``state_dict`` in messages, such as its file.

    Raises:
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    compare(source, state_dict, network.state_dict())
    network.load_state_dict(dict(state_dict))
