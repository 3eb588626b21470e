"""Find the bundle: configs, modality table, weights."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from esp_medsam.errors import OptionError, OutputExistsError, WeightsNotFoundError, not_found


BUNDLE_VARIABLE = "ESP_MEDSAM_BUNDLE"
"""Environment variable for the bundle's folder."""

CONFIG = Path("configs", "inference.yaml")
TRAIN_CONFIG = Path("configs", "train.yaml")
TABLE = Path("configs", "targets.yaml")
WEIGHTS = Path("models", "model.pt")


def find_bundle(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the bundle.

    Candidates, in this order: the folder that the user names, the environment variable
    ESP_MEDSAM_BUNDLE, the checkout of an editable install, the folder that the wheel installed.
    A named folder must be a bundle; there is no fallback for it.

    Args:
        path: Folder that the user names; None tries the other candidates.

    Raises:
        InputNotFoundError: If the folder that the user or the variable names does not exist.
        OptionError: If that folder is not a bundle.
        WeightsNotFoundError: If no bundle is found.
    """
    named = {"bundle": path, BUNDLE_VARIABLE: os.environ.get(BUNDLE_VARIABLE)}
    for source, value in named.items():
        if not value:
            continue
        if not Path(value).exists():
            raise not_found(value, "folder", argument=source)
        if not is_bundle(Path(value)):
            msg = f"{source} must be a folder that holds {CONFIG}; got {os.fspath(value)}."
            raise OptionError(msg)
        return Path(value).resolve()
    for candidate in installed_bundles():
        return candidate
    msg = "A bundle must be installed, or named with `bundle` or "
    raise WeightsNotFoundError(msg + f"{BUNDLE_VARIABLE}.")


def default_root() -> str:
    """Return the bundle that a config belongs to if none is named.

    It is the current folder if that is a bundle, as MONAI's tools expect, else the one found.
    """
    return os.curdir if is_bundle(Path()) else str(find_bundle())


def is_bundle(path: Path) -> bool:
    """Whether a folder holds a bundle's configuration."""
    return (path / CONFIG).is_file() and (path / TABLE).is_file()


def model_name(root: Path) -> str:
    """Return what the model of a bundle is called in names of files, and in files that name it."""
    name = re.sub(r"[^\w.-]", "_", root.resolve().name)
    return "esp_medsam" if name == "bundle" else name


def check_free(
    folder: str | os.PathLike[str], weights: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """Check that weights exist and can be put into a folder, which must be a bundle.

    Args:
        folder: Folder of a bundle.
        weights: File to put into the bundle.
        overwrite: Whether the bundle's weights may be replaced.

    Raises:
        InputNotFoundError: If the folder or the file does not exist.
        OptionError: If the folder is not a bundle, or the file is already its own.
        OutputExistsError: If the bundle has weights and ``overwrite`` is not set.
    """
    root, source = Path(folder), Path(weights)
    if not root.exists():
        raise not_found(root, "folder", argument="BUNDLE")
    if not is_bundle(root):
        msg = f"BUNDLE must be a folder that holds {CONFIG}; got {root}."
        raise OptionError(msg)
    if not source.is_file():
        raise not_found(source, argument="FILE")
    target = root / WEIGHTS
    if target.exists() and target.samefile(source):
        msg = f"FILE must not be the bundle's own weights; got {source}. "
        msg += "To pin those, call esp_medsam.workflows.weights.pin_weights."
        raise OptionError(msg)
    if os.path.lexists(target) and not overwrite:
        msg = f"BUNDLE must have no weights yet; {target} exists. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)


def installed_bundles() -> Iterator[Path]:
    """Yield the bundles that came with this package."""
    yield from filter(is_bundle, _installed_folders())


def _installed_folders() -> Iterator[Path]:
    """Yield the folders in which a checkout and a wheel keep the bundle."""
    yield Path(__file__).resolve().parents[2] / "bundle"
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    for scheme in schemes:
        yield Path(sysconfig.get_path("data", scheme), "share", "esp_medsam", "bundle")
