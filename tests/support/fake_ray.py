"""What of Ray a run uses, in this process: calls are made at once, and their results kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """Base of Ray's errors."""


class ActorDiedError(RayError):
    """The actor ended."""


class OutOfMemoryError(RayError):
    """Ray ended the actor."""


class NodeDiedError(RayError):
    """The node ended."""


class Ref:
    """The result of a call, or its error; it may be out for ever."""

    def __init__(self, value: Any = None, *, has_arrived: bool = True) -> None:
        self.value, self.has_arrived = value, has_arrived


class FakeRay:
    """The package ``ray``, connected to nodes with some resources.

    Args:
        resources: Resources of each node.
        make: Makes an actor from the arguments of its class; None makes the class itself.
        places: Number of actors that find a place; the others wait for ever.
    """

    exceptions = SimpleNamespace(
        RayError=RayError,
        ActorDiedError=ActorDiedError,
        OutOfMemoryError=OutOfMemoryError,
        NodeDiedError=NodeDiedError,
    )

    def __init__(
        self,
        *resources: dict[str, float],
        make: Callable[..., Any] | None = None,
        places: int = 1000,
    ) -> None:
        self.resources, self.make, self.places = resources, make, places
        self.inits: list[dict[str, Any]] = []
        self.options: list[dict[str, Any]] = []
        self.killed: list[Any] = []
        self.shutdowns = 0

    def init(self, **settings: Any) -> None:
        """Note the settings."""
        self.inits.append(settings)

    def shutdown(self) -> None:
        """Note the end."""
        self.shutdowns += 1

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes, and a dead one."""
        living = [{"Alive": True, "Resources": each} for each in self.resources]
        return [*living, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def remote(self, kind: type) -> Any:
        """Return what makes actors."""

        def options(**options: Any) -> Any:
            self.options.append(options)
            return SimpleNamespace(remote=lambda *given: self._actor(kind, given))

        return SimpleNamespace(options=options)

    def _actor(self, kind: type, given: Sequence[Any]) -> _Actor:
        self.places -= 1
        return _Actor((self.make or kind)(*given), has_place=self.places >= 0)

    @staticmethod
    def wait(
        refs: Sequence[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        """Return what has arrived, and what has not."""
        del num_returns, timeout
        arrived = [ref for ref in refs if ref.has_arrived]
        return arrived, [ref for ref in refs if not ref.has_arrived]

    @staticmethod
    def get(ref: Ref, timeout: float | None = None) -> Any:
        """Return a value, or raise an error."""
        del timeout
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def kill(self, actor: Any) -> None:
        """Note the end of an actor."""
        self.killed.append(actor)


class _Actor:
    def __init__(self, held: Any, *, has_place: bool) -> None:
        self._held, self._has_place = held, has_place

    def __getattr__(self, name: str) -> Any:
        def remote(*given: Any) -> Ref:
            if not self._has_place:
                return Ref(has_arrived=False)
            try:
                return Ref(getattr(self._held, name)(*given))
            except RayError as error:
                return Ref(error)

        return SimpleNamespace(remote=remote)
