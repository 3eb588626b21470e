"""The version of the package; bundle metadata and tags have the same."""

__version__ = "0.1.0"
