"""Count parameters and multiply-accumulates of a network, part by part; nothing is typed in.

Networks run on torch's meta device, where shapes are computed and values are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esp_medsam.networks.esp_medsam import ESPMedSAM
from esp_medsam.networks.msa_conv import MSAConv


Design = Callable[[Mapping[str, int], Mapping[str, Sequence[str]], str], ESPMedSAM]
"""Builds a network from modality indices, targets by modality, and the default modality."""

PARTS = {
    "shared_encoder": ("image_encoder",),
    "modality_controllers": (),
    "prompt_generator": ("prompt_generator", "presence"),
    "modality_query": ("modality_query", "target_adapters"),
    "mask_decoder": ("mask_decoder", "position_encoding"),
    "high_resolution": ("high_resolution", "high_resolution_head"),
    "unused": ("unused_prompt_encoder",),
}
"""Parts that are told apart, and the network's modules that make them up. The controllers lie
inside the encoder's blocks and are told apart by name."""

_OWNED_BELOW = ("controllers", "targets", "heads", "adapters")
"""Modules below which parameters are kept by modality."""


@dataclass(frozen=True)
class ModalitySummary:
    """What one modality takes.

    Attributes:
        targets: Its number of targets.
        controller: Parameters of its controllers; 0 where the network has queries for it alone.
        parameters: All parameters that it owns: controllers, queries, heads.
        gmacs: Multiply-accumulates of one image with all its targets, in thousands of millions;
            None without controllers.
    """

    targets: int
    controller: int
    parameters: int
    gmacs: float | None


@dataclass(frozen=True)
class Cost:
    """What an addition takes: parameters, and thousands of millions of operations an image."""

    parameters: int
    gmacs: float


@dataclass(frozen=True)
class Summary:
    """Counts of one network.

    Attributes:
        input_size: ``(H, W)`` that the operations are counted for.
        modality: The modality that the operations by part are counted for.
        parameters: By part, in the order of ``PARTS``, without empty ones.
        gmacs: Of one image of ``modality``, by part.
        modalities: By modality.
        one_more_target: A further target of ``modality``.
        one_more_modality: A further modality, with one target if it has no queries yet. Images of
            the others take no more operations, unless targets are decoded jointly.
    """

    input_size: tuple[int, int]
    modality: str
    parameters: dict[str, int]
    gmacs: dict[str, float]
    modalities: dict[str, ModalitySummary]
    one_more_target: Cost
    one_more_modality: Cost

    @property
    def total_parameters(self) -> int:
        """Parameters of the whole network."""
        return sum(self.parameters.values())

    @property
    def total_gmacs(self) -> float:
        """Thousands of millions of multiply-accumulates of one image of ``modality``."""
        return sum(self.gmacs.values())

    def to_json(self) -> dict[str, Any]:
        """Return the counts, totals included, as JSON takes them."""
        return asdict(self) | {
            "input_size": list(self.input_size),
            "total_parameters": self.total_parameters,
            "total_gmacs": self.total_gmacs,
        }


def summarize(
    design: Design,
    modalities: Mapping[str, int],
    targets: Mapping[str, Sequence[str]],
    *,
    input_size: tuple[int, int],
    modality: str | None = None,
) -> Summary:
    """Count parameters and operations of a network.

    Args:
        design: Builds the network.
        modalities: Index of each modality with controllers.
        targets: Target names of each modality with queries.
        input_size: ``(H, W)``, multiples of 32.
        modality: The modality to count operations of, by part; None for the first.

    Raises:
        ValueError: If ``input_size`` does not fit, or ``modality`` is not among ``modalities``.
    """
    chosen = next(iter(modalities)) if modality is None else modality
    network = _build(design, modalities, targets, chosen)
    parameters = count_parameters(network)
    gmacs = count_gmacs(network, input_size)
    more_targets = {**targets, chosen: [*targets[chosen], "one_more"]}

    def cost(larger: ESPMedSAM) -> Cost:
        return Cost(
            parameters=sum(count_parameters(larger).values()) - sum(parameters.values()),
            gmacs=sum(count_gmacs(larger, input_size).values()) - sum(gmacs.values()),
        )

    return Summary(
        input_size=input_size,
        modality=chosen,
        parameters={part: count for part, count in parameters.items() if count},
        gmacs={part: count for part, count in gmacs.items() if parameters[part]},
        modalities=_summarize_modalities(network, targets, input_size),
        one_more_target=cost(_build(design, modalities, more_targets, chosen)),
        one_more_modality=cost(_build(design, *_one_more_modality(modalities, targets), chosen)),
    )


def count_parameters(network: ESPMedSAM) -> dict[str, int]:
    """Return the number of parameters of each part; buffers are no parameters."""
    counts = dict.fromkeys(PARTS, 0)
    part_of = {module: part for part, modules in PARTS.items() for module in modules}
    for name, parameter in network.named_parameters():
        part = part_of[name.partition(".")[0]]
        counts["modality_controllers" if ".controllers." in name else part] += parameter.numel()
    return counts


def count_gmacs(network: ESPMedSAM, input_size: tuple[int, int]) -> dict[str, float]:
    """Return the multiply-accumulates of one image of the default modality, by part.

    Matrix products and convolutions count, as torch's ``FlopCounterMode`` does, and so do the taps
    of TiC's attention; norms, activations and resizing do not. What is computed outside every
    module is the product of masks and full-resolution features.

    Args:
        network: On the meta device, without gradients.
        input_size: ``(H, W)``, multiples of 32.
    """
    image = torch.empty(1, 3, *input_size, device="meta")
    with counting_taps(network) as taps:
        by_module, total = _run(network, image)
    by_module["image_encoder"] += sum(taps) / 1e9
    total += sum(taps) / 1e9
    counts = {
        part: sum(by_module.get(module, 0.0) for module in modules)
        for part, modules in PARTS.items()
    }
    experts = sum(count for module, count in by_module.items() if module.endswith(".bank"))
    counts["modality_controllers"] = experts
    counts["shared_encoder"] -= experts
    # Its patch logits come from a method of its own, which counts for no module.
    embedding = torch.empty(1, 256, input_size[0] // 16, input_size[1] // 16, device="meta")
    query = network.queries(1, None, None)
    counts["prompt_generator"] += _run(network.prompt_generator.patch_logits, embedding, query)[1]
    counts["high_resolution"] += total - sum(counts.values())
    return counts


def _run(call: Callable[..., object], *arguments: Tensor) -> tuple[dict[str, float], float]:
    """Return thousands of millions of multiply-accumulates by module path, and of all."""
    counter = FlopCounterMode(display=False)
    with counter:
        call(*arguments)
    by_module = {
        path.partition(".")[2]: sum(counts.values()) / 2e9
        for path, counts in counter.get_flop_counts().items()
    }
    return by_module, counter.get_total_flops() / 2e9


@contextmanager
def counting_taps(network: nn.Module) -> Iterator[list[int]]:
    """Gather multiply-accumulates between positions and taps, which torch's counter omits.

    Args:
        network: Whatever holds :class:`~esp_medsam.networks.msa_conv.MSAConv`.
    """
    counts: list[int] = []

    def count(module: nn.Module, _: object, gathered: Tensor) -> None:
        assert isinstance(module, MSAConv)
        rows, columns = module.kernel_size
        counts.append(2 * rows * columns * gathered.numel())  # dot products, then the mixture

    attentions = [module for module in network.modules() if isinstance(module, MSAConv)]
    hooks = [module.register_forward_hook(count) for module in attentions]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _build(
    design: Design, modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]], name: str
) -> ESPMedSAM:
    # Moved there, not made there: initializing on the meta device is slower than on the CPU.
    return design(modalities, targets, name).eval().requires_grad_(False).to("meta")


def _one_more_modality(
    modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]]
) -> tuple[dict[str, int], dict[str, Sequence[str]]]:
    """Return modalities and targets with one more: one that has queries alone, else a new one."""
    waiting = [name for name in targets if name not in modalities]
    name = waiting[0] if waiting else "one_more"
    indices = {**modalities, name: max(modalities.values()) + 1}
    return indices, {**targets, name: targets.get(name, ["one_more"])}


def _summarize_modalities(
    network: ESPMedSAM, targets: Mapping[str, Sequence[str]], input_size: tuple[int, int]
) -> dict[str, ModalitySummary]:
    default = network.default_modality
    gmacs: dict[int, float] = {}  # modalities differ in their number of targets alone
    summaries: dict[str, ModalitySummary] = {}
    for name, names in targets.items():
        if name in network.modalities and len(names) not in gmacs:
            network.default_modality = name
            gmacs[len(names)] = sum(count_gmacs(network, input_size).values())
        owned = {key: p.numel() for key, p in network.named_parameters() if _owns(name, key)}
        summaries[name] = ModalitySummary(
            targets=len(names),
            controller=sum(count for key, count in owned.items() if ".controllers." in key),
            parameters=sum(owned.values()),
            gmacs=gmacs[len(names)] if name in network.modalities else None,
        )
    network.default_modality = default
    return summaries


def _owns(modality: str, parameter: str) -> bool:
    names = parameter.split(".")
    return any(above in _OWNED_BELOW and name == modality for above, name in pairwise(names))
