"""The network on each device, read when the device is first asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from esp_medsam.errors import TimeUpError, own_errors
from esp_medsam.io.in_memory import Scratch
from esp_medsam.workflows.one_image import Segmented, read_parts, segment_one
from esp_medsam.workflows.request import Request, read_request


class Segmenters:
    """The network of one bundle on several devices; images are segmented one at a time.

    Args:
        bundle: Folder of the bundle, whose configs are trusted: they were checked when the app was
            prepared.
        device: The default device; None for CUDA if there is one, else the CPU.

    Attributes:
        devices: Devices that may be asked for, the default first.
    """

    def __init__(self, bundle: Path, device: str | None = None) -> None:
        self.bundle = bundle
        available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            available.append("mps")
        available.append("cpu")
        first = available[0] if device is None else "cuda:0" if device == "cuda" else device
        self.devices = list(dict.fromkeys([first, *available]))
        self._parts: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def segment(
        self,
        image: Path,
        *,
        modality: str,
        device: str | None = None,
        targets: Sequence[str] | str | None = None,
        slice_axis: str | None = None,
        most_seconds: float,
    ) -> Segmented:
        """Segment one image.

        Args:
            image: A file, or the folder of a DICOM series.
            modality: Modality of the image.
            device: One of :attr:`devices`; None for the default.
            targets: Names of targets, or ``all``; None for those that are ready.
            slice_axis: Plane of the slices; None for the rule.
            most_seconds: Time that it may take, without the time that it waits for others.

        Raises:
            TimeUpError: If it takes longer.
            EspMedSamError: If the weights are not usable, or the image is refused.
        """
        name = self.devices[0] if device is None else device
        unsaved = Scratch()  # the pipeline requires a folder, but writes nothing yet
        request = self._request(
            name,
            dataset_dir=str(image),
            output_dir=str(unsaved.path),
            modality=modality,
            targets=targets,
            slice_axis=slice_axis,
        )
        with self._lock, own_errors():
            if name not in self._parts:
                self._parts[name] = read_parts(self._request(name))
            until = time.monotonic() + most_seconds

            def check_time(done: int, count: int) -> None:
                if time.monotonic() > until:
                    msg = f"The segmentation must end within {most_seconds:g} s on this server; "
                    raise TimeUpError(msg + f"then {done} of {count} slices were done.")

            return segment_one(request, on_slices=check_time, **self._parts[name])

    def _request(self, device: str, **given: Any) -> Request:
        return read_request(self.bundle, trust_config=True, device=device, **given)
