"""Versions of the weights: the served bundle's, and those that training from clients made."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.errors import OptionError, one_of, quoted
from esp_medsam.identity import sha256_of
from esp_medsam.integrations.monai_label.settings import BUNDLE
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_own_json
from esp_medsam.workflows.bundle import TABLE, WEIGHTS


logger = logging.getLogger(__name__)

VERSIONS = "versions"
"""Name of the folder of versions in the app's folder."""

STATED = "version.json"
"""Name of what is stated about a version, in its folder."""

CURRENT, SHIPPED = "current", "shipped"
"""Names of the version that is served by default, and of the bundle's own weights."""


class Version(NamedTuple):
    """A version of the weights, which serves one modality.

    Attributes:
        name: Its number, or :data:`SHIPPED`.
        bundle: A bundle with these weights.
        stated: ``weights_sha256``, and what its training measured.
    """

    name: str
    bundle: Path
    stated: Mapping[str, Any]


class Versions:
    """The versions in an app's folder; one is there completely, or not at all.

    Args:
        app: The app's folder.
    """

    def __init__(self, app: Path) -> None:
        self.folder = app / VERSIONS
        self._base = sha256_of(app / BUNDLE / WEIGHTS)
        self.shipped = Version(SHIPPED, app / BUNDLE, {"weights_sha256": self._base})

    def all(self, modality: str) -> list[Version]:
        """Return the versions of a modality, the bundle's own first, the newest last.

        Those whose table of targets is another one than the bundle's are left out: their labels
        would mean something else.
        """
        table = (self.shipped.bundle / TABLE).read_bytes()
        paths = (self.folder / modality).glob(f"*/{STATED}")
        numbered = {int(path.parent.name): path for path in paths if path.parent.name.isdecimal()}
        versions = [self.shipped]
        for number in sorted(numbered):
            bundle = numbered[number].parent
            try:
                stated = read_own_json(numbered[number])
                is_usable = {"is_better", "base_sha256", "weights_sha256"} <= stated.keys()
                if is_usable and (bundle / TABLE).read_bytes() == table:
                    versions.append(Version(str(number), bundle, stated))
            except (OSError, ValueError):  # tampered with: the others serve all the same
                logger.warning("Version %d of %s is left out: it is damaged.", number, modality)
        return versions

    def current(self, modality: str) -> Version:
        """Return the version that is served by default.

        It is the newest that was better than the one that it was trained from, and goes back to
        the bundle's present weights; without one, the bundle's own.
        """
        serving = [
            version
            for version in self.all(modality)
            if version.name == SHIPPED
            or (version.stated["is_better"] and version.stated["base_sha256"] == self._base)
        ]
        return serving[-1]

    def named(self, modality: str, name: str = CURRENT) -> Version:
        """Return a version by its name.

        Raises:
            OptionError: If there is none.
        """
        if name == CURRENT:
            return self.current(modality)
        versions = {version.name: version for version in self.all(modality)}
        if name not in versions:
            msg = f"version {one_of([CURRENT, *versions])}; got {quoted(name)}."
            raise OptionError(msg)
        return versions[name]

    def add(self, modality: str, bundle: Path, stated: Mapping[str, Any]) -> Version:
        """Move a bundle in as the newest version.

        Args:
            modality: Modality that it was trained for.
            bundle: The bundle, on the same file system.
            stated: ``weights_sha256``, and what its training measured, with ``is_better``.
        """
        folder = self.folder / modality
        folder.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
        name = str(max(taken, default=0) + 1)
        told = {"version": name, **stated, "base_sha256": self._base}
        with atomic_file(bundle / STATED) as file:
            file.write((json.dumps(told, indent=1) + "\n").encode())
        return Version(name, Path(shutil.move(bundle, folder / name)), told)
