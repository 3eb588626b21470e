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
from esp_medsam.settings import given_settings
from esp_medsam.workflows.bundle import CONFIG, TABLE, find_bundle, installed_bundles
from esp_medsam.workflows.overlays import read_overlay, settings_of


OVERLAY = "delightsam.yaml"
"""The bundle's own config that goes over ``inference.yaml``."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for.

    Attributes:
        root: Folder of the bundle.
        table: Modalities at hand.
        configs: Files that MONAI is to build from, and so may run, in order.
        settings: Keys of ``inference.yaml`` and their values, typed; transforms are plain.
        runs: What foreign configs among ``configs`` run, a line each; none without trust.
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
    """Return what is asked for, once all of it is what it must be.

    Values of users stay data, whatever they begin with. So do overlays, which hold settings and
    transforms, unless they are the bundle's own, as ``delightsam.yaml`` is, or are trusted.

    Args:
        bundle: Folder of the bundle; None looks for it.
        overlays: Further configs, in order, whose keys replace those before.
        trust_config: Whether overlays, and the configs of a foreign bundle, may run code.
        given: Keys of ``inference.yaml`` to set last; None leaves the config's own value.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        EspMedSamError: If a setting is not what it must be.
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
    return Request(
        root=root,
        table=table,
        configs=layers.configs,
        settings=given_settings(layers.settings | chosen, table),
        runs=layers.runs,
    )


class Layers(NamedTuple):
    """A bundle's config and what goes over it.

    Attributes:
        configs: Files that MONAI is to build from, and so may run, in order.
        settings: What the others set.
        runs: What foreign configs among ``configs`` run, a line each.
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
    """Return a bundle's config and overlays, told apart into what may run and what is data.

    Args:
        config: The bundle's config.
        overlays: Further configs, in order, whose keys replace those before.
        own: Names of the bundle's own configs that go over it and may run.
        trust_config: Whether foreign ones may run.
        settings_of: Returns what an overlay sets, or refuses it.
        is_code: Whether an overlay, where it is trusted, is to be built from; None says yes of all.

    Raises:
        OptionError: If the bundle's or an overlay's config could run code and is not trusted.
        EspMedSamError: If an overlay is not what it must be.
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
    """Return an overlay's path: as given, else of that name beside the bundle's own config."""
    for candidate in (Path(name), own / name):
        if candidate.is_file():
            return candidate
    raise not_found(name, "file, or a config of the bundle", argument="config")


def is_installed(config: Path) -> bool:
    """Whether a config of a bundle is, byte for byte, the one that came with this package."""
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
    """Yield what MONAI runs of a config: expressions, classes, files that are merged in."""
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
