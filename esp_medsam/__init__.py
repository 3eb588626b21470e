"""ESP-MedSAM: segment medical images of many modalities without prompts.

Importing the package loads nothing heavy; import what is needed from its sub-packages.
"""

__version__ = "0.1.0"
