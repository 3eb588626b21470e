"""Settings of the app, which ``esp-medsam label`` writes and the server reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from esp_medsam.errors import OptionError
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_json
from esp_medsam.setting_checks import Settings


SETTINGS = "esp_medsam.json"
"""Name of the settings in the app's folder; a folder that holds it is an app's."""

BUNDLE = "bundle"
"""Name of the bundle in the app's folder."""

TEMPORARY = "tmp"
"""Name of the folder of uploads and results in the app's folder."""

TOKEN_VARIABLE = "ESP_MEDSAM_LABEL_TOKEN"
"""Environment variable with the token that clients must send."""

Count = Annotated[int, Field(ge=1)]


class LabelSettings(Settings):
    """Settings of the app.

    Attributes:
        modalities: Modalities that are served; each is a model to clients.
        device: Device to segment on; None for CUDA if there is one, else the CPU.
        host: Address that the server listens on.
        port: Port that it listens on.
        most_mebibytes: Limit for a request's body.
        most_voxels: Limit for an image.
        most_seconds: Limit for the segmentation of an image.
        clicks: Whether models that segment by clicks are offered.
    """

    modalities: tuple[str, ...]
    device: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    most_mebibytes: Count = 2048
    most_voxels: Count = 2**30
    most_seconds: Count = 600
    clicks: bool = False

    @classmethod
    def read(cls, app: Path) -> Self:
        """Read the settings in an app's folder.

        Raises:
            OptionError: If there are none, or they are damaged.
        """
        try:
            return cls.of(**read_json(app / SETTINGS))
        except (OSError, TypeError, ValueError) as error:
            msg = f"app must be a folder that `esp-medsam label` prepared; {app} is not: {error}."
            raise OptionError(msg) from error

    def write(self, app: Path) -> None:
        """Write the settings into an app's folder.

        Raises:
            OutputError: If they cannot be written.
        """
        with atomic_file(app / SETTINGS) as file:
            file.write((json.dumps(self.model_dump(), indent=1) + "\n").encode())
