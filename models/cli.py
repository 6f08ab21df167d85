"""`hil models`: build shards from a checkpoint, show what a folder holds, verify it."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hil_config.errors import UsageError
from hil_config.wire.importance import read_importance
from hil_config.wire.manifest import Manifest, Precision, Shard, manifest_hash, read_manifest, read_shard
from models.adapt_cli import delta, evaluate
from models.importance_cli import budget, calibrate, print_importance, summary
from models.parity_cli import compared
from models.plan_cli import PRECISIONS, plan
from models.progress import bar
from models.sign_cli import keygen, sign

FOLDER = click.Path(path_type=Path)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group()
def models() -> None:
    """Build, show and verify model shards."""


models.add_command(budget)
models.add_command(calibrate)
models.add_command(delta)
models.add_command(evaluate)
models.add_command(keygen)
models.add_command(plan)
models.add_command(sign)


@models.command()
@click.argument("checkpoint", type=FOLDER, required=False)
@click.option("--out", type=FOLDER, required=True, help="Folder for the shards and their manifest.")
@click.option(
    "--precision", "precisions", type=PRECISIONS, multiple=True, default=("int8",),
    show_default=True, help="Precision of the expert shards; repeat for several.",
)  # fmt: skip
@click.option("--trunk-precision", type=PRECISIONS, default="fp32", show_default=True, help="Of everything else.")
@click.option(
    "--block", type=click.Choice(["32", "64", "128"]), default="32", show_default=True,
    help="Inputs that share a scale at int8 and int4: longer is faster and less exact.",
)  # fmt: skip
@JSON_FLAG
def build(
    checkpoint: Path | None, out: Path, precisions: tuple[Precision, ...], trunk_precision: Precision, block: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Build shards from CHECKPOINT (default: the reference model that comes with the package).

    CHECKPOINT is a Hugging Face folder of OLMoE, Mixtral, Qwen2-MoE, Qwen3-MoE, GraniteMoE, DeepSeek-V2 or V3, PhiMoE
    or gpt-oss. Does nothing if OUT already holds exactly these shards; goes on where an interrupted build stopped.
    """
    from models.build import build_shards
    from models.locate import reference_checkpoint

    written = 0

    with bar("building") as advance:

        def progress(done: int, total: int, what: str) -> None:
            nonlocal written
            written += what != "already built"
            advance(done, total, what)

        wanted = tuple(dict.fromkeys(precisions))
        manifest = build_shards(
            checkpoint or reference_checkpoint(), out, wanted, progress, trunk_precision, int(block)
        )
    if as_json:
        _print_json({"out": str(out), "written": written, **_summary(manifest)})
    else:
        state = f"{written} shards written" if written else "already up to date, nothing written"
        click.echo(f"{out}: {manifest.model.name}, {state}, {_size(manifest.shards)}")


@models.command()
@click.argument("folder", type=FOLDER)
@click.option("--plot", type=FOLDER, help="Also write the importance of the experts as an HTML page.")
@JSON_FLAG
def show(folder: Path, plot: Path | None, as_json: bool) -> None:
    """Show what the manifest in FOLDER lists and what was measured of its experts; shards are not read."""
    manifest = read_manifest(folder)
    importance = read_importance(folder, manifest)
    if plot is not None:
        from models.importance_plot import write_page

        if importance is None:
            raise UsageError(f"{folder}: no importance measured yet", f"measure it: hil models calibrate {folder}")
        write_page(importance, plot)
    if as_json:
        measured = summary(importance) if importance is not None else None
        _print_json({"folder": str(folder), **_summary(manifest), "importance": measured})
        return
    card = manifest.model
    click.echo(
        f"{card.name}: {card.layers} layers, {card.experts} experts of {card.expert_width}, "
        f"top {card.routing.top_k}, hidden {card.hidden}, "
        f"vocabulary {card.vocabulary}, context {card.context}; {card.scale_block} inputs to a scale"
    )
    for domain, value in card.perplexity.items():
        click.echo(f"  held-out perplexity {domain}: {value:.2f}")
    table = Table("kind", "precision", "shards", "size")
    for (kind, precision), shards in _by_kind(manifest):
        table.add_row(kind, precision, str(len(shards)), _size(shards))
    Console().print(table)
    if importance is not None:
        print_importance(importance, card.routing)
    if plot is not None:
        click.echo(f"{plot}: written")
    click.echo(f"version {manifest.model_version}, licence {manifest.license or 'unknown'}")
    click.echo(f"source {manifest.source or 'unknown'}")
    click.echo(f"opset {manifest.opset}, onnxruntime {manifest.minimum_onnxruntime} or newer")
    click.echo(f"manifest sha256 {manifest_hash(manifest)}")


@models.command()
@click.argument("folder", type=FOLDER)
@click.option("--public-key", type=click.Path(path_type=Path), help="Check the signature with this key first.")
@click.option("--against", type=FOLDER, help="Also compare with this checkpoint in transformers, per precision.")
@click.option("--tokens", type=int, default=1024, show_default=True, help="Tokens to compare over.")
@JSON_FLAG
def verify(folder: Path, public_key: Path | None, against: Path | None, tokens: int, as_json: bool) -> None:
    """Check every file in FOLDER against the manifest (size, hash, tensors) and run each shard once.

    With --against: logits and perplexity of every precision beside those of the original.
    """
    from models.session import trial_run
    from models.sign import verify_folder

    manifest = read_manifest(folder) if public_key is None else verify_folder(folder, public_key)
    for file in manifest.files:
        read_shard(folder, file)
    with bar("verifying") as advance:
        for done, shard in enumerate(manifest.shards, start=1):
            trial_run(shard, read_shard(folder, shard))
            advance(done, len(manifest.shards), shard.name)
    parity = None if against is None else compared(folder, against, tokens, as_json)
    if as_json:
        signed = public_key is not None
        value = {"folder": str(folder), "verified": len(manifest.shards), "signed": signed, **_summary(manifest)}
        _print_json(value if parity is None else value | {"parity": parity})
    else:
        click.echo(f"{folder}: {len(manifest.shards)} shards are as the manifest says, and run")
        if public_key is not None:
            click.echo(f"signed with {public_key}: {manifest.model.name} version {manifest.model_version}")


def _by_kind(manifest: Manifest) -> list[tuple[tuple[str, str], list[Shard]]]:
    def key(shard: Shard) -> tuple[str, str]:
        return shard.kind, shard.precision

    return [(pair, list(group)) for pair, group in groupby(sorted(manifest.shards, key=key), key=key)]


def _size(shards: tuple[Shard, ...] | list[Shard]) -> str:
    return f"{sum(shard.bytes for shard in shards) / 1e6:.2f} MB"


def _summary(manifest: Manifest) -> dict[str, Any]:
    card = manifest.model
    return {
        "model": card.name,
        "layers": card.layers,
        "experts": card.experts,
        "hidden": card.hidden,
        "block": card.scale_block,
        "model_version": manifest.model_version,
        "license": manifest.license,
        "source": manifest.source,
        "tokenizer_sha256": manifest.tokenizer_sha256,
        "source_sha256": manifest.source_sha256,
        "manifest_sha256": manifest_hash(manifest),
        "opset": manifest.opset,
        "minimum_onnxruntime": manifest.minimum_onnxruntime,
        "perplexity": card.perplexity,
        "shards": [
            {
                "kind": kind,
                "precision": precision,
                "count": len(shards),
                "bytes": sum(s.bytes for s in shards),
            }
            for (kind, precision), shards in _by_kind(manifest)
        ],
    }


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))
