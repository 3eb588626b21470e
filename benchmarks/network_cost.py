"""Parameters and multiply-accumulates of the networks, part by part; nothing is typed in.

    python benchmarks/network_cost.py [--network product] [--modality ct] [--side 448]

Networks run on torch's meta device, where shapes are computed and values are not. Matrix products
and convolutions count, as torch's ``FlopCounterMode`` does, and so do the taps of TiC's attention;
norms, activations and resizing do not.
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
    """Gather multiply-accumulates between positions and taps, which torch's counter omits."""
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
    """Return thousands of millions of multiply-accumulates of a square image, by module path.

    Those of all come under the empty path; of ``image_encoder`` the taps are among them.
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
    """Return the parameters of each module at the top, the controllers told apart."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = "controllers" if ".controllers." in name else name.partition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def build(network: str, modality: str | None) -> ESPMedSAM:
    """Return a network; of the released ones a modality chooses the checkpoint."""
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
    """Print both, by part."""
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
