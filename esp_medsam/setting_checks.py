"""Base class of all settings: validated together, with all errors in one message.

Text is converted to values, because ``python -m monai.bundle run`` passes everything as text:
``false`` becomes false, ``maybe`` is refused.
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
    """A value that MONAI's parser must pass on unchanged.

    The parser runs plain text that begins with ``$``, looks it up after ``@``, and reads it as a
    file name after ``%``; but the name of a folder may begin with ``$``.
    """

    value: Any


class Settings(BaseModel):
    """Base class of the settings of a workflow: only known keys are allowed, and it is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {k: v.value if isinstance(v, Given) else v for k, v in values.items()}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the settings after checking all of them.

        Args:
            values: The settings, typed or as text.

        Raises:
            OptionError: If any setting is invalid; it names all of them. If only the modality, the
                targets or the device is wrong, a ModalityError, TargetError or DeviceError.
        """
        return _validated_settings(cls, values)

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return only the given settings, checked and typed.

        Args:
            values: The settings that a user gave.

        Raises:
            EspMedSamError: As for :meth:`of`.
        """
        settings = _validated_settings(_partial(cls), values)
        # Not `model_dump`, which would convert dataclasses among the transforms to dictionaries.
        return {name: getattr(settings, name) for name in settings.model_fields_set}


@cache
def _partial(kind: type[Settings]) -> type[Settings]:
    """Return the same settings class with every setting optional."""
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
    """Return the settings, or raise one error that names everything that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors(include_url=False):
            if not found["loc"]:  # a check of all settings together: our own error
                raise found["ctx"]["error"] from None
            name = str(found["loc"][0])
            value = _plain(values.get(name))
            if isinstance(value, list | tuple) and len({repr(part) for part in value}) == 1:
                value = value[0]  # one number that stands for several, such as a square's side
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
"""Pydantic's error types in our words; its words for other types are good as they are."""


def rule_of(found: ErrorDetails) -> str:
    """Return the rule that a value must follow, worded to come after its name."""
    theirs = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
    ours = _RULES.get(found["type"])  # pydantic's may quote what the user wrote
    rule = theirs if ours is None else ours.format_map(found.get("ctx", {}))
    place = found["loc"][1:2]
    return f"{rule} at index {place[0]}" if place and isinstance(place[0], int) else rule
