"""The bundle as a zip with this package inside: it needs nothing but the package's requirements."""

from __future__ import annotations

import zipfile
from pathlib import Path

from esp_medsam.errors import OptionError, OutputExistsError
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_own_json
from esp_medsam.workflows.bundle import WEIGHTS, find_bundle, model_name


_PACKAGE = Path(__file__).parents[2]
"""Folder of this package."""

_LEFT_OUT = ("__pycache__", ".pyc")

_DATE = (1980, 1, 1, 0, 0, 0)
"""Time of each file in the zip, so that the same content is the same zip."""


def export_bundle(folder: Path, bundle: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the zip of a bundle, named for the model and its version, and return its path.

    Args:
        folder: Where to write it.
        bundle: Folder of the bundle; None searches for it.
        overwrite: Whether a zip that is there may be replaced.

    Raises:
        OptionError: If the bundle has no weights.
        OutputExistsError: If the zip exists and ``overwrite`` is not set.
        OutputError: If the zip cannot be written.
    """
    root = find_bundle(bundle)
    if not (root / WEIGHTS).is_file():
        msg = f"bundle must have weights to be exported; there are none at {root / WEIGHTS}."
        raise OptionError(msg)
    metadata = read_own_json(root / "configs" / "metadata.json")
    name = model_name(root)
    files = {
        path.relative_to(root): path
        for part in ("LICENSE", "configs", "docs", "models")
        for path in _files_in(root / part)
    }
    files |= {Path("esp_medsam", p.relative_to(_PACKAGE)): p for p in _files_in(_PACKAGE)}
    path = folder / f"{name}_v{metadata['version']}.zip"
    if path.exists() and not overwrite:
        msg = f"{path} must not exist; it does. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, source in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{place.as_posix()}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source.read_bytes())
    return path


def _files_in(path: Path) -> list[Path]:
    """Return a file, or the files of a folder that belong into a zip."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [each for each in found if each.is_file() and not str(each).endswith(_LEFT_OUT)]
