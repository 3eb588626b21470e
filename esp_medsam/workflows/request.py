"""A validated request to the pipeline, before heavy imports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.errors import OptionError, not_found
from esp_medsam.modality import ModalityTable
from esp_medsam.plain_data import MOST_BYTES
from esp_medsam.regular_file import open_regular
from esp_medsam.settings import given_settings, mask_rules
from esp_medsam.workflows.bundle import CONFIG, TABLE, find_bundle, installed_bundles
from esp_medsam.workflows.overlays import read_overlay, settings_of


OVERLAY = "delightsam.yaml"
"""The bundle's own config that overlays ``inference.yaml``."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A user's request.

    Attributes:
        root: Folder of the bundle.
        table: Available modalities, with the rules for masks that the settings give.
        configs: Files that MONAI builds from, and so may run, in order.
        settings: Keys of ``inference.yaml`` and their values, typed; transforms are plain data.
        runs: What foreign configs among ``configs`` run, one line each; empty without trust.
    """

    root: Path
    table: ModalityTable
    configs: tuple[Path, ...]
    settings: Mapping[str, Any]
    runs: tuple[str, ...] = ()


def read_request(
    bundle: str | os.PathLike[str] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    *,
    trust_config: bool = False,
    **given: Any,
) -> Request:
    """Return the validated request.

    Values from users remain data, whatever they begin with. Overlays, which hold settings and
    transforms, remain data too unless they are trusted or the bundle's own (``delightsam.yaml``).

    Args:
        bundle: Folder of the bundle; None searches for it.
        overlays: Further configs, in order; each one's keys replace earlier ones.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        given: Keys of ``inference.yaml`` to set last; None keeps the config's own value.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        EspMedSamError: If a setting is invalid.
    """
    root = find_bundle(bundle)
    table = ModalityTable.read(root / TABLE)
    layers = read_layers(
        root / CONFIG,
        overlays,
        own=(OVERLAY,),
        trust_config=trust_config,
        is_code=lambda content, path: _is_code(content, path, table),
        settings_of=lambda content, path: settings_of(content, path, table),
    )
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = given_settings(layers.settings | chosen, table)
    return Request(
        root=root,
        table=table.with_masks(**mask_rules(settings)),
        configs=layers.configs,
        settings=settings,
        runs=layers.runs,
    )


class Layers(NamedTuple):
    """A bundle's config and its overlays.

    Attributes:
        configs: Files that MONAI builds from, and so may run, in order.
        settings: What the other files set.
        runs: What foreign configs among ``configs`` run, one line each.
    """

    configs: tuple[Path, ...]
    settings: dict[str, Any]
    runs: tuple[str, ...]


def read_layers(
    config: Path,
    overlays: Sequence[str | os.PathLike[str]],
    *,
    own: Sequence[str],
    trust_config: bool,
    settings_of: Callable[[Mapping[str, Any], Path], dict[str, Any]],
    is_code: Callable[[Mapping[str, Any], Path], bool] | None = None,
) -> Layers:
    """Return a bundle's config and overlays, separated into what may run and what is data.

    Args:
        config: The bundle's config.
        overlays: Further configs, in order; each one's keys replace earlier ones.
        own: Names of the bundle's own overlays, which may run.
        trust_config: Whether foreign configs may run.
        settings_of: Returns what an overlay sets, or refuses the overlay.
        is_code: Returns whether MONAI builds from a trusted overlay; None means it always does.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        EspMedSamError: If an overlay is invalid.
    """
    if "#" in str(config):
        msg = (
            "bundle must be in a folder without # in its path, because # has a meaning in "
            "configs; got "
        )
        raise OptionError(msg + f"{config.parent.parent}.")
    runs: list[str] = []
    if not is_installed(config):
        if not trust_config:
            msg = (
                f"bundle must have the {config.name} that is installed, because configs are "
                f"code; that of {config.parent.parent} differs. Pass `trust_config` if you "
                "trust whoever wrote it."
            )
            raise OptionError(msg)
        runs.append(f"{config}: all of it")
    configs, settings = [config], dict[str, Any]()
    own_paths = [(config.parent / name).resolve() for name in own]
    for name in overlays:
        path = overlay_path(name, config.parent)
        content = read_overlay(path)
        is_own = path.resolve() in own_paths and is_installed(path.resolve())
        if is_own or (trust_config and (is_code is None or is_code(content, path))):
            configs.append(path)
            runs += [] if is_own else [f"{path}: {line}" for line in code_in(content)]
            settings = {key: value for key, value in settings.items() if key not in content}
        else:
            settings |= settings_of(content, path)
    return Layers(tuple(configs), settings, tuple(runs))


def overlay_path(name: str | os.PathLike[str], own: Path) -> Path:
    """Return an overlay's path: the path as given, or that name beside the bundle's own config."""
    for candidate in (Path(name), own / name):
        if candidate.is_file():
            return candidate
    raise not_found(name, "file, or a config of the bundle", argument="config")


def is_installed(config: Path) -> bool:
    """Whether a bundle's config is byte for byte the one shipped with this package."""
    content = _content(config)
    return any(
        _content(root / CONFIG.parent / config.name) == content for root in installed_bundles()
    )


def _content(path: Path) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read(MOST_BYTES)
    except OSError:
        return None


def _is_code(content: Mapping[str, Any], path: Path, table: ModalityTable) -> bool:
    """Whether a config is more than settings, and so needs the trust that it was given."""
    try:
        settings_of(content, path, table)
    except OptionError:
        return True
    return False


def code_in(content: object, place: str = "") -> Iterator[str]:
    """Yield what MONAI runs from a config: expressions, classes and merged files."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            name = f"{place}.{key}" if place else str(key)
            if key == "_target_":
                yield f"{place} makes {value}"
            else:
                yield from code_in(value, name)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from code_in(value, f"{place}[{number}]")
    elif isinstance(content, str) and content[:1] in ("$", "%"):
        yield f"{place} runs {content}"
