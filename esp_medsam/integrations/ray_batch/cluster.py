"""Connect to a Ray cluster, or start one on this machine, and choose how many actors it gets."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import Any, NamedTuple

from esp_medsam.errors import ClusterError, DeviceError, OptionError, one_line
from esp_medsam.workflows.worker_choice import LEAST_MEMORY, LEAST_THREADS, WorkerChoice


_OBJECT_STORE = 100 * 2**20
"""Bytes of a local Ray's object store; only paths and records pass, so the least will do."""


_BESIDE_GPU = 4
"""CPUs that an actor takes beside its GPU, if its node has as many for each."""

_SECONDS_TO_ANSWER = 10.0
"""Time that a cluster has to accept a connection."""


class Node(NamedTuple):
    """What a node of a cluster has.

    Attributes:
        cpus: Number of CPUs.
        gpus: Number of GPUs.
        memory: Bytes of memory.
    """

    cpus: int
    gpus: int
    memory: int


def check_installed() -> None:
    """Refuse to run without the extra, naming what to install.

    Raises:
        OptionError: If Ray is not installed.
    """
    if find_spec("ray") is None:
        msg = "`engine` ray must have the package ray, which is missing; install it: pip install "
        msg += "'esp-medsam[ray]'."
        raise OptionError(msg)


@contextmanager
def connected(address: str | None, *, cpus: int, is_verbose: bool) -> Iterator[Any]:
    """Connect to a cluster until the block ends, and yield the package ``ray``.

    Args:
        address: Address of the cluster; None starts one on this machine, which only this machine
            can reach, and ends it with the block.
        cpus: Number of CPUs of the one that is started.
        is_verbose: Whether what workers log is printed here.

    Raises:
        ClusterError: If there is no cluster at the address, none can be started, or it is gone
            before the block ends.
    """
    if address is not None:
        _check_answers(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not is_verbose:  # Ray tells of dead actors on standard output, where results may go
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if address is None:  # without a cluster of machines, Ray listens on loopback alone
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray = importlib.import_module("ray")
    with ExitStack() as held:
        settings: dict[str, Any] = {"address": address}
        if address is None:
            logs = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            settings = {
                "address": "local",
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": held.enter_context(logs),
            }
        held.callback(ray.shutdown)
        with _own_signals():
            _init(ray, settings, is_verbose=is_verbose)
        try:
            with _signals_let_through():
                yield ray
        except (ray.exceptions.RayError, ConnectionError) as error:
            msg = f"The cluster must answer until the run ends; it gave {type(error).__name__}. "
            msg += "Start it again if it is gone; then the same command goes on."
            raise ClusterError(msg) from error


def _check_answers(address: str) -> None:
    """Refuse an address at which nothing listens: Ray would wait for it for minutes.

    Raises:
        ClusterError: If nothing does, or it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        told = getattr(error, "strerror", None) or type(error).__name__
        msg = "`address` must be auto, HOST:PORT or ray://HOST:PORT of a Ray cluster that answers; "
        msg += f"got {address}, which gave: {told}."
        raise ClusterError(msg) from error


def _init(ray: Any, settings: dict[str, Any], *, is_verbose: bool) -> None:
    level = logging.INFO if is_verbose else logging.CRITICAL
    try:
        ray.init(**settings, log_to_driver=is_verbose, logging_level=level)
    except Exception as error:  # Ray has no class of its own for what goes wrong here
        told = one_line(str(error).partition("\n")[0])[:200] or type(error).__name__
        where = settings["address"]
        msg = f"`address` must be that of a Ray cluster that answers; {where} gave: {told}"
        if where == "local":
            msg = f"Ray must be able to start on this machine; it gave: {told}"
        raise ClusterError(msg) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray would replace for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:  # by Ray's handler, with the number of the signal
        sys.exit(128 + signal.SIGTERM if ended.code == signal.SIGTERM else ended.code)
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _signals_let_through() -> Iterator[None]:
    """Let the handlers of signals that end a run raise what they raise.

    A call to Ray in which a signal arrives lets only KeyboardInterrupt through, so each handler
    acts after that has ended the block.
    """
    arrived: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        for each in handlers:
            signal.signal(each, signal.SIG_IGN)  # only the first one counts
        arrived.append((number, frame))
        raise KeyboardInterrupt

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for each in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
            handler = None if each is None else signal.getsignal(each)
            if each is not None and callable(handler):
                handlers[each] = handler
                signal.signal(each, note)
    try:
        yield
    except KeyboardInterrupt:
        for number, frame in arrived:
            handlers[signal.Signals(number)](number, frame)
        raise
    finally:
        for each, handler in handlers.items():
            if not arrived:
                signal.signal(each, handler)


def nodes_of(ray: Any) -> list[Node]:
    """Return the living nodes of a cluster."""
    held = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [
        Node(int(each.get("CPU", 0)), int(each.get("GPU", 0)), int(each.get("memory", 0)))
        for each in held
    ]


def choose_actors(
    nodes: Sequence[Node], device: str | None, items: int | None, count: int | None
) -> WorkerChoice:
    """Return the workers of a run on a cluster.

    Without a given number: one for each GPU; on the CPU, for each node as many as it has times
    two cores and 4 GiB of memory. Always at least one, and at most one for each item. One that is
    given may be larger: what finds no place waits for it, as for nodes that still have to start.

    Args:
        nodes: The nodes.
        device: ``cpu`` or ``cuda``; None means CUDA if a node has a GPU.
        items: Number of items; None if it is not known yet.
        count: Number of workers that was asked for; None chooses it.

    Raises:
        DeviceError: If no node has a GPU, and no number was asked for.
    """
    gpus = sum(node.gpus for node in nodes)
    device = device or ("cuda" if gpus else "cpu")
    if device == "cuda" and not gpus and count is None:
        msg = "device must exist in the cluster, whose nodes have no GPU; got cuda. If some will "
        msg += "start when they are needed, pass `workers`."
        raise DeviceError(msg)
    if count is None:
        fits = [min(node.cpus // LEAST_THREADS, node.memory // LEAST_MEMORY) for node in nodes]
        count = gpus if device == "cuda" else sum(fits)
    count = max(1, count if items is None else min(count, items))
    if device == "cuda":
        each = [node.cpus // node.gpus for node in nodes if node.gpus]
        threads = min([_BESIDE_GPU, *each])
    else:
        most = max((node.cpus for node in nodes), default=1)
        threads = next(
            (one for one in range(most, 0, -1) if sum(node.cpus // one for node in nodes) >= count),
            min(LEAST_THREADS, most),
        )
    return WorkerChoice((device,) * count, max(1, threads))
