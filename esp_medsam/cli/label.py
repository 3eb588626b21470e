"""``esp-medsam label``: serve annotation clients with MONAI Label."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli.options import Bundle, Device, TrustConfig, option, path_option
from esp_medsam.cli.outcome import signals_as_exit
from esp_medsam.errors import OptionError, not_found, one_line


def label(
    *,
    studies: Annotated[
        str | None,
        option("--studies", "Folder of images, or DICOMweb URL of a PACS.", metavar="STUDIES"),
    ] = None,
    modality: Annotated[
        list[str] | None,
        option("--modality", "Modality to serve (repeatable); default: all.", metavar="NAME"),
    ] = None,
    app: Annotated[
        Path,
        path_option(
            "--app", "Folder for the app: settings, logs, caches, trained weights.", "FOLDER"
        ),
    ] = Path("esp-medsam-label"),
    host: Annotated[
        str,
        option("--host", "Address to listen on; any but loopback needs a token."),
    ] = "127.0.0.1",
    port: Annotated[int, option("--port", "Port to listen on.", min=1, max=65535)] = 8000,
    device: Device = None,
    bundle: Bundle = None,
    trust_config: TrustConfig = False,
    most_mebibytes: Annotated[
        int, option("--most_mebibytes", "Limit for a request, in MiB.", min=1)
    ] = 2048,
    most_voxels: Annotated[int, option("--most_voxels", "Limit for an image.", min=1)] = 2**30,
    most_seconds: Annotated[
        int, option("--most_seconds", "Limit for the segmentation of an image.", min=1)
    ] = 600,
    clicks: Annotated[
        bool,
        option("--clicks", "Also offer models that segment by clicks; weights must follow them."),
    ] = False,
    verdicts: Annotated[
        Path | None,
        path_option(
            "--verdicts",
            "Verdicts of a report, .csv or .json: the strategy `failed` offers images first whose "
            "masks failed there.",
        ),
    ] = None,
    setup: Annotated[
        bool, option("--setup", "Create the server's environment, and start nothing.")
    ] = False,
    wheels: Annotated[
        Path | None,
        path_option("--wheels", "With --setup: folder of wheels to install offline.", "FOLDER"),
    ] = None,
    python: Annotated[
        Path | None,
        path_option("--python", "With --setup: Python 3.10 to 3.12; default: the one that runs."),
    ] = None,
    environment: Annotated[
        Path | None,
        path_option(
            "--environment",
            "Folder of the server's environment; default: ~/.cache/esp-medsam/monai-label.",
            "FOLDER",
        ),
    ] = None,
) -> None:
    """Start the server of MONAI Label, for annotation clients such as 3D Slicer.

    The server runs in an environment of its own, which --setup creates. If
    ESP_MEDSAM_LABEL_TOKEN is set, clients must send it as a bearer token.
    """
    from esp_medsam.integrations.monai_label.environment import default_environment, set_up

    where = default_environment() if environment is None else environment
    if setup:
        set_up(where, python=python, wheels=wheels)
        print(one_line(f"{where}: the server's environment is ready."))
        return
    if studies is None:
        msg = "--studies must be given, or --setup"
        raise typer.BadParameter(msg)
    from esp_medsam.integrations.monai_label.app_folder import prepare_app
    from esp_medsam.integrations.monai_label.environment import (
        server_command,
        server_environment,
        server_python,
    )
    from esp_medsam.integrations.monai_label.settings import (
        SETTINGS,
        TOKEN_VARIABLE,
        LabelSettings,
    )
    from esp_medsam.io.run_lock import alone_in
    from esp_medsam.modality import ModalityTable
    from esp_medsam.workflows.bundle import TABLE, find_bundle
    from esp_medsam.workflows.verdicts import read_verdicts

    marked = [] if verdicts is None else read_verdicts(verdicts)
    table = ModalityTable.read(find_bundle(bundle) / TABLE)
    for name in modality or ():
        table[name]  # refused if there is none
    if host not in ("127.0.0.1", "localhost", "::1") and not os.environ.get(TOKEN_VARIABLE):
        msg = f"host must be 127.0.0.1 without a token; got {host}. Set {TOKEN_VARIABLE}."
        raise OptionError(msg)
    if not studies.startswith(("http://", "https://")):
        if not Path(studies).is_dir():
            raise not_found(studies, "folder", argument="studies")
        studies = str(Path(studies).resolve())
    interpreter = server_python(where)
    settings = LabelSettings.of(
        modalities=tuple(modality or table.names),
        device=device,
        host=host,
        port=port,
        most_mebibytes=most_mebibytes,
        most_voxels=most_voxels,
        most_seconds=most_seconds,
        clicks=clicks,
    )
    folder = app.resolve()
    with ExitStack() as held:
        if is_old := (folder / SETTINGS).is_file():
            held.enter_context(alone_in(folder))  # before another server's files are replaced
        prepare_app(folder, settings, bundle, trust_config=trust_config, verdicts=marked)
        if not is_old:
            held.enter_context(alone_in(folder))
        print(
            f"Serving {', '.join(settings.modalities)} at http://{host}:{port}/ (Ctrl-C ends it)."
        )
        status = _served(server_command(interpreter, folder, studies), server_environment(folder))
    if status:
        raise typer.Exit(1)


def _served(command: list[str], environment: dict[str, str]) -> int:
    """Run the server until it ends, and return its status; 0 if Ctrl-C ended it."""
    with signals_as_exit(), subprocess.Popen(command, env=environment) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:  # of a terminal, which sends it to both, or for this one alone
            server.terminate()
            server.wait()
            return 0
        finally:
            server.terminate()
