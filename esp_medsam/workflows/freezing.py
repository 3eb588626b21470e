"""Report which parameters of a network train."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from esp_medsam.networks.frozen import freeze


logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


def with_frozen(network: Network, patterns: Sequence[str], trained: Sequence[str] = ()) -> Network:
    """Return the network with the matching parameters frozen, and log which parameters train.

    Args:
        network: The network; changed in place.
        patterns: See :func:`~esp_medsam.networks.frozen.freeze`.
        trained: See the same function.

    Raises:
        OptionError: If a pattern matches no parameter, or all of them.
    """
    freeze(network, patterns, trained)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    told = [*(("Frozen", pattern) for pattern in patterns), *(("Trained", p) for p in trained)]
    for what, pattern in told:
        matched = [size for name, size in sizes.items() if fnmatchcase(name, pattern)]
        logger.info("%s by %s: %s parameters.", what, pattern, f"{sum(matched):,}")
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(sizes.values())
    share = 100 * learning / total
    logger.info("%s of %s parameters train (%.1f %%).", f"{learning:,}", f"{total:,}", share)
    return network
