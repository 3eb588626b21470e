"""The networks of bundles on devices, read when they are first asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esp_medsam.errors import TimeUpError, own_errors
from esp_medsam.image import Image
from esp_medsam.inferers.prompted import Box, Click, PromptedSlices
from esp_medsam.io.in_memory import Scratch
from esp_medsam.workflows.one_image import Segmented, prompt_one, read_parts, segment_one
from esp_medsam.workflows.request import read_request


MOST_READ = 8
"""Number of networks that are kept in memory; the one that was not asked for longest goes first."""


def time_limit(most_seconds: float) -> Callable[[int, int], None]:
    """Return a function of slices done and of all, which raises TimeUpError once time is up."""
    until = time.monotonic() + most_seconds

    def check(done: int, count: int) -> None:
        if time.monotonic() > until:
            msg = f"The segmentation must end within {most_seconds:g} s on this server; "
            raise TimeUpError(msg + f"then {done} of {count} slices were done.")

    return check


class Segmenters:
    """The networks of bundles on several devices; images are segmented one at a time.

    Args:
        device: The default device; None for CUDA if there is one, else the CPU.

    Attributes:
        devices: Devices that may be asked for, the default first.
    """

    def __init__(self, device: str | None = None) -> None:
        available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            available.append("mps")
        available.append("cpu")
        first = available[0] if device is None else "cuda:0" if device == "cuda" else device
        self.devices = list(dict.fromkeys([first, *available]))
        self._parts: dict[tuple[Path, str], dict[str, Any]] = {}
        self._prompted: tuple[tuple[object, ...], PromptedSlices] | None = None
        self._lock = threading.Lock()

    def segment(
        self,
        image: Path,
        *,
        bundle: Path,
        device: str | None = None,
        most_seconds: float,
        **settings: Any,
    ) -> Segmented:
        """Segment one image.

        Args:
            image: A file, or the folder of a DICOM series.
            bundle: Folder of the bundle, whose configs are trusted: they were checked when the app
                was prepared.
            device: One of :attr:`devices`; None for the default.
            most_seconds: Time that it may take, without the time that it waits for others.
            settings: Keys of ``inference.yaml``, with the modality.

        Raises:
            TimeUpError: If it takes longer.
            EspMedSamError: If the weights are not usable, a setting is invalid, or the image is
                refused.
        """
        name = self.devices[0] if device is None else device
        unsaved = Scratch()  # the pipeline requires a folder, but writes nothing yet
        own = {"dataset_dir": str(image), "output_dir": str(unsaved.path), "device": name}
        request = read_request(bundle, trust_config=True, **settings, **own)
        with self._lock, own_errors():
            parts = self._read(bundle, name)
            return segment_one(request, on_slices=time_limit(most_seconds), **parts)

    def prompted(
        self,
        image: Path,
        target: str,
        prompts: Sequence[Click | Box],
        *,
        bundle: Path,
        device: str | None = None,
        most_seconds: float,
        **settings: Any,
    ) -> tuple[Image, dict[int, Tensor]]:
        """Segment slices of an image by clicks and boxes.

        The slices of the last image stay encoded, until another one is asked for.

        Args:
            image: A file, or the folder of a DICOM series.
            target: Name of the target.
            prompts: Clicks and boxes.
            bundle: As for :meth:`segment`.
            device: As for :meth:`segment`.
            most_seconds: As for :meth:`segment`.
            settings: Keys of ``inference.yaml``, with the modality.

        Returns:
            The record of the image, and by the index of each slice that a prompt lies in, 255 times
            the probability, uint8 ``(rows, columns)``.

        Raises:
            TimeUpError: If it takes longer.
            EspMedSamError: If the weights are not usable, a setting is invalid, a prompt lies
                outside the image, or the image is refused.
        """
        name = self.devices[0] if device is None else device
        unsaved = Scratch()
        own = {"dataset_dir": str(image), "output_dir": str(unsaved.path), "device": name}
        request = read_request(bundle, trust_config=True, **settings, **own)
        with self._lock, own_errors():
            on_slices = time_limit(most_seconds)
            asked = (image, image.stat().st_mtime_ns, bundle, name, tuple(settings.items()))
            if self._prompted is None or self._prompted[0] != asked:
                self._prompted = None  # its memory first
                self._prompted = asked, prompt_one(request, self._read(bundle, name))
            slices = self._prompted[1]
            return slices.record, slices.segment(target, prompts, on_slices=on_slices)

    def _read(self, bundle: Path, device: str) -> dict[str, Any]:
        """Return the network of a bundle on a device, from before if it is among the last ones."""
        parts = self._parts.pop((bundle, device), None)
        if parts is None:
            parts = read_parts(read_request(bundle, trust_config=True, device=device))
            while len(self._parts) >= MOST_READ:
                del self._parts[next(iter(self._parts))]
        self._parts[bundle, device] = parts
        return parts
