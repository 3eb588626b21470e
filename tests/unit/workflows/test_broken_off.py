from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine

from esp_medsam.workflows.broken_off import when_broken_off


class TestWhenBrokenOff:
    @pytest.mark.parametrize("ended_by", [ValueError("wrong"), KeyboardInterrupt()])
    def test_calls_all_in_order_and_raises_what_ended_the_run(
        self, ended_by: BaseException
    ) -> None:
        def step(*_: Any) -> None:
            raise ended_by

        engine = Engine(step)
        called: list[tuple[str, BaseException]] = []
        for name in ("first", "second"):
            when_broken_off(engine, lambda _, error, name=name: called.append((name, error)))

        with pytest.raises(type(ended_by)) as caught:
            engine.run([0])

        assert caught.value is ended_by
        assert called[:2] == [("first", ended_by), ("second", ended_by)]

    def test_calls_nothing_where_a_run_ends_well(self) -> None:
        engine = Engine(lambda *_: None)
        called: list[BaseException] = []
        when_broken_off(engine, lambda _, error: called.append(error))

        engine.run([0])

        assert not called
