"""Examine an installation: what is there, what is missing, and whether it segments a picture."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import skimage
import torch
from packaging.requirements import Requirement

from esp_medsam.dicom.decoders import COMPRESSED, missing_decoders
from esp_medsam.errors import explain
from esp_medsam.inferers.precision import has_bfloat16_units
from esp_medsam.integrations.monai_label.environment import default_environment, python_of
from esp_medsam.integrations.viewer.ohif import default_folder
from esp_medsam.io.in_memory import Scratch
from esp_medsam.io.weights_record import check_hash, hash_of_weights, read_weights_record
from esp_medsam.memory import available_memory
from esp_medsam.modality import ModalityTable
from esp_medsam.version import __version__
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.one_image import read_parts, segment_one
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.runtime_choice import AUTO, VARIABLE, asked_of
from esp_medsam.workflows.runtime_trial import measured


PACKAGE = "esp_medsam"

EXTRAS = ("train", "report", "dicomweb", "onnx", "openvino", "ray", "teacher")
"""Extras that users may want; those for developers are left out."""

LEAST_MEMORY = 3
"""Free memory in GB that is called enough: a choice, twice what a CT volume of 300 slices should
take, plus the network's own."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was examined.

    Attributes:
        subject: What it is.
        status: ``ok``; ``missing``, of what can be done without; or ``wrong``.
        told: What was found.
        remedy: What to do about it; empty if it is fine.
    """

    subject: str
    status: Literal["ok", "missing", "wrong"] = "ok"
    told: str
    remedy: str = ""


def examine(bundle: Path | None = None, device: str | None = None) -> Iterator[Finding]:
    """Yield what was found, as it is found; the self-test, which takes longest, comes last.

    Args:
        bundle: Folder of the bundle; None searches for it.
        device: Device for the self-test; None for CUDA if there is one, else the CPU.
    """
    examinations: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "libraries": _libraries,
        "extras": _extras,
        "machine": _machine,
        "DICOM": _decoders,
        "label": _label_server,
        "view": _viewer,
        "weights": lambda: _weights(bundle),
        "runtimes": lambda: _runtimes(bundle, device),
        "self-test": lambda: _self_test(bundle, device),
    }
    for subject, found in examinations.items():
        try:
            yield from found()
        except Exception as error:
            told = explain(error) or f"{type(error).__name__}: {error}"
            yield Finding(subject=subject, status="wrong", told=told)


def _python() -> Iterator[Finding]:
    told = f"{platform.python_version()} on {platform.platform()}"
    is_known = (3, 10) <= sys.version_info[:2] <= (3, 13)
    if is_known:
        yield Finding(subject="python", told=told)
    else:
        remedy = "Use Python 3.10 to 3.13, with which the package is tested."
        yield Finding(subject="python", status="wrong", told=told, remedy=remedy)
    yield Finding(subject="package", told=f"{PACKAGE} {__version__}, {Path(__file__).parent}")


def _needed(extra: str = "") -> list[Requirement]:
    """Return what the package needs, without or for an extra."""
    stated = [Requirement(text) for text in requires(PACKAGE) or ()]
    if not extra:
        return [one for one in stated if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [
        one
        for one in stated
        if one.marker is not None
        and one.marker.evaluate({"extra": extra})
        and not one.marker.evaluate({"extra": ""})
    ]


def _unmet(requirement: Requirement) -> str:
    """Return how a requirement is not met; empty if it is."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} {found} is not {requirement.specifier}"


def _libraries() -> Iterator[Finding]:
    needed = _needed()
    unmet = [told for told in map(_unmet, needed) if told]
    if unmet:
        remedy = f"pip install --upgrade {PACKAGE}"
        yield Finding(subject="libraries", status="wrong", told="; ".join(unmet), remedy=remedy)
        return
    shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "monai", "numpy", "pydicom"))
    yield Finding(subject="libraries", told=f"all {len(needed)}, such as {shown}")


def _extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        unmet = [told for told in map(_unmet, _needed(extra)) if told]
        if unmet:
            yield Finding(
                subject=f"extra {extra}",
                status="missing",
                told="; ".join(unmet),
                remedy=f"pip install '{PACKAGE}[{extra}]'",
            )
        else:
            yield Finding(subject=f"extra {extra}", told="installed")


def _machine() -> Iterator[Finding]:
    devices = [
        f"cuda:{index} {torch.cuda.get_device_name(index)}"
        for index in range(torch.cuda.device_count())
    ]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    speed = "with" if has_bfloat16_units("cpu") else "without"
    devices.append(f"cpu, {torch.get_num_threads()} threads, {speed} units for bfloat16")
    yield Finding(subject="devices", told="; ".join(devices))
    memory = available_memory() / 1e9
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    told = f"{memory:.1f} GB of memory, {free:.0f} GB on the disk of this folder"
    if memory >= LEAST_MEMORY:
        yield Finding(subject="memory", told=told)
    else:
        remedy = "Close other programs: volumes that do not fit are refused."
        yield Finding(subject="memory", status="wrong", told=told, remedy=remedy)


def _decoders() -> Iterator[Finding]:
    if missing := missing_decoders():
        told = f"no decoder for {', '.join(missing)}"
        remedy = "pip install pylibjpeg pylibjpeg-openjpeg python-gdcm"
        yield Finding(subject="DICOM", status="wrong", told=told, remedy=remedy)
    else:
        yield Finding(subject="DICOM", told=f"decoders for {', '.join(COMPRESSED)}")


def _label_server() -> Iterator[Finding]:
    where = default_environment()
    if python_of(where).is_file():
        yield Finding(subject="label", told=f"server of MONAI Label in {where}")
        return
    remedy = "esp-medsam label --setup"
    yield Finding(subject="label", status="missing", told="no server of MONAI Label", remedy=remedy)


def _viewer() -> Iterator[Finding]:
    where = default_folder()
    if where.is_dir():
        yield Finding(subject="view", told=f"OHIF in {where}")
        return
    remedy = "esp-medsam view --setup"
    yield Finding(subject="view", status="missing", told="no viewer", remedy=remedy)


def _weights(bundle: Path | None) -> Iterator[Finding]:
    weights = find_bundle(bundle) / WEIGHTS
    record = read_weights_record(weights)
    told = f"{weights}, SHA-256 {hash_of_weights(weights)[:16]}"
    if record is None:
        remedy = "Check that they are the ones you mean: nothing states their hash."
        yield Finding(subject="weights", status="wrong", told=told, remedy=remedy)
        return
    check_hash(weights, record)
    yield Finding(subject="weights", told=f"{told}, as recorded")


def _runtimes(bundle: Path | None, device: str | None) -> Iterator[Finding]:
    """Say what computes the network fastest, which is measured now."""
    unsaved = Scratch()
    request = read_request(
        bundle, dataset_dir=str(unsaved.path), output_dir=str(unsaved.path), device=device
    )
    settings = read_config(request).get_parsed_content("settings")
    if (asked := asked_of(settings.runtime)) != AUTO:
        yield Finding(subject="runtimes", told=f"{VARIABLE} is {asked}, so nothing is measured")
        return
    choice = measured(request, settings, threads=torch.get_num_threads(), anew=True)
    if choice is None and not settings.device.startswith("cpu"):
        told = f"PyTorch; on {settings.device} no other runtime is tried out"
        yield Finding(subject="runtimes", told=told)
        return
    if choice is None:
        told = "PyTorch alone"
        remedy = f"pip install '{PACKAGE}[openvino]', which is faster on many processors"
        yield Finding(subject="runtimes", status="missing", told=told, remedy=remedy)
        return
    for one in choice.measured:
        status: Literal["ok", "missing"] = "missing" if one.ratio is None else "ok"
        yield Finding(subject="runtimes", status=status, told=one.text)
    yield Finding(subject="runtimes", told=f"auto is {choice.name}")


def _self_test(bundle: Path | None, device: str | None) -> Iterator[Finding]:
    """Segment the photograph of a retina that scikit-image ships, at a small size."""
    began = time.monotonic()
    source = Path(skimage.__path__[0]) / "data" / "retina.jpg"
    table = ModalityTable.read(find_bundle(bundle) / TABLE)
    if "fundus" not in table:
        told = "not tested, which is done with a fundus photograph; the bundle has no fundus"
        remedy = "Segment an image of your own."
        yield Finding(subject="self-test", status="missing", told=told, remedy=remedy)
        return
    unsaved = Scratch()  # the pipeline requires a folder, but nothing is written
    request = read_request(
        bundle,
        dataset_dir=str(source),
        output_dir=str(unsaved.path),
        modality="fundus",
        input_size=(224, 224),
        device=device,
    )
    labelmap = segment_one(request, **read_parts(request)).labelmap
    found = int((labelmap > 0).sum())
    where = f"of {labelmap.numel():,} pixels in {time.monotonic() - began:.0f} s"
    if found:
        told = f"{found:,} {where} are vessels, and the network computes what is recorded with it"
        yield Finding(subject="self-test", told=told)
        return
    told = f"0 {where} are vessels in a photograph of a retina"
    remedy = "These weights do not segment fundus photographs, or are not trained."
    yield Finding(subject="self-test", status="wrong", told=told, remedy=remedy)
