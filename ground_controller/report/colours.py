"""The order in which curves take colours, on every page and picture."""

from __future__ import annotations

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""The first six are those of Okabe and Ito, told apart by colour-blind eyes; all are legible on white and on black."""
