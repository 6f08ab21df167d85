"""The order in which curves take colours, on every page and picture."""

from __future__ import annotations

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf")
