"""`hil models keygen` and `hil models sign`."""

from __future__ import annotations

import json
from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--out", type=FILE, required=True, help="Names the pair: OUT.key stays with you, OUT.pub goes to boards.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def keygen(out: Path, as_json: bool) -> None:
    """Make a key pair for signing models and deltas (minisign format, no passphrase)."""
    from models.sign import new_key, write_keys

    secret = new_key()
    key, public = write_keys(secret, out)
    if as_json:
        click.echo(json.dumps({"key": str(key), "public": str(public), "public_key": secret.public.text}))
        return
    click.echo(f"{key}: secret, mode 600; keep it off the boards")
    click.echo(f"{public}: for the agents' trust.keys: {secret.public.text}")


@click.command()
@click.argument("folder", type=FILE)
@click.option("--key", type=FILE, required=True, help="Secret key file of `hil models keygen`.")
@click.option("--model-version", type=click.IntRange(min=1), help="Publish as this version; versions only rise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def sign(folder: Path, key: Path, model_version: int | None, as_json: bool) -> None:
    """Sign the model in FOLDER: writes manifest.json.minisig beside the manifest."""
    from hil_config.wire.manifest import manifest_hash
    from models.sign import read_secret_key, sign_folder

    secret = read_secret_key(key)
    manifest = sign_folder(folder, secret, model_version)
    report = {
        "folder": str(folder), "model": manifest.model.name, "model_version": manifest.model_version,
        "key": secret.public.name, "manifest_sha256": manifest_hash(manifest),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(f"{folder}: {manifest.model.name} version {manifest.model_version} signed by {secret.public.name}")
