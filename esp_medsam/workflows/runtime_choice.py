"""Choose what computes a network: what the user names, or what was fastest on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esp_medsam.cache_folder import cache_folder
from esp_medsam.errors import OptionError, OutputError, check_one_of
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.fusion import can_be_fused
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.plain_data import read_own_json
from esp_medsam.runtimes import RUNTIMES, Runtime, RuntimeNetwork, check_runtime
from esp_medsam.runtimes.kinds import EAGER, quick_runtimes
from esp_medsam.settings import InferenceSettings
from esp_medsam.version import __version__
from esp_medsam.workflows.engine_store import EngineStore


logger = logging.getLogger(__name__)

AUTO = "auto"

VARIABLE = "ESP_MEDSAM_RUNTIME"
"""Environment variable with the runtime that ``auto`` takes without measuring."""

WORTH_IT = 0.95
"""Share of PyTorch's time that a runtime must not exceed to be taken instead: noise is less."""

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one runtime.

    Attributes:
        name: Name of the runtime.
        version: Version of its library.
        seconds: Wall time of encoding one image; None if it cannot be used.
        ratio: The same, relative to PyTorch in turns with it.
        difference: Largest difference of a logit, relative to the largest one.
        dice: Least Dice of a target's mask.
        told: Why it cannot be used; empty if it can.
    """

    name: str
    version: str
    seconds: float | None = None
    ratio: float | None = None
    difference: float | None = None
    dice: float | None = None
    told: str = ""

    @property
    def text(self) -> str:
        """The measurement in words."""
        if self.ratio is None or self.seconds is None:
            return f"{self.name} {self.version} cannot be used: {self.told}"
        agrees = f", logits equal to {self.difference:.0e}" if self.difference else ""
        took = f"{self.seconds:.3f} s, {self.ratio:.2f} of PyTorch's time"
        return f"{self.name} {self.version}: {took}{agrees}"


@dataclass(frozen=True)
class Choice:
    """The runtimes that were measured on this machine.

    Attributes:
        measured: What was measured of each.
        unfinished: How often the time was too short for all of them.
    """

    measured: tuple[Measured, ...]
    unfinished: int = 0

    @property
    def name(self) -> str:
        """The fastest runtime; PyTorch unless another is clearly faster."""
        ratios = [(one.ratio, one.name) for one in self.measured if one.ratio is not None]
        ratio, name = min(ratios, default=(1.0, EAGER))
        return name if ratio <= WORTH_IT else EAGER


def for_inference(network: nn.Module, settings: InferenceSettings | None = None) -> nn.Module:
    """Return a network that computes the same in less time, if it is known how.

    Args:
        network: The network, in evaluation mode; it must not change any more.
        settings: The run's settings, which name the runtime; None takes PyTorch.

    Raises:
        OptionError: If the runtime cannot run here.
    """
    if not isinstance(network, ESPMedSAM) or not can_be_fused(network):
        return network
    name = EAGER if settings is None else settled_runtime(settings)
    if name == EAGER:
        return InferenceNetwork(network)
    return InferenceNetwork(
        network, partial(RuntimeNetwork, runtime=RUNTIMES[name], store=EngineStore)
    )


def check_asked(settings: InferenceSettings) -> None:
    """Refuse a runtime that cannot run here, before anything slow starts.

    Raises:
        OptionError: If it is named, and packages are missing or the device or the input size does
            not allow it.
    """
    name = asked_of(settings.runtime)
    if name in (AUTO, EAGER):
        return
    check_runtime(name, torch.device(settings.device).type)
    if settings.is_native:
        msg = f"runtime must be eager with input_size native, which has no one size; got {name}."
        raise OptionError(msg)
    if settings.amp:
        msg = f"runtime must be eager with amp, which is PyTorch's; got {name}."
        raise OptionError(msg)


def asked_of(runtime: str) -> str:
    """Return the runtime that a setting or the environment names, or auto.

    Raises:
        OptionError: If the environment's is unknown.
    """
    told = os.environ.get(VARIABLE) or AUTO
    if runtime != AUTO:
        return runtime
    check_one_of(VARIABLE, told, [AUTO, *RUNTIMES])
    return told


def settled_runtime(settings: InferenceSettings) -> str:
    """Return the runtime of a run; auto is what was measured on this machine, or else PyTorch."""
    name = asked_of(settings.runtime)
    if name != AUTO:
        check_asked(settings)
        return name
    choice = read_choice(situation_of(settings)) if candidates(settings) else None
    return EAGER if choice is None else choice.name


def candidates(settings: InferenceSettings) -> tuple[Runtime, ...]:
    """Return the runtimes that can be tried out in seconds instead of PyTorch."""
    if settings.is_native or settings.amp:  # what is measured is float32
        return ()
    return quick_runtimes(torch.device(settings.device).type)


def situation_of(settings: InferenceSettings) -> str:
    """Return text that identifies what a choice holds for: machine, versions, weights, input."""
    device = torch.device(settings.device)
    told = {
        "processor": _processor(device),
        "versions": {each.name: each.version for each in candidates(settings)},
        "torch": torch.__version__,
        "package": __version__,
        "weights": hash_of_weights(settings.ckpt_path),
        "input_size": list(settings.input_size),
    }
    return json.dumps(told, sort_keys=True, default=str)


def _processor(device: torch.device) -> object:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    tell: Any = getattr(torch.cpu, "get_capabilities", None)
    return [platform.machine(), platform.processor(), None if tell is None else tell()]


def _path_of(situation: str) -> Path:
    name = hashlib.sha256(situation.encode()).hexdigest()[:32]
    return cache_folder() / "runtimes" / f"{name}.json"


def read_choice(situation: str) -> Choice | None:
    """Return what was measured in a situation; None if nothing was, or the file is damaged."""
    try:
        content = read_own_json(_path_of(situation))
        if content["schema"] != SCHEMA or content["situation"] != situation:
            return None
        measured = tuple(Measured(**one) for one in content["measured"])
        return Choice(measured, int(content["unfinished"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        logger.info("%s is damaged and is made anew.", _path_of(situation))
        return None


def write_choice(situation: str, measured: Sequence[Measured], unfinished: int) -> Choice:
    """Keep what was measured in a situation, and return it; a full cache keeps nothing."""
    choice = Choice(tuple(measured), unfinished)
    content = {
        "schema": SCHEMA,
        "situation": situation,
        "measured": [asdict(one) for one in measured],
        "unfinished": unfinished,
    }
    try:
        with atomic_file(_path_of(situation)) as file:
            file.write(f"{json.dumps(content, indent=1)}\n".encode())
    except OutputError as error:
        logger.info("What was measured was not kept: %s", error)
    return choice
