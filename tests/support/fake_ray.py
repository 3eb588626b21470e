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
    """A call to an actor, made once the actor has its place."""

    def __init__(self, actor: _Actor, call: Callable[[], Any]) -> None:
        self._actor, self._call = actor, call
        self._held: list[Any] = []

    @property
    def has_arrived(self) -> bool:
        """Whether the call was made."""
        if not self._held and self._actor.has_place:
            try:
                self._held.append(self._call())
            except RayError as error:
                self._actor.end()
                self._held.append(error)
        return bool(self._held)

    @property
    def value(self) -> Any:
        """Its result or error."""
        assert self.has_arrived, "whoever asks has waited"
        return self._held[0]


class FakeRay:
    """The package ``ray``, connected to nodes with some resources.

    Args:
        resources: Resources of each node.
        make: Makes an actor from the arguments of its class; None makes the class itself.
        places: Number of actors that have a place at the same time; the others wait.
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
        self.living: list[_Actor] = []
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
        actor = _Actor((self.make or kind)(*given), self)
        self.living.append(actor)
        return actor

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
        """End an actor."""
        self.killed.append(actor)
        actor.end()


class _Actor:
    def __init__(self, held: Any, ray: FakeRay) -> None:
        self._held, self._ray = held, ray

    @property
    def has_place(self) -> bool:
        return self not in self._ray.living or self in self._ray.living[: self._ray.places]

    def end(self) -> None:
        if self in self._ray.living:
            self._ray.living.remove(self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._held, name)
        return SimpleNamespace(remote=lambda *given: Ref(self, lambda: method(*given)))
