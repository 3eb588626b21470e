"""``esp-medsam pacs``: segment series in a PACS and store the results there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from esp_medsam.cli import options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import option, path_option
from esp_medsam.cli.outcome import interrupted, signals_as_exit, tell_what_runs
from esp_medsam.cli.wording import option_line
from esp_medsam.errors import OptionError
from esp_medsam.memory import check_libraries_fit


if TYPE_CHECKING:  # these load torch and the extra, which would slow down --help
    from esp_medsam.integrations.dicomweb.client import Pacs
    from esp_medsam.integrations.dicomweb.outcome import PacsResult
    from esp_medsam.integrations.dicomweb.spool import Spool
    from esp_medsam.workflows.request import Request
    from esp_medsam.workflows.results import Tally
    from esp_medsam.workflows.segment import SegmentRun


def pacs(
    *,
    url: Annotated[
        str, option("--url", "DICOMweb base URL, such as https://pacs.example/dicom-web.")
    ],
    study: Annotated[
        str | None, option("--study", "Study Instance UID of the study to segment.")
    ] = None,
    series: Annotated[
        str | None,
        option("--series", "Take only the series of --study with this Series Instance UID."),
    ] = None,
    query: Annotated[
        str | None,
        option(
            "--query",
            "DICOMweb query for studies, such as 'ModalitiesInStudy=CT&StudyDate=20260101-'.",
        ),
    ] = None,
    resend: Annotated[bool, option("--resend", "Only send what is waiting in the spool.")] = False,
    modality: Annotated[
        str | None,
        option("--modality", "Modality of the images; `esp-medsam modalities` lists them."),
    ] = None,
    force_modality: options.ForceModality = False,
    join: options.JoinWithinSeries = None,
    targets: options.Targets = None,
    ct_input: options.CtInput = None,
    seg_type: options.SegType = None,
    write_empty: options.WriteEmpty = False,
    device: options.Device = None,
    config: options.Config = None,
    trust_config: options.TrustConfig = False,
    ckpt_path: options.CkptPath = None,
    bundle: options.Bundle = None,
    spool: Annotated[
        Path | None,
        path_option(
            "--spool",
            "Folder that keeps results until the PACS has stored them; default: "
            "~/.local/state/esp-medsam/pacs.",
            metavar="FOLDER",
        ),
    ] = None,
    spooled_for: Annotated[
        str | None, option("--spooled_for", "With --resend: the URL the results were spooled for.")
    ] = None,
    password_file: Annotated[
        Path | None,
        path_option(
            "--password_file",
            "File with the password; default: $ESP_MEDSAM_PACS_PASSWORD. "
            "The user is ESP_MEDSAM_PACS_USER.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        path_option("--token_file", "File with a bearer token; default: $ESP_MEDSAM_PACS_TOKEN."),
    ] = None,
    client_cert: Annotated[
        Path | None, path_option("--client_cert", "Client certificate, in PEM format.")
    ] = None,
    client_key: Annotated[
        Path | None,
        path_option("--client_key", "Private key of the client certificate, in PEM format."),
    ] = None,
    ca_bundle: Annotated[
        Path | None, path_option("--ca_bundle", "CA certificates to trust, in PEM format.")
    ] = None,
    allow_http: Annotated[
        bool, option("--allow_http", "Allow credentials to be sent over unencrypted HTTP.")
    ] = False,
    timeout: Annotated[
        float, option("--timeout", "Seconds to wait for a response.", min=1.0)
    ] = 60.0,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Segment series of a PACS over DICOMweb, and store the DICOM-SEG there.

    Results the PACS already has are not stored again; results it cannot take now wait in the spool.
    """
    del verbose  # handled by its callback
    _check_extra()
    from esp_medsam.integrations.dicomweb.access import read_access
    from esp_medsam.integrations.dicomweb.client import Pacs
    from esp_medsam.integrations.dicomweb.outcome import PacsResult
    from esp_medsam.integrations.dicomweb.run import PacsRun
    from esp_medsam.integrations.dicomweb.spool import Spool, default_spool
    from esp_medsam.integrations.dicomweb.work import work_folder
    from esp_medsam.workflows.left_alone import series_text
    from esp_medsam.workflows.request import read_request
    from esp_medsam.workflows.results import not_tried_text, summary

    filters = _checked(study, series, query, modality, resend=resend, spooled_for=spooled_for)
    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        modality=modality,
        force_modality=force_modality or None,
        join=join,
        targets=targets,
        ct_input=ct_input,
        seg_type=seg_type,
        write_empty=write_empty or None,
        device=device,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        output_format="dicom-seg",
        fixed_uids=True,  # a rerun makes the same object, and looks for it in the PACS
    )
    joined = request.settings.get("join") or ()
    if "series" in joined:
        msg = (
            "join must be frame_of_reference or interleaved here, because series are fetched one "
            "by one; got series. Fetch them yourself, and use segment."
        )
        raise OptionError(msg)
    tell_what_runs(request)
    access = read_access(
        url,
        password_file=password_file,
        token_file=token_file,
        client_cert=client_cert,
        client_key=client_key,
        ca_bundle=ca_bundle,
        allow_http=allow_http,
    )
    for warning in access.warnings:
        _tell(warning)
    server = Pacs(access, timeout=timeout)
    meant = server.url if spooled_for is None else read_access(spooled_for, environ={}).url
    waiting = Spool(spool or default_spool(), meant)
    # First delete the patient data that a killed run left behind.
    with _ended(), work_folder(waiting.work) as work:
        if resend:
            _resend(server, waiting)
            return
        studies, refused = ([study], 0) if study else server.find_studies(filters)
        if not studies and not refused:
            _tell("No study matches the query.")
        run = PacsRun(
            pacs=server,
            segmentation=_build(request, work),
            spool=waiting,
            work=work,
            modality=request.settings["modality"],
            force_modality=force_modality,
            join=joined,
        )
        results = _drive(run.results(studies, series, refused=refused), quiet=quiet)
        told = summary(
            results,
            PacsResult,
            not_tried=not_tried_text(run.not_tried),
            left_alone=series_text(run.left_alone),
        )
        print(f"{told}.")
        if count := len(waiting.entries()):
            more = f"{count} results for {waiting.url} wait in {waiting.root}"
            _tell(f"{more}; send them with --resend.")
    if results.failed:
        raise typer.Exit(1)


def _checked(
    study: str | None,
    series: str | None,
    query: str | None,
    modality: str | None,
    *,
    resend: bool,
    spooled_for: str | None,
) -> dict[str, str]:
    """Return the filters of the query; refuse options that do not go together.

    Raises:
        OptionError: If a UID or the query is invalid.
    """
    given = [name for name, value in (("study", study), ("query", query)) if value is not None]
    rules = {
        "--resend goes without --study, --series, --query and --modality": resend
        and bool(given or series or modality),
        "one of --study, --query and --resend must be given": not resend and len(given) != 1,
        "--modality must be given; see `esp-medsam modalities`": not resend and modality is None,
        "--series must come with --study": series is not None and study is None,
        "--spooled_for must come with --resend": spooled_for is not None and not resend,
    }
    for rule, broken in rules.items():
        if broken:
            raise typer.BadParameter(rule)
    from esp_medsam.integrations.dicomweb.query import checked_uid, read_query

    if study is not None:
        checked_uid(study, "study")
    if series is not None:
        checked_uid(series, "series")
    return {} if query is None else read_query(query)


def _check_extra() -> None:
    """Refuse to run without the extra, naming what to install.

    Raises:
        OptionError: If the extra is not installed.
    """
    for name in ("dicomweb_client", "filelock", "requests"):
        if find_spec(name) is None:
            msg = f"The package {name} is needed here; install esp-medsam[dicomweb]."
            raise OptionError(msg)


def _build(request: Request, work: Path) -> SegmentRun:
    """Build the pipeline once, without items, which are added series by series."""
    check_libraries_fit()
    from esp_medsam.workflows.pipeline import build
    from esp_medsam.workflows.plan import Plan, Plans

    folders = {"dataset_dir": str(work), "output_dir": str(work / "out")}
    settings = {**request.settings, **folders}
    return build(replace(request, settings=settings), plans=Plans(Plan(())))


@contextmanager
def _ended() -> Iterator[None]:
    """Turn Ctrl-C and terminating signals into SystemExit, so that patient data is removed."""
    try:
        with signals_as_exit():
            yield
    except KeyboardInterrupt:
        outlook = "what is stored stays, and the same command goes on"
        raise interrupted(outlook) from None


def _drive(results: Iterator[PacsResult], *, quiet: bool) -> Tally[PacsResult]:
    """Count all results, and report each one with its warnings as it arrives."""
    from esp_medsam.workflows.results import Tally

    done: Tally[PacsResult] = Tally()
    for result in results:
        done.add(result)
        if quiet and not result.has_failed:
            continue
        for warning in result.warnings:
            _tell(f"{result.path}: {warning}")
        _tell(result.line)
    return done


def _resend(server: Pacs, spool: Spool) -> None:
    """Send the waiting results, and report each."""
    from esp_medsam.integrations.dicomweb.outcome import PacsResult
    from esp_medsam.integrations.dicomweb.store import resend
    from esp_medsam.workflows.results import summary

    results = _drive(resend(server, spool), quiet=False)
    print(f"{summary(results, PacsResult)}.")
    for url, count in spool.of_others().items():
        if url != server.url:
            _tell(f"{count} results wait for {url}; --spooled_for sends them elsewhere.")
    if results.failed:
        raise typer.Exit(1)


def _tell(text: str) -> None:
    """Print a line for the user, apart from what the command prints for programs."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(option_line(text))
