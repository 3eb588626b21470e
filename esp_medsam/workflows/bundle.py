"""Find the bundle: configs, modality table, weights."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from esp_medsam.errors import OptionError, OutputExistsError, WeightsNotFoundError, not_found


BUNDLE_VARIABLE = "ESP_MEDSAM_BUNDLE"
"""Environment variable that names the bundle's folder."""

CONFIG = Path("configs", "inference.yaml")
TRAIN_CONFIG = Path("configs", "train.yaml")
TABLE = Path("configs", "targets.yaml")
WEIGHTS = Path("models", "model.pt")


def find_bundle(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the bundle.

    Looked for, in this order: what the user names, the environment variable ESP_MEDSAM_BUNDLE,
    the checkout of an editable install, what the wheel installed. What is named must be one;
    nothing else is taken in its place.

    Args:
        path: Folder that the user names; None goes on with the rest.

    Raises:
        InputNotFoundError: If what the user, or the variable, names does not exist.
        OptionError: If it is no bundle.
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
    """Return the bundle that a config belongs to when nothing names it.

    The current folder if it is a bundle, as MONAI's tools expect, else what is found.
    """
    return os.curdir if is_bundle(Path()) else str(find_bundle())


def is_bundle(path: Path) -> bool:
    """Whether a folder holds the bundle's configuration."""
    return (path / CONFIG).is_file() and (path / TABLE).is_file()


def check_free(
    folder: str | os.PathLike[str], weights: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """Refuse weights that are not there, a folder that is no bundle, and to replace its weights.

    Args:
        folder: Folder of a bundle.
        weights: File to be put into it.
        overwrite: Whether the bundle's own may be replaced.

    Raises:
        InputNotFoundError: If there is no such folder or file.
        OptionError: If the folder is no bundle, or the file is its own already.
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
    """Yield where a checkout, and where a wheel, keeps the bundle."""
    yield Path(__file__).resolve().parents[2] / "bundle"
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    for scheme in schemes:
        yield Path(sysconfig.get_path("data", scheme), "share", "esp_medsam", "bundle")
