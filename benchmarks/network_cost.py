"""Parameters and multiply-accumulates of each part of the networks, all computed.

    python benchmarks/network_cost.py [--network product] [--modality ct] [--side 448]

Networks run on torch's meta device, which computes shapes but no values. Matrix products and
convolutions count, as in torch's ``FlopCounterMode``, and so do the taps of TiC's attention; norms,
activations and resizing do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_paper, build_product, build_released
from esp_medsam.networks.msa_conv import MSAConv
from esp_medsam.workflows.bundle import TABLE, find_bundle


@contextmanager
def counting_taps(network: nn.Module) -> Iterator[list[int]]:
    """Collect multiply-accumulates between positions and taps, which torch's counter omits."""
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


def gmacs_of(network: nn.Module, side: int) -> dict[str, float]:
    """Return billions of multiply-accumulates for a square image, by module path.

    The total has the empty path; the number of ``image_encoder`` includes the taps.
    """
    counter = FlopCounterMode(display=False)
    with counting_taps(network) as taps, counter:
        network.requires_grad_(False).to("meta")(torch.empty(1, 3, side, side, device="meta"))
    counts = {
        path.partition(".")[2]: sum(each.values()) / 2e9
        for path, each in counter.get_flop_counts().items()
    }
    counts[""] = counter.get_total_flops() / 2e9
    for path in ("", *({"image_encoder"} & counts.keys())):
        counts[path] += sum(taps) / 1e9
    return counts


def parameters_of(network: nn.Module) -> dict[str, int]:
    """Return the parameters of each top-level module, with the controllers separate."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = "controllers" if ".controllers." in name else name.partition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def build(network: str, modality: str | None) -> ESPMedSAM:
    """Return a network; for the released ones, the modality chooses the checkpoint."""
    if network == "released":
        return build_released(modality or "xray")
    if network == "paper":
        return build_paper()
    table = ModalityTable.read(find_bundle(None) / TABLE)
    own = {"adapted": table.adapted, "presence": table.presence, "prompt": table.prompt}
    built = build_product(
        table.indices, table.target_names, image_encoder=table.image_encoder, **own
    )
    built.default_modality = modality or "ct"
    return built


def main() -> None:
    """Print both numbers for each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=("product", "paper", "released"), default="product")
    parser.add_argument("--modality")
    parser.add_argument("--side", type=int, default=448)
    asked = parser.parse_args()
    network = build(asked.network, asked.modality).eval()
    parameters = parameters_of(network)
    gmacs = gmacs_of(network, asked.side)
    for part, count in parameters.items():
        print(f"{part:<24}{count:>14,}  {gmacs.get(part, 0.0):>10.3f} GMACs")
    print(f"{'all':<24}{sum(parameters.values()):>14,}  {gmacs['']:>10.3f} GMACs")


if __name__ == "__main__":
    main()
