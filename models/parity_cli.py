"""The parity table that `hil models verify --against` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from models.progress import bar


def compared(folder: Path, checkpoint: Path, tokens: int, quiet: bool) -> dict[str, Any]:
    """Compare, print a table unless `quiet`, and return its rows and where the tokens are from."""
    from models.parity import compare

    with bar("comparing") as advance:
        rows, source = compare(folder, checkpoint, tokens, advance)
    if not quiet:
        click.echo(f"against {checkpoint} in transformers, {rows[0].tokens} tokens of {source}, d is of logits:")
        table = Table(
            "experts", "max |d logit|", "mean |d logit|", "same top token", "KL nats", "perplexity", "original"
        )
        for row in rows:
            table.add_row(
                row.precision, f"{row.max_difference:.2e}", f"{row.mean_difference:.2e}", f"{row.same_top:.1%}",
                f"{row.kl:.2e}", f"{row.perplexity:.4f}", f"{row.original_perplexity:.4f}",
            )  # fmt: skip
        Console().print(table)
    return {"tokens": source, "rows": [asdict(row) for row in rows]}
