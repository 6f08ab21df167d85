"""`hil config`: check the files people write, print their schemas and examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.json_schema import json_schema, schema_text
from hil_config.schema.load import bench_of, campaign_of, config_hash, default_path
from hil_config.schema.variants import variants_of
from hil_config.schema.yaml_text import read_yaml

KIND = click.Choice(["bench", "campaign"])
FURTHER: list[Callable[[Campaign, Path], None]] = []
"""Checks of a campaign that this package cannot make, as it knows no policies: whoever does adds them."""


@click.group()
def config() -> None:
    """Check and describe bench and campaign files."""


@config.command()
@click.argument("files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check bench and campaign files; every campaign also against the bench given with it."""
    read: list[tuple[Path, Bench | Campaign]] = []
    errors: list[ConfigError] = []
    for path in files:
        try:
            read.append((path, _read(path)))
        except ConfigError as error:
            errors.append(error)
    benches = [one for _, one in read if isinstance(one, Bench)]
    for path, one in read:
        if isinstance(one, Campaign):
            errors += _crossed(one, path, benches)
    if errors:
        raise ConfigError("\n".join(error.message for error in errors), errors[0].hint)
    rows = [_row(path, one) for path, one in read]
    if not as_json:
        for row in rows:
            click.echo(f"{row['file']}: {row['kind']} {row['name']}, {row['boards']} boards: in order")
        return
    answer: dict[str, Any] = {"files": rows}
    campaigns = [one for _, one in read if isinstance(one, Campaign)]
    if len(benches) == len(campaigns) == 1:
        answer["config_sha256"] = config_hash(benches[0], campaigns[0])
    click.echo(json.dumps(answer))


def _read(path: Path) -> Bench | Campaign:
    document = read_yaml(path)
    keys = document.data if isinstance(document.data, dict) else {}
    if "campaign" in keys or "orbit" in keys:
        variants_of(document)  # what a matrix changes must be right, too
        return campaign_of(document)
    if "bench" in keys or "boards" in keys:
        return bench_of(document)
    raise ConfigError(
        f"{document.at(())}: neither a bench file (keys bench, boards) nor a campaign file (keys campaign, orbit)",
        "begin with `bench: NAME` or `campaign: NAME`; `hil config example bench` prints a whole file",
    )


def _crossed(campaign: Campaign, path: Path, benches: list[Bench]) -> list[ConfigError]:
    errors = []
    checks: list[Callable[[Campaign, Path], None]] = [*(partial(_against, bench) for bench in benches), *FURTHER]
    for check in checks:
        try:
            check(campaign, path)
        except ConfigError as error:
            errors.append(error)
    return errors


def _against(bench: Bench, campaign: Campaign, path: Path) -> None:
    campaign.check_against(bench, path)


def _row(path: Path, one: Bench | Campaign) -> dict[str, Any]:
    if isinstance(one, Bench):
        return {"file": str(path), "kind": "bench", "name": one.bench, "boards": len(one.boards)}
    return {"file": str(path), "kind": "campaign", "name": one.campaign, "boards": len(one.orbit.satellites)}


@config.command()
@click.argument("name", type=KIND)
@click.option("--json", "as_json", is_flag=True, help="On one line.")
def schema(name: Literal["bench", "campaign"], as_json: bool) -> None:
    """Print the JSON Schema of a file, for editors."""
    click.echo(json.dumps(json_schema(name)) if as_json else schema_text(name).rstrip("\n"))


@config.command()
@click.argument("name", type=KIND)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the text and its path.")
def example(name: Literal["bench", "campaign"], as_json: bool) -> None:
    """Print the demonstration's file, to copy and edit."""
    path = default_path(name)
    text = path.read_text(encoding="utf-8")
    click.echo(json.dumps({"path": str(path), "text": text}) if as_json else text, nl=as_json)
