"""Segment medical images of many modalities without prompts."""

from __future__ import annotations


__version__ = "0.1.0"
