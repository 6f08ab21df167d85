"""Two or more runs, or groups of runs, side by side: what differs in their settings, and what differs in their figures.

Two single runs are paired by request: the same number and the same prompt in both. Groups of runs are paired by seed.
Intervals are those of `intervals.paired_interval`; one that leaves room for no difference means "not distinguishable".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ground_controller.client_events import RequestBegan, TokenArrived
from ground_controller.journal import NAME, Journal
from ground_controller.report.accounting import accounting_of_runs, measure_together
from ground_controller.report.answers import joules_a_token
from ground_controller.report.intervals import Statistic, paired_interval
from ground_controller.report.metrics import Metrics
from ground_controller.report.passed import passed
from ground_controller.run_folder import open_run
from ground_controller.telemetry.tables import token_evidence
from hil_config.errors import HilError, InvalidRunError, UsageError

LEAST_PAIRS = 5
BLOCKS = 10
BY_REQUEST = (
    "Paired by request; energy by tenths of the run. Requests of one run share its machine, its minutes and its heat:"
    " the interval tells these two runs apart and says nothing of what other runs of the same settings would give."
    " Repeat runs with seeds for that."
)
BY_SEED = "Paired by seed: one value a run."


class Line(msgspec.Struct, frozen=True):
    """One metric of one run (or group) against the base. Means over the pairs, or where there are none over what each
    side knows for itself, None if nothing; `low` and `high` of the ratio or of the difference; without an interval
    `note` says why."""

    metric: str
    unit: str
    base: float | None
    other: float | None
    statistic: Statistic
    estimate: float | None
    low: float | None
    high: float | None
    pairs: int
    verdict: str
    note: str = ""


class Comparison(msgspec.Struct, frozen=True):
    """`settings`: key, value of the base, value of the other, only where they differ."""

    base: str
    other: str
    paired_by: str
    accounting: str
    settings: tuple[tuple[str, str, str], ...]
    lines: tuple[Line, ...]


_Pair = tuple[float | None, float | None]


class _Metric(NamedTuple):
    name: str
    unit: str
    statistic: Statistic


_REQUEST = (
    _Metric("time to first token", "ms", "ratio"),
    _Metric("time per output token", "ms", "ratio"),
    _Metric("mixing mass served", "share of top-k", "difference"),
    _Metric("degraded tokens", "share", "difference"),
)
_BLOCK = _Metric("energy gross a token", "J", "ratio")
"""By tenths of the run's time, which are not independent of each other where a load drifts slowly."""
_RUN: tuple[tuple[_Metric, Callable[[Metrics], float | None]], ...] = (
    (_Metric("time per output token, mean", "ms", "ratio"), lambda m: m.answers[0].estimate),
    (_Metric("time per output token, median", "ms", "ratio"), lambda m: m.tpot_ms.get("p50")),
    (_Metric("time to first token, median", "ms", "ratio"), lambda m: m.ttft_ms.get("p50")),
    (_Metric("energy gross a token", "J", "ratio"), lambda m: m.gross_j_per_token),
    (_Metric("energy net a token", "J", "difference"), lambda m: m.net_j_per_token),
    (_Metric("mixing mass served", "share of top-k", "difference"), lambda m: m.kept_mass),
    (_Metric("given up", "nats a token", "difference"), lambda m: m.given_up_nats),
    (_Metric("bytes between satellites", "B", "ratio"), lambda m: float(m.link_bytes)),
    (_Metric("hottest die", "C", "difference"), lambda m: max(n.temperature_peak_c for n in m.nodes)),
    (_Metric("time over the soft limit", "s", "difference"), lambda m: sum(n.over_soft_limit_s for n in m.nodes)),
    (_Metric("largest wear", "full discharges", "difference"), lambda m: max(n.wear for n in m.nodes)),
)


def compare(base: Path, others: tuple[Path, ...]) -> list[Comparison]:
    """Each of `others` against `base`; each is a run folder or a folder of run folders.

    Raises:
        UsageError: a folder holds no run, a run stands on two sides, a single run stands against a group, or nothing
            can be paired.
        InvalidRunError: the runs mix work accountings.
    """
    sides = (base, *others)
    groups = [run_groups(path) for path in sides]
    _refuse_twice(sides, groups)
    accounting = accounting_of_runs(run for runs in groups for run in runs)
    told = side_names(sides)
    return [
        _against(base, groups[0], other, runs, accounting, (told[0], name))
        for other, runs, name in zip(others, groups[1:], told[1:], strict=True)
    ]


def side_names(sides: tuple[Path, ...]) -> tuple[str, ...]:
    """What each side is called: its folder's name, or where two have the same, its path as it was given."""
    names = [path.name if path.name not in {"", ".."} else path.resolve().name for path in sides]
    return tuple(name if names.count(name) == 1 else str(path) for path, name in zip(sides, names, strict=True))


def _refuse_twice(sides: tuple[Path, ...], groups: list[list[Path]]) -> None:
    """UsageError if two sides share a run, by whatever paths: beside itself it would differ in nothing."""
    seen: dict[tuple[int, int], tuple[int, Path]] = {}
    for number, runs in enumerate(groups):
        for run in runs:
            file = (run / NAME).stat()
            side, first = seen.setdefault((file.st_dev, file.st_ino), (number, run))
            if side != number:
                told = f"{run} stands" if first == run else f"{first} and {run} are one run, which stands"
                raise UsageError(
                    f"{told} on two sides ({sides[side]}, {sides[number]}): it cannot be told apart from itself",
                    "name other runs on one of them",
                )


def run_groups(path: Path) -> list[Path]:
    """The run folder, or the run folders in a folder; UsageError where there is none."""
    if (path / NAME).exists():
        return [path]
    found = sorted(folder.parent for folder in path.glob(f"*/{NAME}"))
    if not found:
        raise UsageError(f"{path}: neither a run folder nor a folder of run folders", "give folders under runs/")
    return found


def _meta(run: Path, key: str) -> dict[str, Any]:
    journal = Journal.read(run)
    try:
        found: dict[str, Any] = msgspec.json.decode(journal.meta(key))
        return found
    finally:
        journal.close()


def _against(
    base: Path, ours: list[Path], other: Path, theirs: list[Path], accounting: str, told: tuple[str, str]
) -> Comparison:
    if (len(ours) == 1) != (len(theirs) == 1):
        raise UsageError(
            f"{base} has {len(ours)} runs and {other} has {len(theirs)}: they cannot be paired",
            "compare one run with one run, or groups with the same seeds",
        )
    if len(ours) == 1:
        lines, paired_by = _by_request(ours[0], theirs[0]), BY_REQUEST
    else:
        lines, paired_by = _by_seed(ours, theirs), BY_SEED
    return Comparison(*told, paired_by, accounting, _settings(ours[0], theirs[0]), tuple(lines))


def _settings(a: Path, b: Path) -> tuple[tuple[str, str, str], ...]:
    differ = []
    for part in ("campaign", "bench"):
        flat = [dict(_flat(part, _meta(run, part))) for run in (a, b)]
        for key in sorted(flat[0].keys() | flat[1].keys()):
            left, right = (side.get(key, "-") for side in flat)
            if left != right:
                differ.append((key, left, right))
    return tuple(differ)


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in _flat(f"{key}.{name}", inner)]
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return [pair for i, inner in enumerate(value) for pair in _flat(f"{key}[{i}]", inner)]
    return [(key, str(value))]


class _Request(NamedTuple):
    prompt: str
    values: tuple[float | None, ...]


def _requests(run: Path) -> dict[int, _Request]:
    """Of each request with at least two tokens: the values of `_REQUEST`. Of a mixed fleet, those of real boards."""
    journal = open_run(run)
    try:
        prompts = {}
        for entry in journal.entries("request_begin"):
            began = msgspec.json.decode(entry.body, type=RequestBegan)
            prompts[began.request] = began.prompt
        tokens: dict[int, list[TokenArrived]] = defaultdict(list)
        for entry in journal.entries("client_token"):
            one = msgspec.json.decode(entry.body, type=TokenArrived)
            tokens[one.request].append(one)
        kept: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for _, body in token_evidence(journal):
            kept[body.request].append((body.kept_mass, body.rows * len(body.layers)))
    finally:
        journal.close()
    return {
        request: _Request(prompts[request], _values(came, kept[request]))
        for request, came in tokens.items()
        if request in prompts and len(came) > 1
    }


def _values(came: list[TokenArrived], kept: list[tuple[float, int]]) -> tuple[float | None, ...]:
    """Args: `kept` mass of each step, and its rows once a layer."""
    first = [one.since_us / 1e3 for one in came if one.first]
    later = [one.since_us / 1e3 for one in came if not one.first]
    return (
        first[0] if first else None,
        sum(later) / len(later) if later else None,
        sum(mass * rows for mass, rows in kept) / whole if (whole := sum(rows for _, rows in kept)) else None,
        sum(bool(one.degraded) for one in came) / len(came),
    )


def _by_request(a: Path, b: Path) -> list[Line]:
    ours, theirs = _requests(a), _requests(b)
    same = [r for r in sorted(ours.keys() & theirs.keys()) if ours[r].prompt == theirs[r].prompt]
    if not same:
        raise UsageError(f"{a} and {b} share no request with the same prompt", "compare runs of one workload and seed")
    found = [
        _line(metric, [(ours[r].values[i], theirs[r].values[i]) for r in same]) for i, metric in enumerate(_REQUEST)
    ]
    return [*found, _line(_BLOCK, *_blocks(a, b))]


def _blocks(a: Path, b: Path) -> tuple[list[_Pair], str]:
    """Joules a token in the same tenths of the same orbit; side by side, and why, where they cannot be paired."""
    found = []
    for run in (a, b):
        journal = open_run(run)
        try:
            orbit = msgspec.json.decode(journal.meta("campaign"))["orbit"]
            lived_s = passed(journal).scenario_s
            found.append((joules_a_token(journal, BLOCKS), lived_s, (orbit["duration_s"], orbit["rate"])))
        finally:
            journal.close()
    (ours, first_s, first), (theirs, second_s, second) = found
    alike = abs(first_s - second_s) <= max(first_s, second_s) / (2 * BLOCKS)  # else the tenths are of other seconds
    if first == second and alike and ours and theirs:
        return list(zip(ours, theirs, strict=True)), ""
    silent = " and ".join(side for side, values in (("the base", ours), ("the other", theirs)) if not values)
    why = f"not known of {silent}, or interrupted" if silent else "the orbits or their rates differ"
    if not silent and first == second:
        why = f"they lived through {first_s:.0f} and {second_s:.0f} s of the orbit"
    return [*((one, None) for one in ours), *((None, one) for one in theirs)], why


def _by_seed(a: list[Path], b: list[Path]) -> list[Line]:
    ours, theirs = (_by_own_seed(group, measure_together(group)) for group in (a, b))
    same = sorted(ours.keys() & theirs.keys())
    if len(same) < 2:
        raise UsageError(f"{a[0].parent} and {b[0].parent} share {len(same)} seeds; at least 2 are needed")
    return [_line(metric, [(of(ours[s]), of(theirs[s])) for s in same]) for metric, of in _RUN]


def _by_own_seed(group: list[Path], found: list[Metrics]) -> dict[int, Metrics]:
    """InvalidRunError for a seed that comes twice, or a run without its end: its totals are of part of the orbit."""
    if len({m.seed for m in found}) != len(group):
        raise InvalidRunError(f"{group[0].parent}: several runs have the same seed", "give each run its own seed")
    for run, metrics in zip(group, found, strict=True):
        if not metrics.complete:
            raise InvalidRunError(
                f"{run}: the run has not ended: its totals are of {metrics.scenario_s:g} s of the orbit",
                f"go on with it: hil campaign resume {run}; or take its folder away",
            )
    return {m.seed: m for m in found}


def _line(metric: _Metric, values: list[_Pair], why: str = "") -> Line:
    """`values`: base and other, pair by pair. Pairs with a figure missing are left out, and counted. `why`: they are no
    pairs, and for what reason."""
    pairs = [(a, b) for a, b in values if a is not None and b is not None]
    left_out = len(values) - len(pairs)
    note = f"{left_out} pairs without a figure left out" if left_out and not why else ""
    mean_a, mean_b = (_mean([pair[i] for pair in pairs or values]) for i in (0, 1))

    def without(reason: str) -> Line:
        told = f"{reason}; {note}" if note else reason
        return Line(
            metric.name, metric.unit, mean_a, mean_b, metric.statistic, None, None, None, len(pairs), "no answer", told
        )  # fmt: skip

    if not pairs:
        silent = " and ".join(side for side, mean in (("the base", mean_a), ("the other", mean_b)) if mean is None)
        return without(f"no figures to pair: {why or f'not known of {silent}'}")
    if len(pairs) < LEAST_PAIRS:
        return without(f"{len(pairs)} pairs; at least {LEAST_PAIRS} are needed")
    try:
        found = paired_interval([b for _, b in pairs], [a for a, _ in pairs], metric.statistic)
    except HilError as error:
        return without(error.message)
    return Line(
        metric.name, metric.unit, mean_a, mean_b, metric.statistic, found.estimate, found.low, found.high, found.pairs,
        found.verdict, note,
    )  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
