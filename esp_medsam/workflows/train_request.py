"""What a user asks of a training: checked, and data, before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.modality import ModalityTable
from esp_medsam.settings import given_train_settings
from esp_medsam.workflows.bundle import TABLE, TRAIN_CONFIG, find_bundle
from esp_medsam.workflows.overlays import read_overlay, train_settings_of
from esp_medsam.workflows.request import Request, code_in, is_installed, located


OVERLAYS = ("multi_gpu_train.yaml",)
"""The bundle's own configs that go over ``train.yaml``."""


def read_training(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    *,
    trust_config: bool = False,
    **given: Any,
) -> Request:
    """Return what is asked of a training, once all of it is what it must be.

    Values of users stay data, whatever they begin with. So do overlays, which hold settings, unless
    they are the bundle's own, as those of the other stages are, or are trusted.

    Args:
        bundle: Folder of the bundle; None looks for it.
        overlays: Further configs, in order, whose keys replace those before.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        given: Keys of ``train.yaml`` to set last; None leaves the config's own value.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        InputNotFoundError: If there is no such datalist.
        EspMedSamError: If a setting is not what it must be.
    """
    root = find_bundle(bundle)
    config = root / TRAIN_CONFIG
    runs: list[str] = []
    if not is_installed(config):
        if not trust_config:
            msg = (
                f"bundle must have the installed {config.name}, because it is code; that of {root} "
                "differs. Pass --trust_config if you trust whoever wrote it."
            )
            raise OptionError(msg)
        runs.append(f"{config}: all that it says")
    configs, settings = [config], dict[str, Any]()
    for name in overlays:
        path = located(name, config.parent)
        content = read_overlay(path)
        real = path.resolve()
        is_own = real in [(config.parent / own).resolve() for own in OVERLAYS]
        is_own = is_own and is_installed(real)
        if is_own or trust_config:
            configs.append(path)
            runs += [] if is_own else [f"{path}: {line}" for line in code_in(content)]
            settings = {key: value for key, value in settings.items() if key not in content}
        else:
            settings |= train_settings_of(content, path)
    settings |= given_train_settings({k: v for k, v in given.items() if v is not None})
    _check_datalist(settings.get("datalist"))
    return Request(
        root=root,
        table=ModalityTable.read(root / TABLE),
        configs=tuple(configs),
        settings=settings,
        runs=tuple(runs),
    )


def _check_datalist(path: str | None) -> None:
    if path is not None and not Path(path).is_file():
        msg = f"datalist must be a JSON file; there is none at {path}."
        raise InputNotFoundError(msg)
