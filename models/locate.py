"""Where the shipped model is."""

from __future__ import annotations

from pathlib import Path


def reference_checkpoint() -> Path:
    """Folder of the trained reference checkpoint that comes with the package."""
    return Path(__file__).resolve().parent / "reference" / "checkpoint"
