"""`hil models calibrate` and `hil models budget`, and what `hil models show` says of importance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from hil_config.errors import EnvironmentFault, UsageError
from hil_config.wire.importance import Importance, encode_importance, read_importance
from hil_config.wire.manifest import MANIFEST_NAME, Routing, encode_manifest, read_manifest
from hil_config.wire.minisign import SIGNATURE_SUFFIX

FILE = click.Path(path_type=Path)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
ALLOCATION_NAME = "allocation.json"


@click.command()
@click.argument("folder", type=FILE)
@click.option("--checkpoint", type=FILE, help="Where tokenizer.json is (default: the reference model's).")
@click.option("--text", type=FILE, help='JSON {"domain": ["text", ...]} (default: calibration.json there).')
@click.option("--ablate", type=int, multiple=True, help="Leave out only the experts of these layers, one by one.")
@JSON_FLAG
def calibrate(folder: Path, checkpoint: Path | None, text: Path | None, ablate: tuple[int, ...], as_json: bool) -> None:
    """Measure what each expert of FOLDER is worth on text, and name the result in its manifest.

    Build FOLDER with several precisions to learn what each costs. The manifest changes: sign it again.
    """
    from hil_config.durable_file import write_durably
    from models.calibrate import calibrate as measure
    from models.card import write_importance_file
    from models.heldout import sequences, tokenizer_of
    from models.locate import reference_checkpoint
    from models.progress import bar

    source, manifest = checkpoint or reference_checkpoint(), read_manifest(folder)
    card = manifest.model
    for layer in ablate:
        if not 0 <= layer < card.layers:
            raise UsageError(f"--ablate {layer}: {card.name} has layers 0 to {card.layers - 1}", "name another layer")
    texts = sequences(text or source / "calibration.json", tokenizer_of(folder, manifest, checkpoint), card)
    with bar("calibrating") as advance:
        found = measure(folder, texts, ablate or None, advance)
    # Policies of before this file read the card: it says the same.
    card = msgspec.structs.replace(card, activation=found.activation, importance=found.contribution)
    try:
        file = write_importance_file(folder, encode_importance(found))
        files = (*(other for other in manifest.files if other.name != file.name), file)
        (folder / (MANIFEST_NAME + SIGNATURE_SUFFIX)).unlink(missing_ok=True)
        named = msgspec.structs.replace(manifest, files=files, model=card)
        write_durably(folder / MANIFEST_NAME, encode_manifest(named))
    except OSError as error:
        hint = "make room there, and measure again"
        raise EnvironmentFault(f"{folder}: cannot be written: {error.strerror}", hint) from error
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **summary(found)}))
    else:
        print_importance(found, card.routing)
        click.echo(f"{folder / file.name}: written; the manifest names it now and must be signed again")


@click.command()
@click.argument("folder", type=FILE)
@click.option("--bytes", "size", help="Of all expert shards together, such as 2.5MB, 900kB or a number.")
@click.option("--joules", type=float, help="Of all expert calls of a token (with --call-joules).")
@click.option("--call-joules", multiple=True, metavar="PRECISION=J", help="Joules of one expert call; repeat.")
@click.option("--keep-all", is_flag=True, help="Drop no expert.")
@click.option(
    "--out", type=FILE, help=f"Write the allocation here (default: print it; a usual name: {ALLOCATION_NAME})."
)
@JSON_FLAG
def budget(
    folder: Path, size: str | None, joules: float | None, call_joules: tuple[str, ...], keep_all: bool,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Choose a precision for every expert of FOLDER, or none, under a budget of bytes or joules."""
    from hil_config.durable_file import write_result
    from models import budget as knapsack

    manifest = read_manifest(folder)
    found = read_importance(folder, manifest)
    if found is None:
        raise UsageError(f"{folder}: no importance measured yet", f"measure it: hil models calibrate {folder}")
    if (size is None) == (joules is None):
        raise UsageError("a budget is either --bytes or --joules", "give one of them")
    if size is not None:
        weights, limit, unit = knapsack.byte_weights(found, manifest.shards), parse_bytes(size), "bytes"
    else:
        assert joules is not None
        each, known = _pairs(call_joules), [c.precision for c in found.precisions]
        if strange := sorted(set(each) - set(known)):
            raise UsageError(
                f"--call-joules {strange[0]}: not measured in {folder}", f"measured are {', '.join(known)}"
            )
        weights, limit, unit = knapsack.energy_weights(found, each), joules, "J a token"
        if not weights:
            raise UsageError("--joules needs the joules of a call", "add --call-joules int8=0.0004 for each precision")
    chosen = knapsack.allocate(knapsack.options(found, weights, drop=not keep_all), limit)
    table = [[chosen.choice[layer, expert] for expert in range(len(row))] for layer, row in enumerate(found.activation)]
    bare = [layer for layer, row in enumerate(table) if set(row) == {knapsack.DROP}]
    if bare:
        layers = ", ".join(map(str, bare))
        click.echo(f"warning: no expert is left in layer {layers}; a campaign refuses that: add --keep-all", err=True)
    report = {
        "folder": str(folder), "unit": unit, "budget": limit, "weight": chosen.weight, "nats": round(chosen.nats, 6),
        "gap": round(chosen.gap, 9), "counts": chosen.counts(), "precision": table,
    }  # fmt: skip
    if out is not None:
        write_result(out, json.dumps(report, indent=1).encode())
    if as_json:
        click.echo(json.dumps(report))
        return
    for layer, line in enumerate(table):
        click.echo(f"layer {layer:2}: {' '.join(f'{name:>4}' for name in line)}")
    counts = ", ".join(f"{count} {name}" for name, count in chosen.counts().items())
    proof = "proven best" if chosen.gap == 0 else f"at most {chosen.gap:.2g} above the best"
    click.echo(f"{counts}: {chosen.weight:g} of {limit:g} {unit}")
    click.echo(f"expected rise {chosen.nats:.4f} nats a token (sum of single ones; {proof})")


def parse_bytes(text: str) -> float:
    """2.5MB, 900kB, 3MiB or a plain number."""
    units = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "b": 1.0, "": 1.0}
    number = text.strip().lower()
    digits = number.rstrip("kmgib ")
    try:
        value = float(digits) * units[number[len(digits) :].strip()]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--bytes {text!r}: wanted a size such as 2.5MB", "units: B, kB, MB, GB, KiB, MiB, GiB")
    return value


def _pairs(texts: tuple[str, ...]) -> Mapping[str, float]:
    out = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = -1.0
        if not 0 < out[name] < float("inf"):
            raise UsageError(f"--call-joules {text!r}: wanted PRECISION=JOULES", "such as int8=0.0004")
    return out


def summary(found: Importance) -> dict[str, object]:
    """For --json."""
    return {
        "calibration_tokens": found.tokens, "mutual_information_bits": found.mutual_information,
        "sensitivity": found.sensitivity, "nats": found.nats, "contribution": found.contribution,
        "drop_nats": found.drop_nats, "substitute": found.substitute,
        "precision_cost": {c.precision: c.whole_nats for c in found.precisions},
    }  # fmt: skip


def print_importance(found: Importance, routing: Routing) -> None:
    """A line a layer. Experts that every token uses have no load to be told from others'."""
    table = Table(
        "layer", "MI, bits", "sensitivity", "most loaded", "||w y|| most", "least", "rise without: most", "least"
    )
    for layer, row in enumerate(found.activation):
        load = row[: len(row) - routing.always_on]
        length, drop = found.contribution[layer], found.drop_nats[layer]
        known = found.ablation[layer][0] != -1.0  # a measured rise can be below 0
        table.add_row(
            str(layer), f"{found.mutual_information[layer]:.3f}", f"{found.sensitivity[layer]:.2e}",
            f"{max(load) / (sum(load) / len(load)):.2f} x mean", f"{max(length):.3f} (e{length.index(max(length))})",
            f"{min(length):.3f} (e{length.index(min(length))})",
            f"{max(drop):.4f} (e{drop.index(max(drop))})", f"{min(drop):.4f}{'' if known else ' estimated'}",
        )  # fmt: skip
    console = Console()
    console.print(f"importance, measured on {sum(found.tokens.values())} tokens of {', '.join(found.domains)}:")
    console.print(table)
    for cost in found.precisions:
        if cost.whole_nats:
            rise = sum(cost.whole_nats.values()) / len(cost.whole_nats)
            console.print(f"all experts {cost.precision}: {rise:+.4f} nats a token against {found.reference}")
