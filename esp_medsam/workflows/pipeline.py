"""Build the pipeline from the bundle's configuration."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigParser

from esp_medsam.errors import OptionError
from esp_medsam.inferers.device import device_of
from esp_medsam.io import check_output_dir
from esp_medsam.setting_checks import Given
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.overlay_transforms import build_transforms
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.request import Request, read_request
from esp_medsam.workflows.segment import SegmentRun
from esp_medsam.workflows.weights import check_weights


def read_config(request: Request) -> ConfigParser:
    """Return the configuration of what is asked for, nothing built yet.

    Raises:
        OptionError: If a config cannot be parsed, or a transform does not take its options.
    """
    settings = dict(request.settings)
    if settings.get("transforms"):
        settings["transforms"] = build_transforms(settings["transforms"])
    parser = ConfigParser()
    with warnings.catch_warnings():
        # MONAI warns on every parse that configs are code; this one is our own, or trusted.
        warnings.filterwarnings("ignore", category=UserWarning, module="monai")
        try:
            parser.read_config([str(path) for path in request.configs])
        except (ValueError, AttributeError) as error:
            files = ", ".join(str(path) for path in request.configs)
            msg = f"config must hold keys and values, each key once; one of {files} does not."
            raise OptionError(msg) from error
        parser.update({"bundle_root": str(request.root)})
        parser.update({key: Given(value) for key, value in settings.items()})
    return parser


def build(
    request: Request,
    *,
    plans: Plans | None = None,
    network: Any | None = None,
    calibration: Any | None = None,
) -> SegmentRun:
    """Build the pipeline that ``python -m monai.bundle run`` would, and hand it over unrun.

    Args:
        request: What is asked for.
        plans: What is segmented; None plans what lies in the input folder.
        network: What the inferer asks; None builds the config's own, with its weights.
        calibration: What was measured of a network that is given.

    Raises:
        EspMedSamError: If the input or the weights are not usable; MONAI wraps those it meets
            while building, see :func:`esp_medsam.errors.explain`.
    """
    parser = read_config(request)
    parts = {"plans": plans, "network": network}
    parser.update({name: part for name, part in parts.items() if part is not None})
    if network is not None:
        parser.update({"calibration": calibration})  # not that of weights that are not read
    for position in range(len(parser["initialize"])):
        if "install_excepthook" not in parser[f"initialize#{position}"]:
            parser.get_parsed_content(f"initialize#{position}")
    segmentation = parser.get_parsed_content("segmentation")
    assert isinstance(segmentation, SegmentRun), "the config's segmentation is one"
    return segmentation


def build_run(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    *,
    trust_config: bool = False,
    network: Any | None = None,
    **given: Any,
) -> SegmentRun:
    """Read what is asked for and build it: :func:`read_request`, then :func:`build`.

    Args:
        bundle: Folder of the bundle; None looks for it.
        overlays: Further configs, in order, whose keys replace those before.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        network: What the inferer asks; None builds the config's own, with its weights.
        given: Keys of ``inference.yaml`` to set; None leaves the config's own value.

    Raises:
        EspMedSamError: As of both.
    """
    request = read_request(bundle, overlays, trust_config=trust_config, **given)
    return build(request, network=network)


def check_settings(settings: InferenceSettings) -> None:
    """Refuse what can be refused without building anything.

    Raises:
        OutputError: If the output folder is a file, or cannot be written to.
        WeightsNotFoundError: If there are no weights.
        DeviceError: If there is no such device.
    """
    check_output_dir(settings.output_dir)
    check_weights(settings.ckpt_path)
    device_of(settings.device)
