"""``esp-medsam view``: look at results in OHIF."""

from __future__ import annotations

import webbrowser
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from esp_medsam.cli.options import option, path_option
from esp_medsam.cli.outcome import signals_as_exit
from esp_medsam.errors import OptionError, OutputError, not_found, one_line


NOT_SHOWN = "OHIF cannot show these; `segment --preview` draws them."
"""What is said about segmentations of photographs, radiographs and cines."""


def view(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of DICOM images and their DICOM-SEG, or the DICOMweb URL of a PACS.",
        ),
    ] = None,
    *,
    port: Annotated[
        int, option("--port", "Port to listen on; 0: any that is free.", min=0, max=65535)
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the viewer in the browser.")
    ] = True,
    setup: Annotated[bool, option("--setup", "Install the viewer, and start nothing.")] = False,
    archive: Annotated[
        Path | None,
        path_option("--archive", "With --setup: the viewer's archive, instead of a download."),
    ] = None,
) -> None:
    """Show images and segmentations in OHIF, on this machine alone, until Ctrl-C.

    Folders are served by Orthanc, which must be installed; its database ends with the viewer.
    """
    for name in ("dicomweb_client", "requests"):
        if find_spec(name) is None:
            msg = f"The package {name} is needed here; install esp-medsam[dicomweb]."
            raise OptionError(msg)
    from esp_medsam.integrations.dicomweb.access import read_access
    from esp_medsam.integrations.viewer.ohif import default_folder, install, pages
    from esp_medsam.integrations.viewer.server import viewer_at
    from esp_medsam.integrations.viewer.store import dicom_files, serving

    if setup:
        install(default_folder(), archive)
        print(one_line(f"{default_folder()}: the viewer is installed."))
        return
    if not source:
        msg = "a source must be given, or --setup"
        raise typer.BadParameter(msg)
    folder = pages(default_folder())
    is_url = [each.startswith(("http://", "https://")) for each in source]
    if any(is_url) and len(source) > 1:
        msg = f"source must be folders, or one address; got {', '.join(source)}."
        raise OptionError(msg)
    for each in source if not any(is_url) else ():
        if not Path(each).exists():
            raise not_found(each, "file or folder", argument="source")
    with signals_as_exit(), ExitStack() as stack:
        if any(is_url):
            url = source[0]
        else:
            files, left_out = dicom_files(map(Path, source))
            if left_out:
                print(
                    f"Left out: {left_out} files that are damaged, or segment images without a "
                    f"position in space. {NOT_SHOWN}"
                )
            url = stack.enter_context(serving(files))
        try:
            address = stack.enter_context(viewer_at(folder, read_access(url), port))
        except OSError as error:
            msg = f"port must be free; {port} is not: {error.strerror}."
            raise OutputError(msg) from error
        print(f"The viewer is at {address} (Ctrl-C ends it).", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            Event().wait()
        except KeyboardInterrupt:
            return
