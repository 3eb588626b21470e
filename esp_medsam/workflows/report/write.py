"""Write a report: one page with everything inside, or a folder of a page and its files."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from esp_medsam.errors import OptionError, OutputError, OutputExistsError
from esp_medsam.io.atomic import atomic_file, is_ours, output_error, remove_file
from esp_medsam.io.report_files import GENERATOR, THUMBNAIL
from esp_medsam.workflows.report.case import Case
from esp_medsam.workflows.report.gather import Gathered
from esp_medsam.workflows.report.page import Page
from esp_medsam.workflows.report.thumbnails import (
    FILE_BYTES,
    FILE_SIDE,
    bytes_each,
    file_name,
    made_at_once,
    thumbnail,
)


MOST_IN_A_PAGE = 2000
"""Most items of a single page; a report of more is a folder."""

PAGE, FOLDER, INDEX, THUMBNAILS = "report.html", "report", "index.html", "thumbnails"
"""Names of a page, of a folder with a page, of the page in it, and of the folder of pictures."""

_DATA = re.compile(r"data-[0-9a-f]{16}\.js")

Tracked = Callable[[Iterable[Any], int], Iterable[Any]]
"""Goes through a number of steps that take their time, and shows progress."""


def untracked(steps: Iterable[Any], total: int) -> Iterable[Any]:
    """Show no progress."""
    del total
    return steps


def check_place(outputs: Sequence[Path], output: Path | None, *, as_folder: bool) -> None:
    """Refuse a place where a report cannot go, before anything is read.

    Arguments are those of :func:`write_report`.

    Raises:
        OptionError: If a page is named and a folder is wanted.
        OutputExistsError: If something else is in its place.
    """
    if output is None:
        places = [outputs[0] / FOLDER] if as_folder else [outputs[0] / PAGE]
    else:
        places = [output]
        if as_folder and _is_page(output):
            msg = f"output must be a folder with `folder`; got {output}."
            raise OptionError(msg)
    for place in places:
        _refuse_others(place)


def write_report(
    found: Gathered,
    outputs: Sequence[Path],
    output: Path | None = None,
    *,
    as_folder: bool = False,
    tracked: Tracked = untracked,
) -> Path:
    """Write a report and return the path of its page.

    Args:
        found: The items.
        outputs: The folders of results; the report goes to the first unless ``output`` is given.
        output: A page, which ends in ``.html``, or a folder.
        as_folder: Whether it is a folder although its items fit into a page.
        tracked: Shows the progress of the pictures.

    Raises:
        OptionError: If a page is named, and a folder is wanted or needed.
        OutputExistsError: If something else is in its place.
        OutputError: If it cannot be written.
    """
    is_large = len(found.cases) > MOST_IN_A_PAGE
    if output is None:
        output = outputs[0] / (FOLDER if as_folder or is_large else PAGE)
    elif _is_page(output) and is_large:
        msg = (
            f"output must be a folder for more than {MOST_IN_A_PAGE:,} items; got {output} for "
            f"{len(found.cases):,}."
        )
        raise OptionError(msg)
    check_place(outputs, output, as_folder=as_folder)
    try:
        return (_write_page if _is_page(output) else _write_folder)(found, output, tracked)
    except OutputError as error:
        if type(error) is not OutputError:
            raise
        msg = f"{error} Choose another place with `output`."
        raise OutputError(msg) from error


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _refuse_others(place: Path) -> None:
    """Refuse to write over what is no report.

    Raises:
        OutputExistsError: If something else is there.
    """
    index = place if _is_page(place) else place / INDEX
    if os.path.lexists(index):
        is_other = index.is_symlink() or not is_ours(index, GENERATOR)
    else:  # a folder that a run was ended at holds pictures alone
        is_other = os.path.lexists(place) and not _may_hold(place)
    if is_other:
        msg = f"{place} must not exist unless it is a report; it is something else. Move it away, "
        raise OutputExistsError(msg + "or choose another place with `output`.")


def _may_hold(folder: Path) -> bool:
    """Whether a folder is empty, or holds what a report that was not completed leaves."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return False
    return all(name == THUMBNAILS or _DATA.fullmatch(name) for name in names)


def _write_page(found: Gathered, path: Path, tracked: Tracked) -> Path:
    count = sum(case.preview is not None for case in found.cases)
    most = bytes_each(count)

    def made(preview: Path) -> str:
        picture = thumbnail(preview, most)
        return "" if picture is None else base64.b64encode(picture).decode()

    pictures = dict(tracked(_made(found.cases, made), count))
    inside = {place: f"data:image/jpeg;base64,{text}" for place, text in pictures.items() if text}
    with atomic_file(path) as file:
        file.write(Page(found, path.parent, inside).drawn())
    return path


def _write_folder(found: Gathered, folder: Path, tracked: Tracked) -> Path:
    """Write pictures, data, and the page last; then remove those of an earlier report."""

    def made(preview: Path) -> str:
        name = f"{THUMBNAILS}/{file_name(preview)}"
        if not is_ours(folder / name):
            picture = thumbnail(preview, FILE_BYTES, FILE_SIDE)
            if picture is None:
                return ""
            with atomic_file(folder / name, folder) as file:
                file.write(picture)
        return name

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    count = sum(case.preview is not None for case in found.cases)
    pictures = {place: name for place, name in tracked(_made(found.cases, made), count) if name}
    page = Page(found, folder, pictures)
    script = page.script()
    name = f"data-{hashlib.sha256(script).hexdigest()[:16]}.js"
    with atomic_file(folder / name, folder) as file:
        file.write(script)
    with atomic_file(folder / INDEX, folder) as file:
        file.write(page.drawn(name))
    for path in _leftovers(folder, {name, *pictures.values()}):
        remove_file(path, folder)
    return folder / INDEX


def _made(cases: Sequence[Case], make: Callable[[Path], str]) -> Iterator[tuple[int, str]]:
    """Yield the place of each item with a preview, and what a function makes of the preview."""
    held = [(place, case.preview) for place, case in enumerate(cases) if case.preview is not None]
    return zip((place for place, _ in held), made_at_once(make, [p for _, p in held]), strict=True)


def _leftovers(folder: Path, used: set[str]) -> Iterator[Path]:
    """Yield the files of an earlier report that this one does not use."""
    for path in sorted(folder.iterdir()):
        if _DATA.fullmatch(path.name) and path.name not in used:
            yield path
    for path in sorted(folder.glob(f"{THUMBNAILS}/??/*{THUMBNAIL}")):
        if path.relative_to(folder).as_posix() not in used and is_ours(path):
            yield path
