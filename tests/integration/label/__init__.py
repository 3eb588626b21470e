"""Tests with MONAI Label's released server; what they share lives as long as they do."""
