"""Build the pipeline from the bundle's configuration."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from monai.bundle import ComponentLocator, ConfigParser

from esp_medsam.errors import OptionError
from esp_medsam.inferers.device import device_of
from esp_medsam.io import check_output_dir
from esp_medsam.setting_checks import Given
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.overlay_transforms import build_transforms
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.request import Request, read_request
from esp_medsam.workflows.runtime_choice import check_asked
from esp_medsam.workflows.segment import SegmentRun
from esp_medsam.workflows.weights import check_weights


class _Locator(ComponentLocator):
    """Finds MONAI's classes, though other threads may import modules meanwhile."""

    def _find_module_names(self) -> list[str]:
        """Return the names of MONAI's modules; MONAI's own walks what changes."""
        return [name for name in tuple(sys.modules) if name.startswith(self.MOD_START)]


def read_config(request: Request) -> ConfigParser:
    """Return the configuration of a request, with nothing built yet.

    Raises:
        OptionError: If a config cannot be parsed, or a transform does not accept its options.
    """
    settings = dict(request.settings)
    if settings.get("transforms"):
        settings["transforms"] = build_transforms(settings["transforms"])
    parser = ConfigParser()
    parser.locator = _Locator()
    with warnings.catch_warnings():
        # MONAI warns on every parse that configs are code; this config is our own, or trusted.
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
    """Build the pipeline that ``python -m monai.bundle run`` would, and return it unrun.

    Args:
        request: The request.
        plans: Plans of what to segment; None plans the content of the input folder.
        network: Network for the inferer; None builds the config's own, with its weights.
        calibration: Calibration that was measured for a given network.

    Raises:
        EspMedSamError: If the input or the weights are not usable; MONAI wraps errors during the
            build, see :func:`esp_medsam.errors.explain`.
    """
    parser = read_config(request)
    parts = {"plans": plans, "network": network}
    parser.update({name: part for name, part in parts.items() if part is not None})
    if network is not None:
        parser.update({"calibration": calibration})  # not that of the weights, which are not read
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
    """Read a request and build it: :func:`read_request`, then :func:`build`.

    Args:
        bundle: Folder of the bundle; None searches for it.
        overlays: Further configs, in order; later keys replace earlier ones.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        network: Network for the inferer; None builds the config's own, with its weights.
        given: Keys of ``inference.yaml`` to set; None keeps the config's value.

    Raises:
        EspMedSamError: As :func:`read_request` and :func:`build`.
    """
    request = read_request(bundle, overlays, trust_config=trust_config, **given)
    return build(request, network=network)


def check_settings(settings: InferenceSettings) -> None:
    """Refuse invalid settings that can be found without building anything.

    Raises:
        OutputError: If the output folder is a file, or cannot be written to.
        WeightsNotFoundError: If the weights do not exist.
        DeviceError: If the device does not exist.
        OptionError: If the runtime cannot run here.
    """
    check_output_dir(settings.output_dir)
    check_weights(settings.ckpt_path)
    device_of(settings.device)
    check_asked(settings)
