"""What a client asks of a segmentation, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from esp_medsam.errors import OptionError, TargetError, check_one_of, quoted
from esp_medsam.integrations.monai_label.guard import is_name
from esp_medsam.integrations.monai_label.versions import CURRENT, SHIPPED
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import PLANES
from esp_medsam.settings import InferenceSettings


READY = "ready"
ALL = "all"
"""Choices of targets beside their names."""

AUTO = "auto"
"""Choice that leaves a setting as it is."""

MASK_RULES = {
    "threshold": ("0.3", "0.4", "0.5", "0.6", "0.7"),
    "largest_component": ("true", "false"),
    "min_ml": ("0.1", "1", "10"),
}
"""Keys of ``inference.yaml`` for how probabilities become masks, with choices to show."""

EXTENSIONS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".png")
"""File types that clients may ask for."""

ORIGINAL, FINAL = "original", "final"
"""Tags of a label as the network made it, and as a user approved it."""


class Asked(NamedTuple):
    """What a client asks for.

    Attributes:
        settings: Keys of ``inference.yaml`` that the client chose.
        device: Device; None for the app's.
        version: Version of the weights.
        extension: Ending of the file to return; None for the usual one.
        is_saved: Whether the result is saved as the image's label.
        tag: Tag of the label, if it is saved.
    """

    settings: Mapping[str, Any] = {}
    device: str | None = None
    version: str = CURRENT
    extension: str | None = None
    is_saved: bool = False
    tag: str = ORIGINAL


def options_of(
    modality: str,
    table: ModalityTable,
    devices: Sequence[str],
    versions: Sequence[str] = (CURRENT, SHIPPED),
) -> dict[str, list[str]]:
    """Return the options of a modality's model, as clients show them; the first is the default."""
    targets = [target.name for target in table[modality].targets]
    return {
        "targets": [READY, ALL, *targets],
        "version": list(versions),
        "device": list(devices),
        "slice_axis": [AUTO, *sorted(PLANES)],
        **{name: [AUTO, *choices] for name, choices in MASK_RULES.items()},
    }


def read_request(
    request: Mapping[str, Any],
    modality: str,
    table: ModalityTable,
    devices: Sequence[str],
    versions: Sequence[str] = (CURRENT, SHIPPED),
) -> Asked:
    """Return what a request asks for.

    An option that nobody chose arrives as the list of all choices, or not at all.

    Args:
        request: Parameters of the request.
        modality: Modality of the model.
        table: Available modalities and targets.
        devices: Devices that may be asked for; the first is the default.
        versions: Names of the versions of the weights.

    Raises:
        OptionError: If an option has no such choice.
        TargetError: If the modality has no such target.
    """
    options = options_of(modality, table, devices, versions)
    chosen = {name: _choice(request, name, choices) for name, choices in options.items()}
    targets = chosen["targets"]
    kept = [name for name in ("slice_axis", *MASK_RULES) if chosen[name] != AUTO]
    settings: dict[str, Any] = {name: chosen[name] for name in kept}
    if targets != READY:
        settings["targets"] = ALL if targets == ALL else (targets,)
    extension = request.get("result_extension") or None
    if extension is not None:
        check_one_of("result_extension", extension, EXTENSIONS)
    tag = request.get("label_tag") or ORIGINAL
    if not isinstance(tag, str) or not is_name(tag):
        msg = f"label_tag must be a name, such as {ORIGINAL}; got {quoted(tag)}."
        raise OptionError(msg)
    if tag == FINAL:
        msg = f"label_tag must be another than {FINAL}, which is for what a user approved; got it."
        raise OptionError(msg)
    return Asked(
        settings=InferenceSettings.given(settings),
        device=chosen["device"],
        version=chosen["version"],
        extension=extension,
        is_saved=str(request.get("save_label", False)).lower() == "true",
        tag=tag,
    )


def _choice(request: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    """Return the choice of an option; clients may send other numbers than those that are shown."""
    given = request.get(name)
    if given is None or isinstance(given, list):
        return choices[0]
    if name in MASK_RULES:
        return str(given)
    if given not in choices:
        if name == "targets":
            msg = f"targets must be one of {', '.join(choices)}; got {quoted(str(given))}."
            raise TargetError(msg)
        if name == "device":  # clients send their own default, such as cuda
            return choices[0]
        check_one_of(name, given, choices)
    return str(given)
