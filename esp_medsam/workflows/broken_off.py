"""Call a function when an error, or Ctrl-C, ends an engine's run."""

from __future__ import annotations

from collections.abc import Callable

from ignite.engine import Engine, Events


def when_broken_off(engine: Engine, call: Callable[[Engine, BaseException], None]) -> None:
    """Register a function to call with the engine and the error that ended its run.

    The error is raised afterwards. ignite swallows an error that has a handler, and calls no
    handler after one that raises: so a single handler raises, and it stays the last.
    """
    event = Events.EXCEPTION_RAISED
    if engine.has_event_handler(_raise, event):
        engine.remove_event_handler(_raise, event)
    engine.add_event_handler(event, call)
    engine.add_event_handler(event, _raise)


def _raise(engine: Engine, error: BaseException) -> None:
    del engine
    raise error
