"""A whole campaign under mutual TLS: certificates from the bench's authority, sealed frames, signed orders."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_tools.identity import (
    COMMAND_KEY_FILE,
    COMMAND_PUBLIC_FILE,
    Authority,
    make_command_key,
    write_identity,
    write_private,
)
from ground_controller.journal import Journal
from tests.campaign.conftest import SHORT, hil, write_files


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A folder as `hil bench init` makes it."""
    folder = tmp_path / "identity"
    authority = Authority.create("demo")
    authority.write(folder)
    for name in ("broker", "ground"):
        write_identity(folder / name, authority.issue(name))
    private, public = make_command_key()
    write_private(folder / COMMAND_KEY_FILE, private)
    write_private(folder / COMMAND_PUBLIC_FILE, public, 0o644)
    return folder


def test_a_campaign_under_tls_generates_and_replays(
    tmp_path: Path, identity: Path, journal: Callable[[Path], Journal]
) -> None:
    home = tmp_path / "temporary"
    home.mkdir()
    bench, campaign = write_files(
        tmp_path / "files", {"identity": str(identity)},
        {**copy.deepcopy(SHORT), "links.relay": True, "links.jitter_s": 0.0005},
    )  # fmt: skip
    run = tmp_path / "run"
    done = hil("campaign", "run", str(bench), str(campaign), "--out", str(run), "--json", TMPDIR=str(home))
    logs = "".join(path.read_text() for path in run.glob("*.log"))
    assert done.returncode == 0, f"{done.stderr}\n{logs[-2000:]}"
    assert json.loads(done.stdout)["metrics"]["tokens"] > 20
    config = (run / "mosquitto.conf").read_text()
    assert "require_certificate true" in config and "allow_anonymous false" in config
    assert not list(home.glob("hil-identity-*")), "the local agents' keys are gone"
    secrets = [line for key in identity.rglob("*key.pem") for line in key.read_text().splitlines()[1:-1]]
    for path in run.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"PRIVATE KEY" not in data and not any(line.encode() in data for line in secrets), path
    replay = hil("campaign", "replay", str(run), "--json")
    assert replay.returncode == 0, replay.stderr
    assert journal(run).meta("records_missing") == "{}"


def test_an_identity_folder_that_is_none_is_named(tmp_path: Path) -> None:
    bench, campaign = write_files(tmp_path / "files", {"identity": str(tmp_path / "absent")}, copy.deepcopy(SHORT))
    done = hil("campaign", "run", str(bench), str(campaign), "--out", str(tmp_path / "run"))
    assert done.returncode == 3 and "absent/ca.pem: cannot be read" in done.stderr and "hil bench init" in done.stderr
