"""Datalists: images to train or score on, and the annotations of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from esp_medsam.errors import (
    OptionError,
    TargetError,
    listed,
    not_found,
    quoted,
)
from esp_medsam.modality import ModalityTable
from esp_medsam.plain_data import read_json
from esp_medsam.setting_checks import rule_of
from esp_medsam.setting_types import CtInput, Number


MOST_BYTES, MOST_VALUES = 2**27, 2**21
"""Limits of a datalist; an image takes about 250 bytes and ten values."""

MOST_FAULTS = 100
"""Number of faults after which the rest of a datalist is not read."""

SECTIONS = ("training", "validation", "test")
"""Sections that the workflows read; users may add others."""


def _a_path(value: object) -> object:
    if isinstance(value, str) and ("\0" in value or (not value.isascii() and _is_torn(value))):
        msg = "must be a path in valid Unicode"
        raise ValueError(msg)
    return value


def _is_torn(text: str) -> bool:
    """Whether a text holds an unpaired surrogate, which no file name can contain."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


PathText = Annotated[str, Field(min_length=1), BeforeValidator(_a_path)]


class Fault(NamedTuple):
    """Fault at one place of a datalist.

    Attributes:
        place: Section, number from 0, and key, such as ``training[3]['labels']['liver']``.
        rule: What the value must be, and what it is.
    """

    place: str
    rule: str

    def __str__(self) -> str:
        """Return place and rule, in one line."""
        return f"{self.place} {self.rule}"


class _Part(BaseModel):
    """Base class of the parts of a datalist, which are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "must be a whole number"
        raise ValueError(msg)
    return value


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, int | str) else value


Value = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, lt=2**31)]
Values = Annotated[tuple[Value, ...], BeforeValidator(_in_a_list), Field(min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_in_a_list), Field(min_length=1)]


class Mask(_Part):
    """A mask file.

    Attributes:
        path: Path of the file.
        values: Pixel values of the mask, or numbers of DICOM segments or regions; without values
            and names, the mask is white in a picture, nonzero in a volume, and has the codes of its
            target in DICOM.
        names: Names of the DICOM segments or regions of the mask.
    """

    path: PathText
    values: Values | None = None
    names: Names | None = None

    @model_validator(mode="after")
    def _says_it_once(self) -> Mask:
        if self.values is not None and self.names is not None:
            msg = "must choose by values or by names, not by both"
            raise ValueError(msg)
        return self


def _masks(value: object) -> object:
    """Return one or more masks as a list; a plain path is a mask."""
    one_or_more = value if isinstance(value, list | tuple) else [value]
    return [{"path": one} if isinstance(one, str) else one for one in one_or_more]


Masks = Annotated[tuple[Mask, ...], BeforeValidator(_masks), Field(min_length=1)]


def _by_target(value: object) -> object:
    """Return labels by target; split one or more label maps into masks of their targets."""
    label_maps = [_label_map(one) for one in (value if isinstance(value, list) else [value])]
    if not label_maps or None in label_maps:
        if isinstance(value, Mapping):
            return value
        msg = "must be masks by target, or a label map: its path, with values or names by target"
        raise ValueError(msg)
    labels: dict[str, list[object]] = {}
    for path, key, meant in filter(None, label_maps):
        for target, its_own in meant.items():
            labels.setdefault(target, []).append({"path": path, key: its_own})
    return labels


def _label_map(value: object) -> tuple[object, str, Mapping[str, object]] | None:
    """Return a label map's path, the key ``values`` or ``names``, and its content by target.

    Targets may themselves be named ``path`` or ``values``, but their masks are not mappings.
    """
    for key in ("values", "names"):
        if isinstance(value, Mapping) and value.keys() == {"path", key}:
            meant = value[key]
            return (value["path"], key, meant) if isinstance(meant, Mapping) else None
    return None


class Item(_Part):
    """An image of a datalist, and its annotations; users may add other keys.

    Attributes:
        image: Path of the image or volume, or folder of a DICOM series.
        modality: Name of its modality.
        labels: Masks of each annotated target; several masks are united.
        absent: Targets that are known to be absent.
        unknown: Masks of unlabeled pixels, for all targets.
        dataset: Name of the set that the image comes from.
        patient: Identifier of the patient, in any form; images of a patient stay together.
        ct_input: Meaning of CT values, as in :func:`esp_medsam.io.read`.
        offset: Number to add to the values of a CT picture to get Hounsfield units.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    image: PathText
    modality: str
    labels: Annotated[dict[str, Masks], BeforeValidator(_by_target)]
    absent: tuple[str, ...] = ()
    unknown: Masks = ()
    dataset: str | None = None
    patient: str | None = None
    ct_input: CtInput | None = None
    offset: Number | None = None

    @field_validator("absent", mode="before")
    @classmethod
    def _none_is_none_absent(cls, value: object) -> object:
        return () if value is None else value

    @model_validator(mode="after")
    def _is_spelled_right(self) -> Item:
        missing = type(self).model_fields.keys() - self.model_fields_set
        for key in self.model_extra or ():
            if near := get_close_matches(key, missing, n=1, cutoff=0.85):
                msg = f"must only have known keys; got {quoted(key)}. Is it {near[0]}?"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _agrees(self) -> Item:
        both = sorted(set(self.labels) & set(self.absent))
        if both:
            msg = f"must not name a target in both labels and absent; got {', '.join(both)}"
            raise ValueError(msg)
        if self.offset is not None and (self.modality, self.ct_input) != ("ct", "hu"):
            msg = "must only have an offset with modality ct and ct_input hu"
            raise ValueError(msg)
        if any(0 in (mask.values or ()) for masks in self.labels.values() for mask in masks):
            msg = "must not have the value 0 in labels, where it is the background"
            raise ValueError(msg)
        return self

    @property
    def set_name(self) -> str:
        """Name of the set that the image comes from; by default, the name of its modality."""
        return self.modality if self.dataset is None else self.dataset

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the image and its masks."""
        return tuple(dict.fromkeys((self.image, *(mask.path for mask in self.masks))))

    @property
    def masks(self) -> tuple[Mask, ...]:
        """All masks, with those of unknown pixels last."""
        return tuple(mask for masks in (*self.labels.values(), self.unknown) for mask in masks)

    def located(self, folder: Path) -> Item:
        """Return the item with its paths resolved against its datalist's folder."""

        def placed(masks: Sequence[Mask]) -> tuple[Mask, ...]:
            return tuple(
                mask.model_copy(update={"path": str(folder / mask.path)}) for mask in masks
            )

        return self.model_copy(
            update={
                "image": str(folder / self.image),
                "labels": {name: placed(masks) for name, masks in self.labels.items()},
                "unknown": placed(self.unknown),
            }
        )


Tracked = Callable[[Sequence[Item]], Iterable[Item]]
"""Wrapper that yields items one by one, and shows progress."""


def read_datalist(path: str | Path, section: str) -> list[Item]:
    """Read one section of a datalist, a JSON file; see ``docs/reference/datalist.md``.

    Args:
        path: The JSON file.
        section: ``training``, ``validation`` or ``test``.

    Returns:
        The items, with their paths resolved against the file's folder.

    Raises:
        InputNotFoundError: If there is no such file.
        OptionError: If the file is not JSON or has no such section, or if items are invalid; the
            message names the first ones.
    """
    sections = read_sections(path)
    if section not in sections:
        held = listed([str(name) for name in sections]) or "none"
        msg = f"datalist must have a section {section!r}; {path} has {held}."
        raise OptionError(msg)
    items, faults = parse_items(sections[section], section, Path(path).parent)
    if faults:
        told = listed([str(fault) for fault in faults], "; ")
        msg = f"datalist must be valid (see docs/reference/datalist.md); in {path}, {told}."
        raise OptionError(msg)
    return list(items.values())


def read_sections(path: str | Path) -> dict[str, Any]:
    """Return the sections of a datalist, unparsed.

    Raises:
        InputNotFoundError: If there is no such file.
        OptionError: If the file is not JSON, or holds no sections.
    """
    try:
        datalist = read_json(Path(path), most_bytes=MOST_BYTES, most_values=MOST_VALUES)
    except FileNotFoundError as error:
        raise not_found(path, argument="datalist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"datalist must be a JSON file; {path} is not: {reason}."
        raise OptionError(msg) from error
    if not isinstance(datalist, dict):
        msg = f"datalist must hold an object of sections; {path} holds a {type(datalist).__name__}."
        raise OptionError(msg)
    return datalist


def parse_items(content: object, section: str, folder: Path) -> tuple[dict[int, Item], list[Fault]]:
    """Return the valid items of a section by their number, and the faults of the others.

    The rest is not read after :data:`MOST_FAULTS`.

    Args:
        content: The section.
        section: Its name.
        folder: Folder that relative paths start from.
    """
    if not isinstance(content, list):
        return {}, [Fault(section, f"must be a list of items; got {quoted(content)}")]
    items: dict[int, Item] = {}
    faults: list[Fault] = []
    for number, entry in enumerate(content):
        try:
            items[number] = Item.model_validate(entry).located(folder)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                key = "".join(f"[{part!r}]" for part in found["loc"])
                value = "" if found["type"] == "missing" else f"; got {quoted(found['input'])}"
                rule = rule_of({**found, "loc": ()})
                faults.append(Fault(f"{section}[{number}]{key}", f"{rule}{value}"))
            if len(faults) > MOST_FAULTS:
                break
    return items, faults


def named_twice(placed: Iterable[tuple[str, Item]]) -> Iterator[Fault]:
    """Yield a fault for each image that a datalist names more than once.

    Args:
        placed: Items of all sections, each with its place, such as ``training[3]``.
    """
    first: dict[str, str] = {}
    for place, item in placed:
        path = os.path.normpath(item.image)
        earlier = first.setdefault(path, place)
        if earlier != place:
            yield Fault(f"{place}['image']", f"must not be named twice; {path} is also {earlier}")


def check_targets(item: Item, table: ModalityTable) -> None:
    """Require an item's modality and targets to be in a table.

    Raises:
        ModalityError: If its modality is not in the table.
        TargetError: If a target in its labels or absent targets does not belong to its modality,
            or it names no target.
    """
    names = [target.name for target in table[item.modality].targets]
    named = {*item.labels, *item.absent}
    if not named or not named <= set(names):
        msg = (
            f"labels and absent of {item.image} must name targets of {item.modality}, "
            f"{', '.join(names)}; got {listed(sorted(named - set(names))) or 'none'}."
        )
        raise TargetError(msg)
