"""`hil models delta` and `hil models evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from hil_config.errors import UsageError
from hil_config.wire.delta import Delta, check_fit, decode_delta
from hil_config.wire.minisign import SIGNATURE_SUFFIX

FILE = click.Path(path_type=Path)
CHECKPOINT = click.option("--checkpoint", type=FILE, help="Where tokenizer.json is (default: the reference model's).")
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group()
def delta() -> None:
    """Pack, show, try and merge low-rank deltas of a model's experts."""


@delta.command()
@click.argument("factors", type=FILE)
@click.option("--model", "folder", type=FILE, required=True, help="The model folder that the delta is for.")
@click.option("--name", required=True, help="What requests will call it.")
@click.option("--seq", type=click.IntRange(min=1), default=1, show_default=True, help="Only rises.")
@click.option("--tokens", type=click.IntRange(min=0), default=0, help="Trained on: its weight when merged.")
@click.option("--key", type=FILE, help="Secret key: also write OUT.minisig.")
@click.option("--out", type=FILE, required=True)
@JSON_FLAG
def pack(
    factors: Path, folder: Path, name: str, seq: int, tokens: int, key: Path | None, out: Path, as_json: bool
) -> None:
    """Make a delta file of trained FACTORS (.npz): int8, bound to one model by its hash."""
    from hil_config.wire.manifest import read_manifest
    from models.adapt import pack as pack_factors
    from models.adapt import read_factors

    manifest = read_manifest(folder)
    data = pack_factors(read_factors(factors), name, seq, manifest.source_sha256, tokens=tokens)
    check_fit(decode_delta(data, str(factors)), manifest, str(factors))
    _write(out, data, key, as_json)


@delta.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--seq", type=click.IntRange(min=1), required=True, help="Above those of the merged deltas.")
@click.option("--key", type=FILE, help="Secret key: also write OUT.minisig.")
@click.option("--out", type=FILE, required=True)
@JSON_FLAG
def merge(files: tuple[Path, ...], seq: int, key: Path | None, out: Path, as_json: bool) -> None:
    """Merge deltas that several nodes trained: the mean of their products, weighted by tokens, at the same rank."""
    from models.adapt import merge as merge_deltas
    from models.adapt import pack as pack_factors

    found = [_read(path) for path in files]
    head, newest = found[0].header, max(one.header.seq for one in found)
    if seq <= newest:
        raise UsageError(f"--seq {seq}: one of these deltas is sequence {newest} already", f"use {newest + 1} or more")
    total = sum(one.header.tokens for one in found)
    origin = ", ".join(f"{one.header.name} {one.header.seq}" for one in found)
    data = pack_factors(merge_deltas(found), head.name, seq, head.base_sha256, tokens=total, origin=f"merged: {origin}")
    _write(out, data, key, as_json)


@delta.command()
@click.argument("file", type=FILE)
@JSON_FLAG
def show(file: Path, as_json: bool) -> None:
    """Show what a delta file says of itself."""
    found = _read(file)
    report = _report(file, found)
    if as_json:
        click.echo(json.dumps(report))
        return
    for name, value in report.items():
        click.echo(f"{name:12} {value}")


@delta.command("try")
@click.argument("folder", type=FILE)
@click.argument("file", type=FILE)
@click.option("--text", type=FILE, required=True, help='JSON {"domain": ["text", ...]}, held out from training.')
@click.option("--precision", default="int8", show_default=True, help="Of the expert shards in FOLDER.")
@CHECKPOINT
@JSON_FLAG
def try_(folder: Path, file: Path, text: Path, precision: str, checkpoint: Path | None, as_json: bool) -> None:
    """Perplexity of text without and with the delta FILE, on the model in FOLDER, in this process."""
    import math

    from hil_config.wire.manifest import read_manifest
    from models.adapt import AdaptedProbe
    from models.heldout import sequences, tokenizer_of
    from models.probe import nats

    found, manifest = _read(file), read_manifest(folder)
    check_fit(found, manifest, str(file))
    texts = sequences(text, tokenizer_of(folder, manifest, checkpoint), manifest.model)
    probe = AdaptedProbe(folder, precision)  # type: ignore[arg-type]
    before = nats(probe, texts)
    probe.delta = found
    after = nats(probe, texts)
    report = {
        domain: {"before": round(math.exp(before[domain]), 4), "after": round(math.exp(after[domain]), 4)}
        for domain in texts
    }
    if as_json:
        click.echo(json.dumps({"file": str(file), "perplexity": report}))
        return
    for domain, values in report.items():
        click.echo(
            f"{domain}: perplexity {values['before']:.2f} without, {values['after']:.2f} with {found.header.name}"
        )


@click.command()
@click.argument("folder", type=FILE)
@click.option("--set", "path", type=FILE, help="Evaluation set (default: the reference model's).")
@click.option("--precision", default="int8", show_default=True, help="Of the expert shards in FOLDER.")
@CHECKPOINT
@JSON_FLAG
def evaluate(folder: Path, path: Path | None, precision: str, checkpoint: Path | None, as_json: bool) -> None:
    """Perplexity by domain and cloze accuracy of the model in FOLDER, in this process.

    Through nodes: `workload: {evaluation: reference}` in a campaign.
    """
    from hil_config.wire.manifest import read_manifest
    from models.evaluate import items, log_probabilities, longest, marks, read_evaluation
    from models.heldout import tokenizer_of
    from models.locate import reference_checkpoint
    from models.oracle import Oracle
    from models.progress import bar

    asked = read_evaluation(path or reference_checkpoint() / "evaluation.json")
    tokenizer = tokenizer_of(folder, read_manifest(folder), checkpoint)
    oracle = Oracle(folder, precision)  # type: ignore[arg-type]
    todo = items(asked, tokenizer, oracle.card.begin, longest(oracle.card))
    done = []
    with bar("evaluating") as advance:
        for number, item in enumerate(todo, start=1):
            done.append((item, log_probabilities(oracle.prefill(item.tokens[:-1])[1], item.tokens)))
            advance(number, len(todo), item.domain)
    found = marks(asked, done)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "precision": precision, **found._asdict()}))
        return
    table = Table("domain", "perplexity", "cloze")
    for domain, value in found.perplexity.items():
        right = found.accuracy.get(domain)
        table.add_row(domain, f"{value:.3f}", "none" if right is None else f"{right:.0%}")
    Console().print(table)
    click.echo(f"{found.tokens} tokens, {found.questions} questions; chance is one in the number of choices")


def _read(path: Path) -> Delta:
    from hil_config.errors import ArtefactError

    try:
        return decode_delta(path.read_bytes(), str(path))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}", "make one: hil models delta pack") from error


def _write(out: Path, data: bytes, key: Path | None, as_json: bool) -> None:
    from hil_config.durable_file import write_result
    from hil_config.wire.minisign import sign
    from models.sign import read_secret_key

    secret = read_secret_key(key) if key is not None else None
    found, signature = decode_delta(data, str(out)), out.parent / (out.name + SIGNATURE_SUFFIX)
    if not signature.is_dir():
        signature.unlink(missing_ok=True)  # that of an older file would be wrong
    write_result(out, data)
    if secret is not None:
        comment = f"delta {found.header.name} sequence {found.header.seq}"
        write_result(signature, sign(secret, data, comment).encode())
    report = {**_report(out, found), "signed": secret is not None}
    click.echo(json.dumps(report) if as_json else f"{out}: {len(data)} bytes, {found.header.name} {found.header.seq}")


def _report(path: Path, found: Delta) -> dict[str, object]:
    head = found.header
    experts = len({(layer, expert) for layer, expert, _ in found.factors if expert >= 0})
    return {
        "file": str(path), "name": head.name, "seq": head.seq, "base_sha256": head.base_sha256, "rank": head.rank,
        "experts": experts, "routers": sum(expert < 0 for _, expert, _ in found.factors), "tokens": head.tokens,
        "bytes": path.stat().st_size if path.exists() else 0, "origin": head.origin,
    }  # fmt: skip
