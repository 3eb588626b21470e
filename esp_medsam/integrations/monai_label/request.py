"""What a client asks of a segmentation, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from esp_medsam.errors import OptionError, TargetError, check_one_of, quoted
from esp_medsam.integrations.monai_label.guard import is_name
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import PLANES


READY = "ready"
ALL = "all"
"""Choices of targets beside their names."""

AUTO = "auto"
"""Choice that leaves a setting as it is."""

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")
"""File types that clients may ask for."""

ORIGINAL, FINAL = "original", "final"
"""Tags of a label as the network made it, and as a user approved it."""


class Asked(NamedTuple):
    """What a client asks for.

    Attributes:
        targets: Names of the targets; None for those that are ready.
        device: Device; None for the app's.
        slice_axis: Plane of the slices; None for the rule.
        extension: Ending of the file to return; None for the usual one.
        is_saved: Whether the result is saved as the image's label.
        tag: Tag of the label, if it is saved.
    """

    targets: tuple[str, ...] | str | None = None
    device: str | None = None
    slice_axis: str | None = None
    extension: str | None = None
    is_saved: bool = False
    tag: str = ORIGINAL


def options_of(modality: str, table: ModalityTable, devices: Sequence[str]) -> dict[str, Any]:
    """Return the options of a modality's model, as clients show them; the first is the default."""
    targets = [target.name for target in table[modality].targets]
    return {
        "targets": [READY, ALL, *targets],
        "device": list(devices),
        "slice_axis": [AUTO, *sorted(PLANES)],
    }


def read_request(
    request: Mapping[str, Any], modality: str, table: ModalityTable, devices: Sequence[str]
) -> Asked:
    """Return what a request asks for.

    An option that nobody chose arrives as the list of all choices, or not at all.

    Args:
        request: Parameters of the request.
        modality: Modality of the model.
        table: Available modalities and targets.
        devices: Devices that may be asked for; the first is the default.

    Raises:
        OptionError: If an option has no such choice.
        TargetError: If the modality has no such target.
    """
    options = options_of(modality, table, devices)
    chosen = {name: _choice(request, name, choices) for name, choices in options.items()}
    targets = chosen["targets"]
    extension = request.get("result_extension") or None
    if extension is not None:
        check_one_of("result_extension", extension, EXTENSIONS)
    tag = request.get("label_tag") or ORIGINAL
    if not isinstance(tag, str) or not is_name(tag):
        msg = f"label_tag must be a name, such as original or final; got {quoted(tag)}."
        raise OptionError(msg)
    return Asked(
        targets=None if targets == READY else ALL if targets == ALL else (targets,),
        device=chosen["device"],
        slice_axis=None if chosen["slice_axis"] == AUTO else chosen["slice_axis"],
        extension=extension,
        is_saved=str(request.get("save_label", False)).lower() == "true",
        tag=tag,
    )


def _choice(request: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    """Return the choice of an option."""
    given = request.get(name)
    if given is None or isinstance(given, list):
        return choices[0]
    if given not in choices:
        if name == "targets":
            msg = f"targets must be one of {', '.join(choices)}; got {quoted(str(given))}."
            raise TargetError(msg)
        if name == "device":  # clients send their own default, such as cuda
            return choices[0]
        check_one_of(name, given, choices)
    return str(given)
