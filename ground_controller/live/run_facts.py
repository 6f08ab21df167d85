"""What does not change during a run, as a person who watches it needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from ground_controller.journal import NAME, Journal
from ground_controller.report.sky_sources import sky_sources
from ground_controller.telemetry.sources import generated, timed
from hil_config.errors import HilError, UsageError
from hil_config.wire.manifest import ModelCard
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint

RUNS = Path("runs")
DEEPEST = 4
"""Folders below that may hold runs: a matrix keeps them at NAME/VARIANT/again/sSEED."""


class RunLimits(msgspec.Struct, frozen=True):
    """Beyond soft a node gets no new work, beyond hard it refuses work. Degrees C; charge 0 to 1."""

    temperature_soft_c: float
    temperature_hard_c: float
    charge_soft: float
    charge_hard: float


class RunFacts(msgspec.Struct, frozen=True):
    """`layers` with experts, `experts` in each. `duration_s`: orbit; `rate`: orbit seconds a host second. `sources`:
    where quantities come from that all nodes share."""

    run: str
    campaign: str
    policy: str
    simulated: bool
    began_utc: str
    nodes: tuple[str, ...]
    satellites: tuple[str, ...]
    layers: int
    experts: int
    duration_s: float
    rate: float
    tick_s: float
    limits: RunLimits
    sources: dict[str, str]


def run_facts(journal: Journal) -> RunFacts | None:
    """None as long as the run has not written what it starts with."""
    card_text = journal.meta("model_card", "")
    if not card_text:
        return None
    bench, campaign = (msgspec.json.decode(journal.meta(key)) for key in ("bench", "campaign"))
    card = msgspec.json.decode(card_text, type=ModelCard)
    orbit, limits = campaign["orbit"], campaign["twin"]["limits"]
    return RunFacts(
        run=journal.path.parent.name, campaign=campaign["campaign"], policy=campaign["policies"]["selection"]["name"],
        simulated=bool(journal.meta("simulated", "")), began_utc=journal.meta("began_utc", ""),
        nodes=tuple(board["name"] for board in bench["boards"]), satellites=tuple(orbit["satellites"]),
        layers=card.layers, experts=card.experts, duration_s=float(orbit["duration_s"]), rate=float(orbit["rate"]),
        tick_s=float(campaign["control"]["tick_s"]),
        limits=RunLimits(*(float(limits[name]) for name in RunLimits.__struct_fields__)),
        sources=_sources(journal, campaign),
    )  # fmt: skip


def _sources(journal: Journal, campaign: dict[str, Any]) -> dict[str, str]:
    return {
        "temperature, charge": "modelled(twin: thermal network and battery)",
        "tokens per second": str(timed(journal, "the ground's monotonic clock")),
        "times of frames and layers": str(timed(journal, "monotonic clocks of client and gateways")),
        "text": str(generated(journal, "onnxruntime on quantised shards")),
        **sky_sources(campaign["orbit"]),
    }


def kills_asked_for(journal: Journal) -> dict[str, float]:
    """Of a simulated run: nodes that were to fail, and the scenario second."""
    told = journal.meta("simulated", "")
    kills = msgspec.json.decode(told)["kills"] if told else ()
    return {str(node): float(at_s) for node, at_s in kills}


def run_tokenizer(journal: Journal) -> Tokenizer | None:
    """Of the model that the run served; None where its files are not here."""
    named = msgspec.json.decode(journal.meta("campaign"))["model"]["checkpoint"]
    try:
        return read_tokenizer(reference_checkpoint() if named == "reference" else Path(named))
    except HilError:
        return None


def run_to_watch(named: Path | None) -> Path:
    """The run folder that was named, else the one written to last below it: of a matrix of runs, or of `runs/`.

    Raises:
        UsageError: there is none.
    """
    if named is not None and ((named / NAME).exists() or not named.is_dir()):
        return named
    below = RUNS if named is None else named
    found = [path.parent for depth in range(1, DEEPEST + 1) for path in below.glob("*/" * depth + NAME)]
    if not found:
        raise UsageError(f"{below}: holds no run", "name a run folder, or begin a run: hil campaign run --demo")
    return max(found, key=written_s)


def written_s(folder: Path) -> float:
    """When the journal of a run was written to last, seconds since 1970."""
    paths = (folder / NAME, folder / f"{NAME}-wal")
    return max(path.stat().st_mtime for path in paths if path.exists())
