"""Base class of all settings: validated together, with all errors in one message.

Text becomes what it says, as ``python -m monai.bundle run`` hands all of it over as text: ``false``
is false, ``maybe`` is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails

from esp_medsam.errors import (
    DeviceError,
    EspMedSamError,
    ModalityError,
    OptionError,
    TargetError,
    listed,
    quoted,
)


if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Given:
    """A value that MONAI's parser must hand on as it is.

    Plain text it would run where it begins with ``$``, look up where with ``@``, and read as the
    name of a file where with ``%``; and ``$`` may begin the name of a folder.
    """

    value: Any


class Settings(BaseModel):
    """Base of the settings of a workflow: no key but those named, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {k: v.value if isinstance(v, Given) else v for k, v in values.items()}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the settings, once all of them are what they must be.

        Args:
            values: The settings, typed or as text.

        Raises:
            OptionError: If any is not; it names all. Where only the modality, the targets or the
                device is wrong, a ModalityError, TargetError or DeviceError.
        """
        return _validated_settings(cls, values)

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the settings checked, typed, and without the others.

        Args:
            values: Those that a user gave.

        Raises:
            EspMedSamError: As of :meth:`of`.
        """
        settings = _validated_settings(_partial(cls), values)
        # Not `model_dump`, which would take dataclasses among the transforms apart.
        return {name: getattr(settings, name) for name in settings.model_fields_set}


@cache
def _partial(kind: type[Settings]) -> type[Settings]:
    """Return the same settings, none of which must be given."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        optional = copy(field)
        optional.default = None
        fields[name] = (field.annotation, optional)
    return create_model(kind.__name__, __base__=Settings, **fields)


_S = TypeVar("_S", bound=Settings)

_ERRORS: Mapping[str, type[EspMedSamError]] = {
    "modality": ModalityError,
    "targets": TargetError,
    "device": DeviceError,
}


def _validated_settings(kind: type[_S], values: Mapping[str, Any]) -> _S:
    """Return the settings, or raise one error that names all that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors(include_url=False):
            if not found["loc"]:  # of all of them together, once each is right: in our own words
                raise found["ctx"]["error"] from None
            name = str(found["loc"][0])
            value = _plain(values.get(name))
            if isinstance(value, list | tuple) and len({repr(part) for part in value}) == 1:
                value = value[0]  # one number that stands for several, as of a square
            if not isinstance(value, list | tuple) and "," not in str(value):
                found["loc"] = found["loc"][:1]  # the user wrote no list to point into
            problems.setdefault(name, f"{rule_of(found)}; got {quoted(value)}")
    told = [f"{name} {problem}" for name, problem in problems.items()]
    only = next(iter(problems)) if len(problems) == 1 else ""
    msg = f"{listed(told, '; ')}."
    raise _ERRORS.get(only, OptionError)(msg)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Given) else value


_RULES: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must hold at least {min_length}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "greater_than": "must be greater than {gt}",
    "missing": "must be given",
    "extra_forbidden": "must be left out, because there is no such setting",
}
"""Pydantic's kinds of error in our words; the others' are good as they are."""


def rule_of(found: ErrorDetails) -> str:
    """Return what a value must be, to go behind its name."""
    theirs = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
    ours = _RULES.get(found["type"])  # theirs may quote what the user wrote
    rule = theirs if ours is None else ours.format_map(found.get("ctx", {}))
    place = found["loc"][1:2]
    return f"{rule} at index {place[0]}" if place and isinstance(place[0], int) else rule
