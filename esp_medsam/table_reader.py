"""Read a table of modalities from plain data, and report every problem with its key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from esp_medsam.errors import TableError, not_found, one_of, quoted
from esp_medsam.plain_data import read_yaml
from esp_medsam.targets import (
    IMAGE_ENCODERS,
    PROMPTS,
    RELEASED_INDICES,
    THRESHOLD,
    TIERS,
    CleanUp,
    Code,
    ImageEncoderName,
    Modality,
    Prompt,
    Target,
)


ALL = "all"
"""Stands for all targets of a modality; no target may have this name."""

Word = TypeVar("Word", bound=str)

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_RESERVED = """
add_module apply bfloat16 buffers call_super_init children clear compile copy cpu cuda double
dump_patches eval extra_repr float forward fromkeys get get_buffer get_extra_state get_parameter
get_submodule half ipu items keys load_state_dict modules mtia named_buffers named_children
named_modules named_parameters parameters pop popitem register_backward_hook register_buffer
register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule setdefault share_memory
state_dict to to_empty train training type update values xpu zero_grad
"""
RESERVED = frozenset(_RESERVED.split())
"""Names that torch reserves, which no part of a network can have."""


class TableRows(NamedTuple):
    """The content of a table; see :class:`~esp_medsam.modality.ModalityTable`."""

    modalities: tuple[Modality, ...]
    neutral_dicom_modalities: tuple[str, ...]
    presence: bool
    prompt: Prompt
    image_encoder: ImageEncoderName


def read_table(path: str | Path) -> Any:
    """Return the YAML content of a table without checking its rules.

    Raises:
        InputNotFoundError: If the file does not exist.
        TableError: If the file cannot be read, or is not YAML.
    """
    try:
        return read_yaml(Path(path))
    except FileNotFoundError as error:
        raise not_found(path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{path} must be a readable YAML table of modalities; got: {reason}."
        raise TableError(msg) from error


class TableReader:
    """A reader that turns plain data into a table and collects every problem on the way.

    Unreadable parts are left out or replaced so that reading continues; the result is valid only
    if ``problems`` stays empty.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(self, content: Any) -> TableRows:
        """Return the whole table."""
        optional = ("neutral_dicom_modalities", "presence", "prompt", "image_encoder")
        fields = self._fields(content, "table", ("modalities",), optional)
        named = self._named_fields(fields.get("modalities"), "modalities")
        modalities = tuple(self._modality(name, value) for name, value in named.items())
        neutral = self._strings(
            fields.get("neutral_dicom_modalities", []), "neutral_dicom_modalities"
        )
        self._unique({f"modalities.{m.name}.index": m.index for m in modalities})
        owners: dict[str, str] = {}
        lists = {f"modalities.{m.name}.dicom_modalities": m.dicom_modalities for m in modalities}
        for key, values in {**lists, "neutral_dicom_modalities": neutral}.items():
            for value in values:
                if value in owners:
                    self._problem(key, f"must differ from {owners[value]}; both are {value!r}")
                owners[value] = key
        presence = self._flag(fields.get("presence", False), "presence")
        prompt = self._one_of(PROMPTS, fields, "prompt")
        encoder = self._one_of(IMAGE_ENCODERS, fields, "image_encoder")
        return TableRows(modalities, neutral, presence, prompt, encoder)

    def _modality(self, name: str, content: Any) -> Modality:
        key = f"modalities.{name}"
        fields = self._fields(content, key, ("index", "targets"), ("dicom_modalities",))
        index = self._integer(fields.get("index", 0), f"{key}.index", 0, 2**31 - 1)
        fixed = RELEASED_INDICES.get(name)
        if fixed is not None and index != fixed:
            self._problem(f"{key}.index", f"must be {fixed}, as released; got {index}")
        if fixed is None and index in RELEASED_INDICES.values():
            self._problem(
                f"{key}.index", (f"must be at least 8, because 0 to 7 are taken; got {index}")
            )
        named = self._named_fields(fields.get("targets"), f"{key}.targets")
        targets = tuple(self._target(f"{key}.targets.{n}", n, v) for n, v in named.items())
        self._unique({f"{key}.targets.{t.name}.label": t.label for t in targets})
        dicom = self._strings(fields.get("dicom_modalities", []), f"{key}.dicom_modalities")
        return Modality(name, index, targets, dicom)

    def _target(self, key: str, name: str, content: Any) -> Target:
        required = ("label", "category", "type", "color")
        optional = ("anatomic_region", "clean_up", "tier", "least_ml", "adapter", "threshold")
        fields = self._fields(content, key, required, optional)
        if fields.get("tier", "ready") not in TIERS:
            self._problem(f"{key}.tier", f"{one_of(TIERS)}; got {quoted(fields['tier'])}")
        region = None
        if fields.get("anatomic_region") is not None:
            region = self._code(fields["anatomic_region"], f"{key}.anatomic_region")
        return Target(
            name=name,
            label=self._integer(fields.get("label", 1), f"{key}.label", 1, 255),
            category=self._code(fields.get("category"), f"{key}.category"),
            type=self._code(fields.get("type"), f"{key}.type"),
            color=self._color(fields.get("color"), f"{key}.color"),
            anatomic_region=region,
            clean_up=self._clean_up(fields.get("clean_up"), f"{key}.clean_up"),
            tier=str(fields.get("tier", "ready")),
            least_ml=self._size(fields.get("least_ml", 0), f"{key}.least_ml"),
            adapter=self._flag(fields.get("adapter", False), f"{key}.adapter"),
            threshold=self._threshold(fields.get("threshold", THRESHOLD), f"{key}.threshold"),
        )

    def _code(self, content: Any, key: str) -> Code:
        if content is None:
            return Code("", "", "")  # its absence was reported already
        fields = self._fields(content, key, ("value", "scheme", "meaning"), ())
        for field, longest in (("value", 16), ("scheme", 16), ("meaning", 64)):
            text = fields.get(field, "x")
            if not isinstance(text, str) or not 0 < len(text) <= longest:
                rule = f"must be a string of 1 to {longest} characters"
                self._problem(f"{key}.{field}", f"{rule}; got {quoted(text)}")
        return Code(*(str(fields.get(field, "")) for field in ("value", "scheme", "meaning")))

    def _color(self, content: Any, key: str) -> tuple[int, int, int]:
        if content is None:
            return (0, 0, 0)  # its absence was reported already
        if not isinstance(content, list) or len(content) != 3:
            self._problem(key, f"must be a list of red, green and blue; got {quoted(content)}")
            return (0, 0, 0)
        red, green, blue = (self._integer(value, key, 0, 255) for value in content)
        return (red, green, blue)

    def _clean_up(self, content: Any, key: str) -> CleanUp:
        if content is None:
            return CleanUp()
        known = ("largest_component", "min_size", "min_ml", "fill_holes")
        fields = self._fields(content, key, (), known)
        largest, holes = (
            self._flag(fields.get(field, False), f"{key}.{field}")
            for field in ("largest_component", "fill_holes")
        )
        return CleanUp(
            largest_component=largest,
            min_size=self._integer(fields.get("min_size", 0), f"{key}.min_size", 0, 2**31 - 1),
            fill_holes=holes,
            min_ml=self._size(fields.get("min_ml", 0), f"{key}.min_ml"),
        )

    def _one_of(self, valid: tuple[Word, ...], fields: Mapping[str, Any], key: str) -> Word:
        """Return the word in a field, or the first valid word if the field is missing."""
        for word in valid:
            if fields.get(key, valid[0]) == word:
                return word
        self._problem(key, f"{one_of(valid)}; got {quoted(fields[key])}")
        return valid[0]

    def _fields(
        self, content: Any, key: str, required: tuple[str, ...], optional: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the known fields of a mapping; report missing and unknown ones."""
        if not isinstance(content, dict):
            self._problem(key, f"must be a mapping; got {quoted(content)}")
            return {}
        missing = [field for field in required if content.get(field) is None]
        unknown = [str(field) for field in content if field not in required + optional]
        if missing:
            self._problem(key, f"must have {', '.join(missing)}")
        if unknown:
            known = ", ".join(required + optional)
            self._problem(key, f"must only have the keys {known}; got {', '.join(unknown)}")
        return {field: content[field] for field in required + optional if field in content}

    def _named_fields(self, content: Any, key: str) -> dict[str, Any]:
        """Return a mapping from valid names; report an empty one and invalid names."""
        if content is None:
            return {}  # its absence was reported already
        if not isinstance(content, dict) or not content:
            self._problem(key, f"must be a mapping with at least one name; got {quoted(content)}")
            return {}
        for name in content:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name == ALL:
                rule = (
                    "must have names of a-z, 0-9 and _ that begin with a letter, and none "
                    f"called {ALL}"
                )
                self._problem(key, f"{rule}; got {quoted(name)}")
            elif name in RESERVED:
                rule = f"must not use the name {name}, which torch reserves"
                self._problem(key, f"{rule}; take another, such as {name}_1")
        return {str(name): value for name, value in content.items()}

    def _strings(self, content: Any, key: str) -> tuple[str, ...]:
        if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
            self._problem(key, f"must be a list of strings; got {quoted(content)}")
            return ()
        return tuple(content)

    def _flag(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            self._problem(key, f"must be true or false; got {quoted(value)}")
        return value is True

    def _integer(self, value: Any, key: str, least: int, most: int) -> int:
        # In Python, bool is an int; in YAML, `label: yes` is True.
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._problem(key, f"must be an integer from {least} to {most}; got {quoted(value)}")
            return least
        return value

    def _size(self, value: Any, key: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 1e6:  # also refuses NaN and infinity
            self._problem(key, f"must be milliliters, at least 0; got {quoted(value)}")
            return 0.0
        return float(value)

    def _threshold(self, value: Any, key: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < 1:  # also refuses NaN
            self._problem(key, f"must be a probability above 0 and below 1; got {quoted(value)}")
            return THRESHOLD
        return float(value)

    def _unique(self, values: Mapping[str, int]) -> None:
        """Report every key whose value an earlier key already has."""
        owners: dict[int, str] = {}
        for key, value in values.items():
            if value in owners:
                self._problem(key, f"must differ from {owners[value]}; both are {value}")
            owners.setdefault(value, key)

    def _problem(self, key: str, text: str) -> None:
        self.problems.append(f"{key} {text}")
