"""Workflows that users run. Import a workflow from its own module."""
