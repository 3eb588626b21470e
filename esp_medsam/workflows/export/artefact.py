"""Export one modality's network to a file, check it, and say how to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from esp_medsam.errors import (
    EmptyInputError,
    ModalityError,
    OptionError,
    OutputExistsError,
    RuntimeCheckError,
    one_line,
)
from esp_medsam.identity import sha256_of
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.io.atomic import output_error
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes.export_formats import FORMATS, ExportFormat
from esp_medsam.runtimes.modality_graph import ModalityGraph
from esp_medsam.workflows.attempts import with_settings
from esp_medsam.workflows.bundle import model_name
from esp_medsam.workflows.export.agreement import Comparison, compared, inputs_of
from esp_medsam.workflows.export.readme import Shown, readme
from esp_medsam.workflows.export.triton import write_repository
from esp_medsam.workflows.pipeline import build
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.segment import SegmentRun


MOST_DIFFERENCE, LEAST_DICE = 1e-3, 0.999
"""How far a file may differ from PyTorch: probabilities, and the Dice of masks."""

README = "README.md"


class Exported(NamedTuple):
    """What was exported.

    Attributes:
        path: The file.
        agreement: How it agrees with PyTorch, in words.
    """

    path: Path
    agreement: str


def export_network(
    request: Request,
    folder: Path,
    to: str,
    *,
    has_images: bool,
    triton: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Export the network of a modality, with a page beside it.

    Args:
        request: The request; its modality is exported, for its input size, and its images are
            compared.
        folder: Where to write; the file and its page get a folder of their own there.
        to: Name of the format.
        has_images: Whether the request has images; without, a drawn picture is compared.
        triton: Whether to write a model repository for Triton as well.
        overwrite: Whether files that are there may be replaced.

    Raises:
        OptionError: If the format's packages are missing, it has no backend in Triton, or inputs
            have no one size.
        ModalityError: If the modality is not given.
        OutputExistsError: If the file exists and ``overwrite`` is not set.
        RuntimeCheckError: If the file does not compute what the network does.
        EmptyInputError: If the images to be compared are all refused.
        OutputError: If the folder cannot be written to.
    """
    kind = FORMATS[to]
    kind.check()
    if triton and kind.triton is None:
        msg = f"triton must be left out with `to` {to}, which Triton does not serve."
        raise OptionError(msg)
    modality = request.settings.get("modality")
    if not isinstance(modality, str):
        msg = "modality must be given: a file has the network of one."
        raise ModalityError(msg)
    run, graph, size = _graph_of(request, modality, has_images=has_images)
    name = f"{model_name(request.root)}_{modality}_{size[0]}x{size[1]}"
    place = folder / f"{name}_{to}"
    path = place / f"{name}{kind.suffix}"
    if place.exists() and not overwrite:
        msg = f"{place} must not exist; it does. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
            made = Path(temporary, place.name)
            made.mkdir()
            draft = made / path.name
            _write(kind, graph, size, draft)
            told = _checked(kind, draft, graph, run if has_images else None, size)
            page = readme(
                file=path.name,
                kind=kind.name,
                modality=request.table[modality],
                size=size,
                shown=_shown(run, modality, request),
                has_presence=graph.network.presence is not None,
                weights=_weights_of(run),
                sha256=_hash_of(draft),
                agreement=told,
            )
            (made / README).write_text(page, encoding="utf-8")
            if triton:
                write_repository(made, name, draft, kind, size, _shapes_of(graph, size))
            if place.exists():
                place.rename(Path(temporary, "replaced"))
            made.rename(place)
    except OSError as error:
        raise output_error(path, error) from error
    return Exported(path, told)


def _graph_of(
    request: Request, modality: str, *, has_images: bool
) -> tuple[SegmentRun, ModalityGraph, tuple[int, int]]:
    """Return a run of the request's images, the graph of its network, and the input size."""
    plans = None if has_images else Plans(Plan(()))
    run = build(with_settings(request, runtime="eager", device="cpu"), plans=plans)
    inferer, network = run.inferer, run.network
    if not isinstance(network, InferenceNetwork) or not isinstance(inferer, SliceWiseInferer):
        msg = "config must leave network and inferer as they are, to be exported."
        raise OptionError(msg)
    if inferer.input_size is None:
        msg = "input_size must be a size, which the file has for good; got native."
        raise OptionError(msg)
    single = fuse(network.network, modality)
    graph = ModalityGraph(single, inferer.pixel_mean, inferer.pixel_std).eval()
    return run, graph, inferer.input_size


def _write(kind: ExportFormat, graph: ModalityGraph, size: tuple[int, int], path: Path) -> None:
    """Write a file.

    Raises:
        OptionError: If the format's packages cannot convert the network.
    """
    try:
        kind.write(graph, torch.zeros(1, 3, *size), path)
    except OSError:
        raise
    except Exception as error:  # each library has errors of its own
        told = one_line(f"{type(error).__name__}: {error}")
        msg = (
            f"to {kind.name} must be a format that the installed packages can convert the network "
        )
        msg += f"to; they cannot: {told}. Use another format, or other versions of them."
        raise OptionError(msg) from error


def _checked(
    kind: ExportFormat,
    path: Path,
    graph: ModalityGraph,
    run: SegmentRun | None,
    size: tuple[int, int],
) -> str:
    """Return how a file agrees with the graph, in words; refuse one that does not.

    Raises:
        RuntimeCheckError: If it differs by more than rounding.
        EmptyInputError: If there is no image to compare.
        EspMedSamError: If an image cannot be read.
    """
    try:
        computed = kind.read(path)
        computed(torch.zeros(1, 3, *size).numpy())
    except Exception as error:  # each library has errors of its own
        return f"not measured, as this machine cannot run it: {one_line(str(error))}"
    found: Comparison = compared(graph, computed, inputs_of(run, graph, size), is_drawn=run is None)
    if not found.slices:
        msg = "images must hold an image that can be compared; all of them were refused."
        raise EmptyInputError(msg)
    if found.difference > MOST_DIFFERENCE or found.dice < LEAST_DICE:
        msg = f"The file must compute what PyTorch does; {found.text}. Use another format."
        raise RuntimeCheckError(msg)
    return found.text


def _shown(run: SegmentRun, modality: str, request: Request) -> Shown:
    """Return how slices are prepared for the file."""
    inferer = run.inferer
    assert isinstance(inferer, SliceWiseInferer), "another was refused"
    is_own = modality in (inferer.transforms or {})
    window = request.settings.get("ct_input") if modality == "ct" else None
    return Shown(tuple(inferer.pixel_mean), inferer.resize, has_transforms=is_own, ct_input=window)


def _shapes_of(graph: ModalityGraph, size: tuple[int, int]) -> Sequence[tuple[str, Sequence[int]]]:
    with torch.no_grad():
        outputs = graph(torch.zeros(1, 3, *size))
    return [(n, list(o.shape)) for n, o in zip(graph.output_names, outputs, strict=True)]


def _weights_of(run: SegmentRun) -> str:
    weights = run.outputs.weights
    return "unknown" if weights is None else hash_of_weights(weights)


def _hash_of(path: Path) -> str:
    """Return the hash of a file; of a folder, that of its largest file."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sha256_of(max(files, key=lambda each: each.stat().st_size))
