"""Networks, which need only torch."""

from esp_medsam.networks.builders import (
    build_network,
    build_paper,
    build_product,
    build_released,
)
from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM, Prediction
