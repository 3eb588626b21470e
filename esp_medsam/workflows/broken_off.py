"""Call what must be done where an error, or Ctrl-C, ends an engine's run."""

from __future__ import annotations

from collections.abc import Callable

from ignite.engine import Engine, Events


def when_broken_off(engine: Engine, call: Callable[[Engine, BaseException], None]) -> None:
    """Have a function called with an engine and what ended its run, which is raised after that.

    ignite swallows the error where it has a handler, unless the handler raises it, and then calls
    none behind it: so one handler raises, and stays the last.
    """
    event = Events.EXCEPTION_RAISED
    if engine.has_event_handler(_raise, event):
        engine.remove_event_handler(_raise, event)
    engine.add_event_handler(event, call)
    engine.add_event_handler(event, _raise)


def _raise(engine: Engine, error: BaseException) -> None:
    del engine
    raise error
