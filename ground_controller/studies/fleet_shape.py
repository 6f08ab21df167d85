"""Two trade-offs of how a fleet is laid out: access latency against storage, and where the four boards fly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ground_controller.preparation import Prepared
from ground_controller.report.metrics import Metrics
from ground_controller.studies.chart import Chart, Curve, Study, Table
from ground_controller.studies.simulated import ONE_BOARD, STATION, Case, run_cases, satellite

Told = Callable[[str], None]
Ran = list[tuple[Prepared, Metrics]]
MODELLED = "modelled: orbits, links, boards, times and energy (hil simulate); nothing here ran on a board"
RING = tuple(satellite(0, slot) for slot in range(4))
COPIES = tuple(Case(f"{count} of each expert", RING, count) for count in (1, 2, 3, 4))
SHAPES = (
    Case("one satellite", (satellite(0, 0), satellite(0, 1)), placement=ONE_BOARD),
    Case("ring in a plane", RING),
    Case("across planes", tuple(satellite(plane, 0) for plane in range(4))),
    Case("ground-assisted", (*RING[:3], STATION.name)),
)


def storage_study(seeds: int, duration_s: float, told: Told, cases: Sequence[Case] = COPIES) -> Study:
    """Access latency against storage: every expert on one to all of four boards in a plane."""
    found = run_cases(cases, range(seeds), duration_s, told)
    held = [_held_mb(found[case.name][0][0]) for case in cases]
    rows = [
        (case.name, f"{mb:.2f}", f"{mb - held[0]:.2f}", *_figures(found[case.name]))
        for case, mb in zip(cases, held, strict=True)
    ]
    charts = tuple(
        Chart(name, f"{what} against memory (modelled)", "MB of experts on all boards", unit,
              (_curve("four boards in a plane", held, [_each(found[case.name], key) for case in cases]),))
        for name, what, unit, key in (
            ("storage-latency", "Time a token", "ms a token, median", "tpot"),
            ("storage-bytes", "Bytes between satellites", "bytes a token", "bytes"),
        )
    )  # fmt: skip
    head = ("copies", "MB of experts", "MB that copies add", *_HEAD)
    text = (
        f"Four boards in neighbouring slots of a plane of a Walker shell, {duration_s:g} s, the reference model, top-k,"
        f" {seeds} seeds. What copies add is also what has to be sent once, from a board that has it to one that has"
        " not. top-k shares a row's experts out over all copies, near and far, so that a token waits for the farthest"
        " of more boards. What copies are for, boards that fail, does not happen here.",
        *_unknown(found),
    )
    numbers = {"seeds": seeds, "duration_s": duration_s, "held_mb": held, "figures": _numbers(found)}
    return Study("storage", "Access latency against storage", MODELLED, _command("storage", seeds, duration_s),
                 (Table("Copies of every expert", head, tuple(rows)),), charts, text, numbers)  # fmt: skip


def architecture_study(seeds: int, duration_s: float, told: Told, cases: Sequence[Case] = SHAPES) -> Study:
    """One satellite, a ring in its plane, across planes, with a ground station: the same work on each."""
    found = run_cases(cases, range(seeds), duration_s, told)
    rows = [(case.name, *_figures(found[case.name])) for case in cases]
    energies = {case.name: _each(found[case.name], "energy") for case in cases}
    charts = (Chart(
        "architecture", "Energy against time a token, by architecture (modelled)", "ms a token, median",
        "J a token, gross",
        tuple(
            _curve(case.name, [float(np.mean(_each(found[case.name], "tpot")))], [energies[case.name]])
            for case in cases
        ), "points",
    ),) if np.isfinite(list(energies.values())).all() else ()  # fmt: skip
    text = (
        f"The reference model, top-k, {duration_s:g} s of orbit, {seeds} seeds. One satellite holds everything and"
        " sends nothing between satellites; its second board stands by and its idle power counts. The others share"
        f" experts over four. The station ({STATION.name}) reaches the satellites over whatever the shell relays;"
        " energy counts idle power of all boards.",
        *_unknown(found),
    )
    numbers = {"seeds": seeds, "duration_s": duration_s, "figures": _numbers(found)}
    return Study("architecture", "Architectures", MODELLED, _command("architecture", seeds, duration_s),
                 (Table("Where the boards are", ("architecture", *_HEAD), tuple(rows)),), charts, text,
                 numbers)  # fmt: skip


_HEAD = ("ms/token p50", "p95", "tokens/s", "bytes/token", "J/token gross")
_KEYS = {
    "tpot": "tpot_ms_p50", "p95": "tpot_ms_p95", "rate": "tokens_per_s", "bytes": "bytes_per_token",
    "energy": "gross_j_per_token",
}  # fmt: skip


def _command(name: str, seeds: int, duration_s: float) -> str:
    return f"hil study {name} --seeds {seeds} --duration-s {duration_s:g}"


def _numbers(found: dict[str, Ran]) -> dict[str, dict[str, list[float | None]]]:
    """By case, every figure of the table, one value a seed; None where a run does not give it."""
    return {
        case: {name: [one if math.isfinite(one) else None for one in _each(ran, key)] for key, name in _KEYS.items()}
        for case, ran in found.items()
    }


def _unknown(found: dict[str, Ran]) -> tuple[str, ...]:
    """Why energy is not known, where it is not."""
    notes = dict.fromkeys(
        node.energy_note for ran in found.values() for _, m in ran if m.gross_j_per_token is None for node in m.nodes
    )
    return (f"Energy is not known: {'; '.join(notes)}.",) if notes else ()


def _held_mb(prepared: Prepared) -> float:
    size = {(s.layer, s.expert): s.bytes for s in prepared.manifest.shards if s.kind == "expert"}
    return (
        sum(
            size[layer, expert] * len(nodes)
            for layer, row in enumerate(prepared.placement.holders)
            for expert, nodes in enumerate(row)
        )
        / 1e6
    )


def _each(ran: Ran, key: str) -> list[float]:
    of: dict[str, Callable[[Metrics], float]] = {
        "tpot": lambda m: m.tpot_ms["p50"],
        "p95": lambda m: m.tpot_ms["p95"],
        "rate": lambda m: m.tokens_per_s,
        "bytes": lambda m: m.link_bytes / max(1, m.tokens),
        "energy": lambda m: m.gross_j_per_token if m.gross_j_per_token is not None else float("nan"),
    }
    return [of[key](metrics) for _, metrics in ran]


def _figures(ran: Ran) -> tuple[str, ...]:
    patterns = (("tpot", ".1f"), ("p95", ".1f"), ("rate", ".1f"), ("bytes", ".0f"), ("energy", ".3f"))
    means = ((float(np.mean(_each(ran, key))), pattern) for key, pattern in patterns)
    return tuple(format(mean, pattern) if math.isfinite(mean) else "not known" for mean, pattern in means)


def _curve(name: str, x: Sequence[float], each: Sequence[Sequence[float]]) -> Curve:
    """Means, with the least and the greatest of the seeds."""
    return Curve(
        name, tuple(x), tuple(float(np.mean(one)) for one in each), tuple(min(one) for one in each),
        tuple(max(one) for one in each),
    )  # fmt: skip
