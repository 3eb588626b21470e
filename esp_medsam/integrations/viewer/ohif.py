"""OHIF's viewer: one release, as its authors publish it, checked and unpacked."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

from esp_medsam.cache_folder import cache_folder
from esp_medsam.errors import CorruptFileError, OptionError, not_found
from esp_medsam.io.atomic import output_error


VERSION = "3.13.2"
ADDRESS = f"https://registry.npmjs.org/@ohif/app/-/app-{VERSION}.tgz"
SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""Hash of the archive, as the registry states it."""

CONFIG = "app-config.js"

_PAGES = "package/dist/"
"""Folder of the pages in the archive."""

_MOST_BYTES = 2**30
"""Limit for what is unpacked; this release has 204 MB."""


def default_folder() -> Path:
    """Return the folder of the viewer."""
    return cache_folder() / f"ohif-{VERSION}"


def pages(folder: Path) -> Path:
    """Return the folder of the viewer's pages.

    Raises:
        OptionError: If the viewer was not installed.
    """
    if not (folder / CONFIG).is_file():
        msg = f"The viewer must be installed; {folder} does not hold it. Install it first: "
        raise OptionError(msg + "esp-medsam view --setup.")
    return folder


def install(folder: Path, archive: Path | None = None) -> None:
    """Install the viewer's pages into a folder.

    Args:
        folder: The folder; replaced if it exists.
        archive: The archive, where there is no network; None to download it.

    Raises:
        InputNotFoundError: If there is no such archive.
        OptionError: If it cannot be downloaded.
        CorruptFileError: If it is not the archive of this release.
        OutputError: If the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as new:
        file = archive or _downloaded(Path(new, "archive.tgz"))
        if not file.is_file():
            raise not_found(file, "file", argument="archive")
        if _hash_of(file) != SHA512:
            msg = f"archive must be that of OHIF {VERSION}, from {ADDRESS}; {file} is another."
            raise CorruptFileError(msg)
        unpacked = Path(new, "pages")
        try:
            with tarfile.open(file) as content:
                content.extractall(unpacked, members=_members(content), filter="data")
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
        except tarfile.TarError as error:
            msg = f"{file} must be a readable archive; got: {error}."
            raise CorruptFileError(msg) from error
        except OSError as error:
            raise output_error(folder, error) from error


def _downloaded(path: Path) -> Path:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=60) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except URLError as error:
        msg = (
            f"{ADDRESS} must be reachable; got: {error.reason}. Fetch the file elsewhere, and pass "
            "it as --archive."
        )
        raise OptionError(msg) from error
    except OSError as error:
        raise output_error(path, error) from error
    return path


def _hash_of(path: Path) -> str:
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _members(content: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files of the pages, with paths below their folder.

    Raises:
        CorruptFileError: If they are too large.
    """
    size = 0
    for member in content:
        if not member.isfile() or not member.name.startswith(_PAGES):
            continue
        size += member.size
        if size > _MOST_BYTES:
            msg = f"archive must hold at most {_MOST_BYTES // 2**20} MiB; it holds more."
            raise CorruptFileError(msg)
        member.name = member.name.removeprefix(_PAGES)
        yield member
