"""The table of modalities and targets: immutable, read from the bundle's ``targets.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from esp_medsam.errors import ModalityError, TableError, TargetError, listed, shown
from esp_medsam.plain_data import read_yaml


RELEASED_INDICES: Mapping[str, int] = {
    "dermoscopy": 0,
    "xray": 1,
    "ultrasound": 2,
    "fundus": 3,
    "microscopy": 4,
    "endoscopy": 5,
    "ct": 6,
    "mri": 7,
}
"""Indices that weights already published depend on; users' own modalities begin after them."""

TIERS = ("ready", "experimental")
"""How far a target can be relied on. Only ready ones are segmented where none are named."""

ALL = "all"
"""In place of names of targets: every one of the modality."""

Prompt = Literal["hard", "straight_through", "soft"]
PROMPTS: tuple[Prompt, ...] = get_args(Prompt)
"""How the network makes a prompt of its patch logits."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Code:
    """A coded concept, as DICOM writes it.

    Attributes:
        value: Code value, a string of digits in SNOMED CT.
        scheme: Coding scheme designator, such as ``SCT``.
        meaning: Code meaning, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class CleanUp:
    """What is done to the mask of a target before it is written; nothing by default.

    Attributes:
        largest_component: Whether only the largest connected component is kept.
        min_size: Components below so many pixels or voxels are dropped.
        fill_holes: Whether enclosed background is filled.
    """

    largest_component: bool = False
    min_size: int = 0
    fill_holes: bool = False


@dataclass(frozen=True)
class Target:
    """What is segmented in a modality.

    Attributes:
        name: Its name, unique in the modality.
        label: Its value in labelmaps, 1 to 255.
        category: Segmented property category, CID 7150.
        type: Segmented property type, CID 7151.
        color: Red, green and blue, 0 to 255.
        anatomic_region: Where it lies; None where the type says it.
        clean_up: What is done to its mask.
        tier: One of :data:`TIERS`.
        least_ml: Volume below which a mask of it is hardly believed; 0 believes all.
        adapter: Whether the network has an adapter for it, which other targets never see.
    """

    name: str
    label: int
    category: Code
    type: Code
    color: tuple[int, int, int]
    anatomic_region: Code | None = None
    clean_up: CleanUp = CleanUp()
    tier: str = "ready"
    least_ml: float = 0.0
    adapter: bool = False

    @property
    def words(self) -> str:
        """Its name as people read it: ``Kidney tumor`` of ``kidney_tumor``."""
        return self.name.replace("_", " ").strip().capitalize()


@dataclass(frozen=True)
class Modality:
    """An imaging modality that the network distinguishes.

    Attributes:
        name: Its name.
        index: Its global, fixed index.
        targets: What can be segmented in it, in the order of the network's channels.
        dicom_modalities: Values of DICOM's Modality that mean it.
    """

    name: str
    index: int
    targets: tuple[Target, ...]
    dicom_modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModalityTable:
    """All modalities, in the order of the file.

    Attributes:
        modalities: The modalities.
        neutral_dicom_modalities: Values of DICOM's Modality that leave the modality open.
        presence: Whether the network says of each target if an image holds it.
        prompt: How the network makes a prompt of its patch logits, one of :data:`PROMPTS`.
    """

    modalities: tuple[Modality, ...]
    neutral_dicom_modalities: tuple[str, ...] = ()
    presence: bool = False
    prompt: Prompt = "hard"

    @classmethod
    def read(cls, path: str | Path) -> ModalityTable:
        """Return the table in the YAML file at ``path``.

        Raises:
            TableError: If the file cannot be read, or breaks a rule; every problem is named
                with its key.
        """
        return cls.of(read_table(path), str(path))

    @classmethod
    def of(cls, content: Any, source: str) -> ModalityTable:
        """Return the table that plain data holds.

        Args:
            content: What YAML holds.
            source: What messages shall call it, its file for one.

        Raises:
            TableError: If it breaks a rule; every problem is named with its key.
        """
        reader = _TableReader()
        table = reader.table(content)
        if reader.problems:
            msg = f"{source} must be a valid table of modalities; {listed(reader.problems, '; ')}."
            raise TableError(msg)
        return table

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def indices(self) -> dict[str, int]:
        """Index of each modality, by name."""
        return {modality.name: modality.index for modality in self.modalities}

    @property
    def target_names(self) -> dict[str, list[str]]:
        """Names of the targets of each modality, by name, in the order of the channels."""
        return {m.name: [target.name for target in m.targets] for m in self.modalities}

    @property
    def adapted(self) -> dict[str, list[str]]:
        """Names of the targets that have an adapter, by modality."""
        named = {m.name: [t.name for t in m.targets if t.adapter] for m in self.modalities}
        return {modality: names for modality, names in named.items() if names}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Modality:
        """Return the modality called ``name``, or that DICOM calls so: ``CT``, ``MR``, ``US``.

        Raises:
            ModalityError: If there is none.
        """
        for modality in self.modalities:
            if name == modality.name or name in modality.dicom_modalities:
                return modality
        msg = f"modality must be one of {', '.join(self.names)}; got {shown(name)}."
        raise ModalityError(msg)

    def select(self, modality: str, targets: Sequence[str] | None = None) -> tuple[Target, ...]:
        """Return the chosen targets of a modality, in table order.

        Args:
            modality: Name of the modality.
            targets: Names of the targets, in any order; one name alone may be given as a string;
                ``all`` chooses all, None those that are ready.

        Raises:
            ModalityError: If the modality is unknown.
            TargetError: If a target is unknown, given twice, or the choice is empty; if none is
                named and none is ready.
        """
        available = self[modality].targets
        if targets is None:
            return _ready(modality, available)
        chosen = [targets] if isinstance(targets, str) else list(targets)
        if chosen == [ALL]:
            return available
        valid = [target.name for target in available]
        unknown = [name for name in chosen if name not in valid]
        repeated = sorted({name for name in chosen if chosen.count(name) > 1})
        if not chosen or unknown or repeated:
            got = listed([shown(name) for name in unknown or repeated]) if chosen else "none"
            twice = " twice" if repeated and not unknown else ""
            msg = (
                f"targets of {modality} must be chosen from {', '.join(valid)}, each once; "
                f"got {got}{twice}."
            )
            raise TargetError(msg)
        return tuple(target for target in available if target.name in chosen)

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain lists and dictionaries, for ``json.dumps``."""
        return {
            "modalities": [asdict(modality) for modality in self.modalities],
            "neutral_dicom_modalities": list(self.neutral_dicom_modalities),
            "presence": self.presence,
            "prompt": self.prompt,
        }


def read_table(path: str | Path) -> Any:
    """Return what the YAML of a table holds, its rules not checked.

    Raises:
        TableError: If the file cannot be read, or is no YAML.
    """
    try:
        return read_yaml(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{path} must be a readable YAML table of modalities; got: {reason}."
        raise TableError(msg) from error


def _ready(modality: str, available: tuple[Target, ...]) -> tuple[Target, ...]:
    ready = tuple(target for target in available if target.tier == "ready")
    if not ready:
        names = listed([target.name for target in available])
        msg = f"targets of {modality} must be named, because none is ready; there are {names}. "
        raise TargetError(msg + f"Pass --targets with some of them, or {ALL}.")
    return ready


class _TableReader:
    """Turn plain data into a table, and keep every problem met on the way.

    What a problem makes unreadable is left out or replaced, so that reading goes on; the result
    counts only where ``problems`` stays empty.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(self, content: Any) -> ModalityTable:
        """Return the whole table."""
        optional = ("neutral_dicom_modalities", "presence", "prompt")
        fields = self._fields(content, "table", ("modalities",), optional)
        named = self._named(fields.get("modalities"), "modalities")
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
                    self._problem(key, f"must not repeat {value!r} of {owners[value]}")
                owners[value] = key
        presence = self._flag(fields.get("presence", False), "presence")
        return ModalityTable(modalities, neutral, presence, self._prompt(fields))

    def _modality(self, name: str, content: Any) -> Modality:
        key = f"modalities.{name}"
        fields = self._fields(content, key, ("index", "targets"), ("dicom_modalities",))
        index = self._integer(fields.get("index", 0), f"{key}.index", 0, 2**31 - 1)
        fixed = RELEASED_INDICES.get(name)
        if fixed is not None and index != fixed:
            self._problem(f"{key}.index", f"must be {fixed}, as released; got {index}")
        if fixed is None and index in RELEASED_INDICES.values():
            self._problem(f"{key}.index", f"must be 8 or more, 0 to 7 are taken; got {index}")
        named = self._named(fields.get("targets"), f"{key}.targets")
        targets = tuple(self._target(f"{key}.targets.{n}", n, v) for n, v in named.items())
        self._unique({f"{key}.targets.{t.name}.label": t.label for t in targets})
        dicom = self._strings(fields.get("dicom_modalities", []), f"{key}.dicom_modalities")
        return Modality(name, index, targets, dicom)

    def _target(self, key: str, name: str, content: Any) -> Target:
        required = ("label", "category", "type", "color")
        optional = ("anatomic_region", "clean_up", "tier", "least_ml", "adapter")
        fields = self._fields(content, key, required, optional)
        if fields.get("tier", "ready") not in TIERS:
            rule = f"must be one of {', '.join(TIERS)}"
            self._problem(f"{key}.tier", f"{rule}; got {shown(fields['tier'])}")
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
        )

    def _code(self, content: Any, key: str) -> Code:
        if content is None:
            return Code("", "", "")  # its absence was reported already
        fields = self._fields(content, key, ("value", "scheme", "meaning"), ())
        for field, longest in (("value", 16), ("scheme", 16), ("meaning", 64)):
            text = fields.get(field, "x")
            if not isinstance(text, str) or not 0 < len(text) <= longest:
                rule = f"must be a string of 1 to {longest} characters"
                self._problem(f"{key}.{field}", f"{rule}; got {shown(text)}")
        return Code(*(str(fields.get(field, "")) for field in ("value", "scheme", "meaning")))

    def _color(self, content: Any, key: str) -> tuple[int, int, int]:
        if content is None:
            return (0, 0, 0)  # its absence was reported already
        if not isinstance(content, list) or len(content) != 3:
            self._problem(key, f"must be a list of red, green and blue; got {shown(content)}")
            return (0, 0, 0)
        red, green, blue = (self._integer(value, key, 0, 255) for value in content)
        return (red, green, blue)

    def _clean_up(self, content: Any, key: str) -> CleanUp:
        if content is None:
            return CleanUp()
        fields = self._fields(content, key, (), ("largest_component", "min_size", "fill_holes"))
        largest, holes = (
            self._flag(fields.get(field, False), f"{key}.{field}")
            for field in ("largest_component", "fill_holes")
        )
        return CleanUp(
            largest_component=largest,
            min_size=self._integer(fields.get("min_size", 0), f"{key}.min_size", 0, 2**31 - 1),
            fill_holes=holes,
        )

    def _prompt(self, fields: Mapping[str, Any]) -> Prompt:
        for prompt in PROMPTS:
            if fields.get("prompt", "hard") == prompt:
                return prompt
        rule = f"must be one of {', '.join(PROMPTS)}"
        self._problem("prompt", f"{rule}; got {shown(fields['prompt'])}")
        return "hard"

    def _fields(
        self, content: Any, key: str, required: tuple[str, ...], optional: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the known fields of a mapping; report missing and unknown ones."""
        if not isinstance(content, dict):
            self._problem(key, f"must be a mapping; got {shown(content)}")
            return {}
        missing = [field for field in required if content.get(field) is None]
        unknown = [str(field) for field in content if field not in required + optional]
        if missing:
            self._problem(key, f"must have {', '.join(missing)}")
        if unknown:
            known = ", ".join(required + optional)
            self._problem(key, f"must have no keys but {known}; got {', '.join(unknown)}")
        return {field: content[field] for field in required + optional if field in content}

    def _named(self, content: Any, key: str) -> dict[str, Any]:
        """Return a mapping from valid names; report an empty one and invalid names."""
        if content is None:
            return {}  # its absence was reported already
        if not isinstance(content, dict) or not content:
            self._problem(key, f"must be a mapping with at least one name; got {shown(content)}")
            return {}
        for name in content:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name == ALL:
                rule = f"must have names of a-z, 0-9 and _, a letter first, and none called {ALL}"
                self._problem(key, f"{rule}; got {shown(name)}")
        return {str(name): value for name, value in content.items()}

    def _strings(self, content: Any, key: str) -> tuple[str, ...]:
        if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
            self._problem(key, f"must be a list of strings; got {shown(content)}")
            return ()
        return tuple(content)

    def _flag(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            self._problem(key, f"must be true or false; got {shown(value)}")
        return value is True

    def _integer(self, value: Any, key: str, least: int, most: int) -> int:
        # bool is an int to Python, and `label: yes` is True to YAML
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._problem(key, f"must be an integer from {least} to {most}; got {shown(value)}")
            return least
        return value

    def _size(self, value: Any, key: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 1e6:  # neither NaN nor infinity is
            self._problem(key, f"must be milliliters from 0; got {shown(value)}")
            return 0.0
        return float(value)

    def _unique(self, values: Mapping[str, int]) -> None:
        """Report every key whose value another key before it has."""
        owners: dict[int, str] = {}
        for key, value in values.items():
            if value in owners:
                self._problem(key, f"must differ from {owners[value]}; both are {value}")
            owners.setdefault(value, key)

    def _problem(self, key: str, text: str) -> None:
        self.problems.append(f"{key} {text}")
