"""Put what modalities learned apart, each from the same weights, into one file.

    python benchmarks/accuracy/join.py OUT.pt BASE.pt ct=RUN/model.pt mri=RUN/model.pt

Of each run the tensors of its own modality are taken; others that it holds must be those of BASE,
as they are where training froze them. With ``--own`` what was taken is written alone: a part, a
thirtieth of the size, that can stand in a run's place later.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from esp_medsam.networks.checkpoints import load_checkpoint


def main() -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("run", nargs="+", help="MODALITY=FILE")
    parser.add_argument("--own", action="store_true", help="write what was taken from runs alone")
    asked = parser.parse_args()
    base = load_checkpoint(asked.base)
    taken = {}
    for run in asked.run:
        modality, _, file = run.partition("=")
        for name, tensor in load_checkpoint(Path(file)).items():
            if f".{modality}." in name:
                taken[name] = tensor.to(base[name].dtype)
            elif not torch.equal(tensor, base[name]):
                parser.error(f"{file} must leave {name} as it is in {asked.base}; it does not")
    torch.save(taken if asked.own else {**base, **taken}, asked.out)


if __name__ == "__main__":
    main()
