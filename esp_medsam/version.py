"""Version of the package, shared by bundle metadata and tags."""

__version__ = "0.1.0"
