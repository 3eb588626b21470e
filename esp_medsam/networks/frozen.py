"""Which parameters train, by patterns over their names."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from esp_medsam.errors import OptionError, listed


def freeze(network: nn.Module, patterns: Sequence[str], trained: Sequence[str] = ()) -> list[str]:
    """Take parameters out of training.

    Args:
        network: The network; changed in place.
        patterns: Over names of parameters, such as ``image_encoder.*``; ``*`` stands for any
            characters, dots too. None of them freezes nothing.
        trained: Patterns over those that train all the same, whatever ``patterns`` match.

    Returns:
        The names of all that is frozen.

    Raises:
        OptionError: If a pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for key, given in (("frozen", patterns), ("trained", trained)):
        for pattern in given:
            if not any(fnmatchcase(name, pattern) for name in names):
                parts = listed(sorted({f"{name.partition('.')[0]}." for name in names}))
                msg = f"{key} must match names of parameters; got {pattern!r}. "
                raise OptionError(msg + f"They begin with {parts}.")
    for name, parameter in network.named_parameters():
        if matches(name, patterns) and not matches(name, trained):
            parameter.requires_grad_(False)
    if patterns and not any(p.requires_grad for p in network.parameters()):
        msg = f"frozen must leave some parameters to train; {', '.join(patterns)} match all."
        raise OptionError(msg)
    return [name for name, parameter in network.named_parameters() if not parameter.requires_grad]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether any of the patterns is the name's."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def hold_frozen_norms(module: nn.Module) -> None:
    """Put the batch norms whose parameters are frozen into evaluation mode, for good statistics.

    Called after each ``train()``, which puts all of them into training mode.

    Args:
        module: What holds them; changed in place.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            own = list(part.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                part.eval()
