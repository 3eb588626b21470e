"""Plan a run: its validated settings, and what it takes."""

from __future__ import annotations

from typing import Any

from esp_medsam.plain_data import read_yaml
from esp_medsam.settings import InferenceSettings, given_settings
from esp_medsam.workflows.bundle import CONFIG
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.overlays import is_expression
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.request import Request


def is_plain(request: Request) -> bool:
    """Whether a request consists only of settings, so that nothing needs to be built.

    A request is not plain if another config runs, which may do anything, or if it has transforms.
    """
    own = (request.root / CONFIG,)
    return request.configs == own and not request.runs and not request.settings.get("transforms")


def plain_settings(request: Request) -> dict[str, Any]:
    """Return the settings of a plain request: as given, otherwise as in ``inference.yaml``.

    Without a given modality, the value is the list of all names, as in that file. Other keys whose
    value is an expression, such as paths in the bundle, are left out unless they were given.

    Raises:
        EspMedSamError: If a setting is invalid.
    """
    content: dict[str, Any] = read_yaml(request.root / CONFIG)
    own = {
        key: value
        for key, value in content.items()
        if key in InferenceSettings.model_fields and not is_expression(value)
    }
    modality = {"modality": list(request.table.names)}
    return given_settings({**modality, **own, **request.settings}, request.table)


def plans_of(request: Request) -> Plans | None:
    """Return what a run takes, found before anything heavy is imported.

    Returns:
        The plans; None if the request is not plain, because then its config defines the items.

    Raises:
        EspMedSamError: As :func:`~esp_medsam.workflows.items.plan_parts`.
    """
    if not is_plain(request):
        return None
    settings = plain_settings(request)
    return plan_parts(
        settings["dataset_dir"],
        settings["output_dir"],
        settings["include"],
        settings["exclude"],
        part=settings["part"],
        table=request.table,
        modality=settings["modality"],
        force_modality=settings["force_modality"],
        series=settings["series"],
        join=settings["join"],
        names=settings["names"],
    )
