"""Choose which parameters train, by patterns over their names."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from esp_medsam.errors import OptionError, listed


def freeze(network: nn.Module, patterns: Sequence[str], trained: Sequence[str] = ()) -> list[str]:
    """Exclude parameters from training.

    Args:
        network: The network; changed in place.
        patterns: Patterns over parameter names, such as ``image_encoder.*``; ``*`` stands for any
            characters, including dots. An empty list freezes nothing.
        trained: Patterns over parameters that train even if ``patterns`` match them.

    Returns:
        The names of all frozen parameters.

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
    """Whether any of the patterns matches the name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def hold_frozen_norms(module: nn.Module) -> None:
    """Put the batch norms with frozen parameters into evaluation mode, to keep their statistics.

    Call it after each ``train()``, which puts all batch norms into training mode.

    Args:
        module: Module with the batch norms; changed in place.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            own = list(part.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                part.eval()
