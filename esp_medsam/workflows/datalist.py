"""Datalists: which images are learned from or scored on, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from esp_medsam.errors import InputNotFoundError, OptionError, TargetError, listed, shown
from esp_medsam.image import Image
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.plain_data import read_json
from esp_medsam.settings import CtInput, rule_of


WHITE = 127
"""Values of a picture's mask above this are the target."""

GRID_TOLERANCE = 0.1
"""Part of a voxel's shortest side that a mask may lie off its image: headers round."""


MOST_BYTES, MOST_VALUES = 2**26, 2**20
"""Of a datalist at most; an image takes some 200 bytes and five values."""

_MOST_PROBLEMS = 100
"""Found in a datalist before the rest of it is left unread."""


def read_datalist(path: str | Path, section: str) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    A datalist is JSON: ``{"training": [...], "validation": [...], "test": [...]}``. An item is
    ``{"image": path, "modality": name, "dataset": name, "labels": {target: path or [paths]},
    "absent": [targets]}``, paths relative to the file. Of several masks of a target the union
    counts. A target under neither key is unknown there and counts in no loss. CT of eight bits,
    windowed by its source, adds ``"ct_input": "windowed"``; CT in Hounsfield units whose files do
    not say so ``"ct_input": "hu"``.

    Args:
        path: The JSON file.
        section: ``training``, ``validation`` or ``test``.
        table: Modalities and targets that there are; None where any may be.

    Returns:
        The items, with absolute paths.

    Raises:
        InputNotFoundError: If there is no such file.
        OptionError: If the file is not JSON, has no such section, or an item is not what it must
            be; it names the first of them.
    """
    path = Path(path)
    try:
        datalist = read_json(path, most_bytes=MOST_BYTES, most_values=MOST_VALUES)
    except FileNotFoundError as error:
        msg = f"datalist must be a JSON file; there is none at {path}."
        raise InputNotFoundError(msg) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"datalist must be a JSON file; in {path} got {reason}."
        raise OptionError(msg) from error
    if not isinstance(datalist, dict):
        msg = f"datalist must hold an object of sections; {path} holds a {type(datalist).__name__}."
        raise OptionError(msg)
    if section not in datalist:
        held = listed([str(name) for name in datalist]) or "none"
        msg = f"datalist must have a section {section!r}; {path} has {held}."
        raise OptionError(msg)
    return [_located(item, path.parent) for item in _items(datalist[section], section, path)]


def _items(content: object, section: str, path: Path) -> list[_Item]:
    """Return the items of a section, or raise one error that names what is wrong with them."""
    if not isinstance(content, list):
        msg = f"datalist must hold a list of items as {section}; {path} holds {shown(content)}."
        raise OptionError(msg)
    items, problems = [], []
    for number, entry in enumerate(content):
        try:
            items.append(_Item.model_validate(entry))
        except ValidationError as error:
            problems += [
                f"{section}[{number}]{''.join(f'[{part!r}]' for part in found['loc'])} "
                f"{rule_of(found)}"
                for found in error.errors(include_url=False)
            ]
            if len(problems) > _MOST_PROBLEMS:
                break
    if problems:
        told = listed(problems, "; ")
        msg = f"datalist must be as docs/reference/datalist.md says; in {path} {told}."
        raise OptionError(msg)
    return items


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Item(BaseModel):
    """What an item of a datalist must be; keys beside these are the user's own."""

    model_config = ConfigDict(extra="allow")

    image: Annotated[str, Field(min_length=1)]
    modality: str
    labels: dict[str, Annotated[list[str], BeforeValidator(_one_or_more)]]
    dataset: str | None = None
    absent: list[str] | None = None
    ct_input: CtInput | None = None


def _located(item: _Item, folder: Path) -> dict[str, Any]:
    """Return an item with paths that lie where its datalist does."""
    given = item.model_dump(exclude_unset=True)
    labels = {name: [str(folder / path) for path in paths] for name, paths in item.labels.items()}
    return {**given, "image": str(folder / item.image), "labels": labels}


def check_targets(item: Mapping[str, Any], table: ModalityTable) -> None:
    """Require that an item's modality, and what it says of targets, are in a table.

    Raises:
        ModalityError: If its modality is not.
        TargetError: If a target that it labels or calls absent is not one of its modality, or
            there is none.
    """
    names = [target.name for target in table[item["modality"]].targets]
    named = {*item["labels"], *item.get("absent", ())}
    if not named or not named <= set(names):
        msg = (
            f"labels and absent of {item['image']} must name targets of {item['modality']}, "
            f"{', '.join(names)}; got {listed(sorted(named - set(names))) or 'none'}."
        )
        raise TargetError(msg)


def read_mask(path: str, image: Image, table: ModalityTable) -> npt.NDArray[np.uint8]:
    """Return a mask file as uint8 0 or 1; a picture's mask is white, a volume's is not 0.

    Args:
        path: The mask.
        image: Record of its image; of a CT's mask no Hounsfield units are expected.
        table: Modalities at hand.

    Raises:
        OptionError: If it is not on its image's grid, or a picture of 0 and 1 in place of white.
    """
    mask = read(path, modality=image.modality, table=table, ct_input="windowed")
    assert mask.pixels is not None
    if mask.spatial_shape != image.spatial_shape:
        msg = f"labels must lie on their image's grid, {image.spatial_shape}; {path} is "
        msg += f"{mask.spatial_shape}."
        raise OptionError(msg)
    if mask.affine is not None and image.affine is not None:
        corners = np.array(list(product(*((0, side - 1) for side in mask.spatial_shape))))
        moved = np.abs(
            corners @ (mask.affine - image.affine)[:3, :3].T + (mask.affine - image.affine)[:3, 3]
        ).max()
        if moved > GRID_TOLERANCE * min(image.spacing or (1.0,)):
            msg = f"labels must lie where their image does; {path} lies {moved:.3g} mm off."
            raise OptionError(msg)
    least = 0 if mask.affine is not None else WHITE
    if 0 < mask.pixels.max() <= least:
        msg = f"labels that are pictures must be white where the target is; {path} reaches only "
        raise OptionError(msg + f"{mask.pixels.max()} of 255.")
    foreground: npt.NDArray[np.uint8] = (mask.pixels[0] > least).astype(np.uint8)
    return foreground
