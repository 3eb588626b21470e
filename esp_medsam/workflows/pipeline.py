"""The bundle's configuration: the one definition of the pipeline, read and built."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from esp_medsam.errors import OptionError, OutputError
from esp_medsam.inferers.device import device_of
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import CONFIG, find_bundle
from esp_medsam.workflows.segment import Segmentation
from esp_medsam.workflows.weights import check_weights


def read_config(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    **overrides: Any,
) -> ConfigParser:
    """Return the bundle's inference configuration, nothing built yet.

    Args:
        bundle: Folder of the bundle; None looks for it.
        overlays: Further configs, in order, whose keys replace those before.
        overrides: Keys to set last, such as ``dataset_dir``; None leaves the config's own value.

    Raises:
        OptionError: If a config is none, or has a key that is nearly one of the bundle's: nobody
            would read it, and nothing would say so.
    """
    root = find_bundle(bundle)
    parser = ConfigParser()
    with warnings.catch_warnings():
        # MONAI warns on every parse that configs are code; this one is our own.
        warnings.filterwarnings("ignore", category=UserWarning, module="monai")
        files = [str(root / CONFIG), *(_overlay(path, root) for path in overlays)]
        try:
            parser.read_config(files)
        except (ValueError, AttributeError, yaml.YAMLError) as error:
            msg = (
                f"config must hold keys and values, each once; one of {', '.join(files)} is not so."
            )
            raise OptionError(msg) from error
        _check_keys(parser, files[0])
        given = {key: value for key, value in overrides.items() if value is not None}
        parser.update({"bundle_root": str(root), **given})
    return parser


def _check_keys(parser: ConfigParser, own: str) -> None:
    """Refuse a key that is a slip of the pen; other keys are the user's, to refer to."""
    known = set(ConfigParser.load_config_file(own))
    for key in set(parser.get()) - known:
        if near := get_close_matches(str(key), known, n=1, cutoff=0.85):
            msg = f"config must hold keys that are read; got {key}. Is it {near[0]}?"
            raise OptionError(msg)


def _overlay(path: str | os.PathLike[str], root: Path) -> str:
    """Return an overlay's path: as given, else of that name beside the bundle's own config."""
    for candidate in (Path(path), (root / CONFIG).parent / path):
        if candidate.is_file():
            return str(candidate)
    msg = f"config must be a YAML or JSON file, or one of the bundle's; got {os.fspath(path)}."
    raise OptionError(msg)


def build_segmentation(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    **overrides: Any,
) -> Segmentation:
    """Build the pipeline that ``python -m monai.bundle run`` would, and hand it over unrun.

    Args:
        bundle: Folder of the bundle; None looks for it.
        overlays: Further configs, in order, whose keys replace those before.
        overrides: Keys of ``inference.yaml`` to set; None leaves the config's own value.

    Raises:
        EspMedSamError: If an option, the input or the weights are not usable; MONAI wraps those
            it meets while building, see :func:`esp_medsam.errors.explain`.
    """
    parser = read_config(bundle, overlays, **overrides)
    for position in range(len(parser["initialize"])):
        if "install_excepthook" not in parser[f"initialize#{position}"]:
            parser.get_parsed_content(f"initialize#{position}")
    segmentation = parser.get_parsed_content("segmentation")
    assert isinstance(segmentation, Segmentation), "the config's segmentation is one"
    return segmentation


def check_settings(
    *,
    modality: str | Sequence[str],
    table: ModalityTable,
    targets: Sequence[str] | None,
    output_dir: str | os.PathLike[str],
    ckpt_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
) -> None:
    """Refuse what can be refused without building anything.

    Args:
        modality: Name of the modality; a list means that DICOM is to say it.
        table: Modalities at hand.
        targets: Names of the chosen targets.
        output_dir: Where outputs go.
        ckpt_path: The weights.
        device: Where the network runs.

    Raises:
        ModalityError: If the modality is unknown.
        TargetError: If a target is unknown.
        OutputError: If the output folder is a file, or cannot be written to.
        WeightsNotFoundError: If there are no weights.
        DeviceError: If there is no such device.
    """
    if isinstance(modality, str):
        table.select(modality, targets)
    _check_output(Path(output_dir))
    check_weights(ckpt_path)
    device_of(device)


def _check_output(output_dir: Path) -> None:
    """Refuse an output folder that could only be found wanting once the first item is done."""
    there = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not there.is_dir():
        msg = f"{output_dir} must be a folder to write to; {there} is a file."
        raise OutputError(msg)
    if not os.access(there, os.W_OK | os.X_OK):
        msg = f"{output_dir} must be a folder to write to; {there} is not writable."
        raise OutputError(msg)
