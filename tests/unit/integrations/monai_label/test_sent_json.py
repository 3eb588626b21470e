from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.sent_json import MOST_LEVELS, checked_object, object_of


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("a"), inner),
    max_leaves=8,
)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


class TestObject:
    @given(st.dictionaries(st.just("key"), PLAIN))
    def test_comes_back_as_it_was_sent(self, given: dict[str, Any]) -> None:
        assert object_of(json.dumps(given)) == given

    def test_of_no_text_is_empty(self) -> None:
        assert object_of("") == {}

    def test_may_be_nested_a_little(self) -> None:
        assert checked_object(nested(MOST_LEVELS)) == nested(MOST_LEVELS)

    @pytest.mark.parametrize(
        "text",
        [
            *("[1]", "5", "{", '"x"', '{"x": NaN}', '{"x": Infinity}', '{"x": "\\ud800"}'),
            *("[" * 100_000, json.dumps(nested(MOST_LEVELS + 1)), json.dumps({"x": "y" * 2**20})),
        ],
        ids=range(10),
    )
    def test_that_could_not_be_stored_is_refused(self, text: str) -> None:
        with pytest.raises(OptionError, match="params must be a JSON object that can be stored"):
            object_of(text)
