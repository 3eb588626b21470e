"""Runtimes: what computes the encoder of a network that was rewritten for one modality."""

from esp_medsam.runtimes.kinds import RUNTIMES, Runtime, check_runtime
from esp_medsam.runtimes.runtime_network import RuntimeNetwork


__all__ = ["RUNTIMES", "Runtime", "RuntimeNetwork", "check_runtime"]
