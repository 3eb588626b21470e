"""Plan a run: validated settings, and what it takes."""

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
    """Whether a request's settings are all that is asked for, so that nothing need be built.

    It is not where another config runs, which may do anything, and where transforms are to be made.
    """
    own = (request.root / CONFIG,)
    return request.configs == own and not request.runs and not request.settings.get("transforms")


def plain_settings(request: Request) -> dict[str, Any]:
    """Return the settings of a plain request: as given, else as ``inference.yaml`` has them.

    Without a modality it is the list of all names, as there. Other keys whose value is an
    expression, such as paths in the bundle, are left out where they were not given.

    Raises:
        EspMedSamError: If one is not what it must be.
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
        None where the request is not plain: then its config says what the items are.

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
        table=request.table,
        modality=settings["modality"],
        force_modality=settings["force_modality"],
        series=settings["series"],
        join=settings["join"],
        names=settings["names"],
    )
