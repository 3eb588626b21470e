from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from esp_medsam.plain_data import MOST_BYTES, read_json, read_own_json, read_plain, read_yaml


Read = Callable[..., Any]

# Nine times nine, nine times over: 0.5 kB that mean 387 million values.
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a file and reads it."""

    def read_(text: str | bytes, name: str = "file.yaml") -> Any:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_plain(path)

    return read_


class TestReadPlain:
    @pytest.mark.parametrize("name", ["file.yaml", "file.json", "file.JSON"])
    def test_gives_values_of_yaml_and_json(self, read: Read, name: str) -> None:
        assert read('{"a": [1, 2.5, true, null, "x"]}', name) == {"a": [1, 2.5, True, None, "x"]}

    def test_keeps_expressions_as_the_text_they_are(self, read: Read) -> None:
        assert read("a: $print(1)\nb: '@c'\nc: '%d'") == {"a": "$print(1)", "b": "@c", "c": "%d"}

    def test_takes_a_byte_order_mark(self, read: Read) -> None:
        assert read(b"\xef\xbb\xbfa: 1") == {"a": 1}

    def test_takes_aliases_of_what_was_dumped(self, read: Read) -> None:
        code = {"value": "1"}

        assert read(yaml.safe_dump([code, code])) == [code, code]

    def test_takes_the_keys_of_another_mapping(self, read: Read) -> None:
        text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}"

        assert read(text)["b"] == {"x": 1, "y": 3}

    @pytest.mark.parametrize("depth", [1, 32])
    def test_takes_what_lies_within_each_other_as_deep_as_it_says(
        self, read: Read, depth: int
    ) -> None:
        for name in ("file.yaml", "file.json"):
            assert read("[" * depth + "]" * depth, name) is not None

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            (BOMB, "more than 262,144 values"),
            ("a: &a [*a]", "an alias"),
            ("a: *b", r"an alias, \*., of"),
            ("[" * 100_000, "more than 32|nesting depth"),  # PyYAML 6.0.4's own
            ("- " * 100_000, "more than 32|nesting depth"),
            (f"a: {'1:' * 100_000}1", "a value of more than 4,096 characters"),
            (f"a: {'x' * MOST_BYTES}", "more than 524,288 bytes"),
            ("a: 1\na: 2", "the key 'a' twice"),
            ("? [1]\n: 2", "a key of many values"),
            ("a: 1\n---\nb: 2", "YAML.*plain values at line 2"),
            ("a: !!python/object/apply:os.getcwd []", "YAML.*plain values.*constructor"),
            ("a: [1,", "plain values at line 2"),
            (f"a: 0x{'F' * 4_000}", "a whole number of more than 64 bits"),
            (f"? 0x{'F' * 4_000}\n: 1", "a whole number of more than 64 bits"),
            ("a: !!timestamp foo", "a value that.*its tag"),
            ('a: !!float ""', "a value that .* its tag"),
            ('a: !!int ""', "a value that .* its tag"),
            ("a: !!bool foo", "a value that .* its tag"),
            (b"\xff\xfe\x00", "text that is not UTF-8, from byte 0 on"),
        ],
    )
    def test_refuses_hostile_yaml(self, read: Read, text: str | bytes, found: str) -> None:
        with pytest.raises(ValueError, match=found):
            read(text)

    def test_counts_depth_through_aliases(self, read: Read) -> None:
        lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40))]

        with pytest.raises(ValueError, match=r"more than 32|nesting depth"):
            read("\n".join(lines))

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("[" * 100_000, "more than 32|nesting depth"),  # PyYAML 6.0.4's own
            ("[" * 33 + "]" * 33, "more than 32.*lists and mappings"),
            (f"[{'{},' * 150_000}1]", "more than 262,144 values"),
            ('{"a": 1, "a": 2}', "the key 'a' twice"),
            ('{"a": ', "JSON at line 1, column 7"),
            (f'{{"a": {"1" * 100_000}}}', "a whole number of more than 64 bits"),
        ],
    )
    def test_refuses_hostile_json(self, read: Read, text: str, found: str) -> None:
        with pytest.raises(ValueError, match=found):
            read(text, "file.json")

    def test_limits_the_size_as_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file.json").write_text("[1, 2, 3]")

        with pytest.raises(ValueError, match="more than 4 bytes"):
            read_json(tmp_path / "file.json", most_bytes=4)

    @pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10**5, "5"])
    def test_takes_nothing_but_an_object_for_our_own(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "file.json").write_text(content)

        with pytest.raises(ValueError, match=r"invalid JSON|in place of an object|more than 32"):
            read_own_json(tmp_path / "file.json")

    def test_refuses_a_pipe_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "file.yaml")

        with pytest.raises(OSError, match="it is a pipe"):
            read_yaml(tmp_path / "file.yaml")
