"""Where the items of a run are segmented: here, in processes of this machine, or on a cluster."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import typer

from esp_medsam.allocator import reuse_memory
from esp_medsam.errors import OptionError
from esp_medsam.modality import ALL


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.engine import Pool
    from esp_medsam.workflows.plan import Plans
    from esp_medsam.workflows.request import Request
    from esp_medsam.workflows.segment import SegmentRun


NO_NETWORK = object()
"""Stands for the network where nothing is segmented."""

PICTURES_FOR_A_TRIAL = 20
"""Number of pictures from which measuring, once, which runtime is fastest is worth its time."""

MOST_SECONDS = 1_000_000
"""Seconds that may be allowed for an item; more is a slip."""


class EngineName(str, Enum):
    """What workers are."""

    processes = "processes"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked of the workers.

    Attributes:
        engine: What they are.
        address: Address of a Ray cluster; None starts one on this machine.
        device: Device; None means a GPU if there is one.
        workers: Their number; None chooses it, and 0 segments in this process.
        timeout: Seconds that an item may take; None for any.
    """

    engine: EngineName = EngineName.processes
    address: str | None = None
    device: str | None = None
    workers: int | None = None
    timeout: float | None = None

    def check(self) -> None:
        """Refuse what cannot be together.

        Raises:
            typer.BadParameter: With the rule that is broken.
        """
        on_ray = self.engine is EngineName.ray
        needs = "--device all" if self.device == ALL else "--timeout"
        needs_workers = self.timeout is not None or self.device == ALL or on_ray
        most = f"--timeout must be at most {MOST_SECONDS:,} seconds; got {self.timeout}"
        rules = {
            f"{'--engine ray' if on_ray else needs} needs a worker: let --workers, or "
            "ESP_MEDSAM_WORKERS, be 1 or more": self.workers == 0 and needs_workers,
            # Nor may it be NaN.
            most: self.timeout is not None and not self.timeout <= MOST_SECONDS,
            "--address needs --engine ray": self.address is not None and not on_ray,
            "--address must not be empty": self.address == "",
            f"--device must be cpu, cuda or all with --engine ray, which chooses among the GPUs; "
            f"got {self.device}": on_ray and self.device not in (None, "cpu", "cuda", ALL),
        }
        for rule, is_broken in rules.items():
            if is_broken:
                raise typer.BadParameter(rule)
        if on_ray:
            from esp_medsam.integrations.ray_batch.cluster import check_installed

            check_installed()


def run_of(
    request: Request, plans: Plans | None, asked: Asked, *, quiet: bool, as_json: bool
) -> tuple[SegmentRun, Pool | None]:
    """Return a run and its workers; a single item needs none, as nothing follows it.

    Args:
        request: The run's request.
        plans: Plans of what to segment, if they are made already.
        asked: What the user asked of the workers.
        quiet: Whether not to say what the workers are.
        as_json: Whether standard output is for results alone.
    """
    from esp_medsam.workflows.pipeline import build
    from esp_medsam.workflows.worker_choice import choose_workers
    from esp_medsam.workflows.workers import Workers

    def tell(text: str) -> None:
        if not quiet:
            print(f"{text}.", file=sys.stderr)

    reuse_memory()
    if asked.engine is EngineName.ray:
        return _on_ray(request, plans, asked, tell, as_json=as_json)
    workers, device = asked.workers, asked.device
    needs_none = workers is None and asked.timeout is None and device != ALL
    if workers == 0 or (needs_none and plans is not None and is_single(plans)):
        return build(_settled(request, plans, tell), plans=plans), None
    run = build(request, plans=plans, network=NO_NETWORK)
    if needs_none and is_single(run.plans):
        return build(_settled(request, run.plans, tell), plans=plans), None
    own = getattr(run.inferer, "device", None)  # a config may state it
    wanted = ALL if device == ALL else request.settings.get("device") or (own and str(own))
    chosen = choose_workers(wanted, len(run) if run.is_whole else None, workers)
    tell(chosen.text)
    request = _settled(request, run.plans, tell, threads=chosen.threads)
    return run, Workers.of(run, request, chosen, most_seconds=asked.timeout)


def _settled(
    request: Request, plans: Plans | None, tell: Callable[[str], None], threads: int | None = None
) -> Request:
    """Return a request that names its runtime, so that the whole run uses one."""
    import torch

    from esp_medsam.workflows.runtime_trial import settled

    is_worth_it = plans is not None and plans.is_long(PICTURES_FOR_A_TRIAL)
    threads = threads or torch.get_num_threads()
    return settled(request, threads=threads, is_worth_it=is_worth_it, tell=tell)


def _on_ray(
    request: Request,
    plans: Plans | None,
    asked: Asked,
    tell: Callable[[str], None],
    *,
    as_json: bool,
) -> tuple[SegmentRun, Pool]:
    """Return a run and its workers on a cluster; this machine needs no GPU for it.

    Raises:
        OptionError: If results would depend on the node that makes them.
    """
    from esp_medsam.integrations.ray_batch.pool import RayPool
    from esp_medsam.runtimes.kinds import EAGER
    from esp_medsam.workflows.attempts import with_settings
    from esp_medsam.workflows.pipeline import build, read_config
    from esp_medsam.workflows.runtime_choice import AUTO, asked_of

    device = request.settings.get("device")
    named = asked_of(read_config(request).get_parsed_content("settings").runtime)
    # Nodes differ, results should not.
    request = with_settings(request, runtime=EAGER if named == AUTO else named)
    here = with_settings(request, device="cpu", runtime=EAGER)
    run = build(here, plans=plans, network=NO_NETWORK)
    if request.settings.get("amp") and not getattr(run.inferer, "amp", True):
        msg = "amp must be possible on the machine that starts the run, too, as results state it; "
        msg += "this one has no bfloat16. Leave `amp` out, or start the run on another."
        raise OptionError(msg)
    return run, RayPool(
        run=run,
        request=request,
        device=None if device is None else str(device).partition(":")[0],
        address=asked.address,
        count=asked.workers,
        most_seconds=asked.timeout,
        tell=tell,
        is_verbose=not as_json and logging.getLogger().isEnabledFor(logging.INFO),
    )


def is_single(plans: Plans) -> bool:
    """Whether a run has but one item."""
    return plans.is_whole and len(plans) <= 1
