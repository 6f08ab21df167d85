"""Why this expert, on that host: a token's choices told from the record of its run, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.client_events import AttemptBegan, TokenArrived
from ground_controller.core import Core
from ground_controller.decision import Decision
from ground_controller.explain_hops import Hop, ScheduledDelays, Step, call_hops, hand_overs
from ground_controller.journal import Journal
from ground_controller.replay import prepare_again
from ground_controller.run_folder import open_run
from ground_controller.telemetry.sources import timed
from hil_config.errors import HilError, InvalidRunError, UsageError
from hil_config.wire.manifest import ModelCard, Routing
from hil_config.wire.messages import LayerEvidence, Record, TokenEvidence, decode
from hil_config.wire.plan import SelectionPlan
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.serving.layer_gate import LayerGate, compile_layer, pick_offsets, row_fraction, unpriced

F32 = NDArray[np.float32]


class Pick(msgspec.Struct, frozen=True):
    """An expert that was used. `score` and `mixing` are the router's, `price` the plan's, `utility` what the gate
    ranked by. `replicas`: who could have served it, with shares; `why_host`: how the host was found among them."""

    expert: int
    host: str
    score: float
    mixing: float
    price: float
    utility: float
    replicas: tuple[tuple[str, float], ...]
    why_host: str


class PassedOver(msgspec.Struct, frozen=True):
    """An expert that the model's own top-k names and that was not used, with the reason."""

    expert: int
    score: float
    why: str


class LayerWhy(msgspec.Struct, frozen=True):
    """One layer. `top_k`: the model's own picks, best first. Times in microseconds, as in LayerEvidence. `hops`: to the
    hosts of the picks and back; `link_us` is of the one that answered last, for all rows that shared the call."""

    layer: int
    gateway: str
    top_k: tuple[int, ...]
    picks: tuple[Pick, ...]
    passed_over: tuple[PassedOver, ...]
    kept_mass: float
    unreachable: tuple[str, ...]
    rerouted: int
    lost: int
    trunk_us: float
    link_us: float
    queue_us: float
    expert_us: float
    hops: tuple[Hop, ...]


class PlanWhy(msgspec.Struct, frozen=True):
    """The plan in force. `issued_s`: scenario second; an expired one was answered with plain top-k."""

    version: int
    issued_s: float
    policy: str
    reason: str
    expired: bool
    k_min: int
    k_max: int
    coverage: float
    threshold: float


class NodeThen(msgspec.Struct, frozen=True):
    """A node when the plan was made. Temperature, charge and sunlight are the twin's: modelled."""

    node: str
    alive: bool
    in_service: bool
    temperature_c: float
    charge: float
    sunlit: float


class TokenWhy(msgspec.Struct, frozen=True):
    """The `number`-th token that came to the client (from 1), and what led to it.

    `since_us`: since the token before it, or since its request began (`first`). `attempts`: why the request began again
    before it, if it did. `hand_overs`: from gateway to gateway. `times`: measured, modelled or fake, all but the
    scheduled ones, which are modelled.
    """

    number: int
    request: int
    attempt: int
    position: int
    token: int
    text: str
    first: bool
    since_us: float
    degraded: tuple[str, ...]
    attempts: tuple[str, ...]
    plans: tuple[PlanWhy, ...]
    nodes: tuple[NodeThen, ...]
    layers: tuple[LayerWhy, ...]
    hand_overs: tuple[Hop, ...]
    times: str


def explain_token(folder: Path, number: int) -> TokenWhy:
    """The story of the `number`-th token of a run.

    Raises:
        UsageError: the run has no such token.
        InvalidRunError: the record does not hold what its gateways did (a node died with it).
    """
    journal = open_run(folder)  # of a fleet with model boards the real ones, whose client numbers tokens
    try:
        arrived = _arrived(journal, folder, number)
        steps = _steps(journal, arrived)
        if not steps:
            raise InvalidRunError(
                f"{folder}: no gateway's record of token {number} (request {arrived.request}, position "
                f"{arrived.position}) reached the ground",
                "hil report names the nodes that died with records",
            )
        decisions = {step.body.plan_version: _decision(journal, step.body.plan_version) for step in steps}
        plans = {version: decision.plan for version, decision in decisions.items()}
        card = msgspec.json.decode(journal.meta("model_card"), type=ModelCard)
        delays = ScheduledDelays(journal, folder)
        layers = [
            _layer(step, layer, plans[step.body.plan_version], card, delays)
            for step in steps
            for layer in sorted(step.body.layers, key=lambda one: one.layer)
        ]
        return TokenWhy(
            number, arrived.request, arrived.attempt, arrived.position, arrived.token, _text(journal, arrived.token),
            arrived.first, arrived.since_us, arrived.degraded, _attempts(journal, arrived),
            tuple(_plan_why(plans[body.plan_version], body.plan_expired) for body in _one_a_plan(steps)),
            _nodes_then(decisions[steps[-1].body.plan_version]),
            tuple(sorted(layers, key=lambda one: one.layer)),
            hand_overs(delays, steps, plans[steps[-1].body.plan_version]),
            str(timed(journal, "clocks of client and nodes")),
        )  # fmt: skip
    finally:
        journal.close()


def token_number(folder: Path, request: int, position: int) -> int:
    """The number of the token that stands at a position of a request; UsageError if none does."""
    # Of a fleet with model boards the real ones, whose client numbers tokens.
    journal, there, last = open_run(folder), list[int](), 0
    try:
        for number, entry in enumerate(journal.entries("client_token"), 1):
            one = msgspec.json.decode(entry.body, type=TokenArrived)
            last = max(last, one.request)
            if one.request == request:
                there.append(one.position)
                if one.position == position:
                    return number
    finally:
        journal.close()
    if there:
        hint = f"its tokens stand at positions {min(there)} to {max(there)}; those before are the prompt's"
    else:
        hint = f"tokens came of requests up to {last}: hil export {folder} lists them in tokens.csv"
    raise UsageError(f"{folder}: request {request} has no token at position {position}", hint)


def _arrived(journal: Journal, folder: Path, number: int) -> TokenArrived:
    count = 0
    for entry in journal.entries("client_token"):
        count += 1
        if count == number:
            return msgspec.json.decode(entry.body, type=TokenArrived)
    if not count:
        raise UsageError(f"{folder}: found token {number}, but the run has no token", f"hil report {folder}")
    raise UsageError(
        f"{folder}: found token {number}, wanted 1 to {count}: the run has {count} tokens",
        f"hil explain {folder} --token {count}",
    )


def _steps(journal: Journal, arrived: TokenArrived) -> list[Step]:
    """What the gateways on its way recorded, in the order of the layers."""
    found = []
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        same = (body.request, body.attempt, body.start + body.rows) == (
            arrived.request, arrived.attempt, arrived.position,
        )  # fmt: skip
        if same and body.layers:
            found.append(Step(entry.node, entry.boot_id, body))
    return sorted(found, key=lambda step: step.body.layers[0].layer)


def _one_a_plan(steps: list[Step]) -> list[TokenEvidence]:
    return list({step.body.plan_version: step.body for step in steps}.values())


def _decision(journal: Journal, version: int) -> Decision:
    """That made the plan; the first one was made before the first tick and is derived again."""
    for entry in journal.entries("decision"):
        if entry.tick + 1 == version:
            return msgspec.json.decode(entry.body, type=Decision)
    prepared = prepare_again(journal)
    epoch, ttl_s = int(journal.meta("epoch")), prepared.campaign.control.plan_ttl_s
    return Core(prepared.setting, prepared.policy, epoch, ttl_s).advance(-1, 0.0, [])


def _nodes_then(decision: Decision) -> tuple[NodeThen, ...]:
    return tuple(NodeThen(n.node, n.alive, n.in_service, n.temperature_c, n.charge, n.sunlit) for n in decision.nodes)


def _plan_why(plan: SelectionPlan, expired: bool) -> PlanWhy:
    return PlanWhy(
        plan.version, plan.issued_s, plan.policy, plan.reason, expired, plan.k_min, plan.k_max, plan.coverage,
        plan.threshold,
    )  # fmt: skip


def _text(journal: Journal, token: int) -> str:
    """The token as text; "" where the model's files are not here any more."""
    campaign = msgspec.json.decode(journal.meta("campaign"))
    named = campaign["model"]["checkpoint"]
    try:
        found: str = read_tokenizer(reference_checkpoint() if named == "reference" else Path(named)).decode([token])
    except HilError:
        return ""
    return found


def _attempts(journal: Journal, arrived: TokenArrived) -> tuple[str, ...]:
    begun = (msgspec.json.decode(entry.body, type=AttemptBegan) for entry in journal.entries("attempt"))
    return tuple(
        one.reason for one in begun if one.request == arrived.request and one.attempt <= arrived.attempt and one.reason
    )


def _layer(
    step: Step, layer: LayerEvidence, plan: SelectionPlan, card: ModelCard, delays: ScheduledDelays
) -> LayerWhy:  # fmt: skip
    """The last row: the one that the token followed from."""
    node, body = step.node, step.body
    used = unpriced(plan, card.routing.top_k) if body.plan_expired else plan
    alive = np.frombuffer(layer.live, np.uint8).astype(bool)
    gate = compile_layer(used, layer.layer, alive)
    scores: F32 = np.frombuffer(layer.scores, "<f4").reshape(body.rows, card.experts)[-1]
    mixing = _mixing(layer, scores, body.rows, card.routing)
    utility = np.where(gate.live, gate.gain * scores - gate.price, -np.inf)
    fraction = float(row_fraction(body.request, body.start, body.rows, layer.layer)[-1])
    experts = np.frombuffer(layer.picks, "<i2").reshape(body.rows, -1)[-1]
    hosts = np.frombuffer(layer.hosts, "<i2").reshape(body.rows, -1)[-1]
    fractions = (fraction - np.array(pick_offsets(len(experts)))) % 1.0
    source = {int(gate.target[e]): int(e) for e in np.argsort(utility, kind="stable") if gate.live[e]}
    picks = tuple(
        _pick(int(e), source.get(int(e), int(e)), int(h), used, layer.layer, alive, f, (scores, mixing, utility))
        for e, h, f in zip(experts, hosts, fractions.tolist(), strict=True)
        if e >= 0
    )
    own = [int(e) for e in np.argsort(-scores, kind="stable")[: card.routing.top_k]]
    served = {pick.expert for pick in picks}
    over = tuple(
        PassedOver(e, float(scores[e]), _why_not(e, gate, used, utility, len(picks), served))
        for e in own
        if e not in served
    )
    total = float(mixing[own].sum()) or 1.0
    return LayerWhy(
        layer.layer, node, tuple(own), picks, over, sum(p.mixing for p in picks) / total,
        tuple(name for name, up in zip(used.nodes, alive, strict=True) if not up), layer.rerouted, layer.lost,
        layer.trunk_us, layer.link_us, layer.queue_us, layer.expert_us,
        call_hops(delays, step, used, (pick.host for pick in picks), layer.link_us),
    )  # fmt: skip


def _mixing(layer: LayerEvidence, scores: F32, rows: int, routing: Routing) -> F32:
    if layer.mixing:
        found: F32 = np.frombuffer(layer.mixing, "<f4").reshape(rows, len(scores))[-1]
        return found
    if not routing.normalise_top_k:
        return scores
    shares: F32 = scores / np.sort(scores)[::-1][: routing.top_k].sum()
    return shares


def _pick(
    expert: int, asked: int, host: int, plan: SelectionPlan, layer: int, alive: NDArray[np.bool_], fraction: float,
    numbers: tuple[F32, F32, F32],
) -> Pick:  # fmt: skip
    scores, mixing, utility = numbers
    entry = plan.layers[layer]
    shares = sorted((s for s in entry.hosts[expert] if alive[s.node]), key=lambda s: s.node)
    total = sum(s.weight for s in shares) or 1.0
    replicas = tuple((plan.nodes[s.node], s.weight / total) for s in shares)
    if len(shares) == 1:
        why = "the only reachable host in the plan"
    else:
        why = f"its number {fraction:.3f} falls into this host's share"
    if asked != expert:
        why = f"stands in for expert {asked}; {why}"
    return Pick(
        expert, plan.nodes[host], float(scores[asked]), float(mixing[asked]), entry.price[asked], float(utility[asked]),
        replicas, why,
    )  # fmt: skip


def _why_not(expert: int, gate: LayerGate, plan: SelectionPlan, utility: F32, taken: int, served: set[int]) -> str:
    if not gate.live[expert]:
        return "no host of it could be reached" if gate.target[expert] == expert else "nor could its substitute's host"
    if gate.target[expert] != expert and int(gate.target[expert]) in served:
        return f"the plan puts expert {int(gate.target[expert])} in its place"
    price, value = float(gate.price[expert]), float(utility[expert])
    better = int((utility > utility[expert]).sum())
    if better >= gate.k_max:
        most = f"{better} others had more, and at most {gate.k_max} are used"
        return f"price {price:.4g} left it utility {value:.4g}: {most}"
    if value < gate.threshold and taken >= gate.k_min:
        return f"price {price:.4g} left it utility {value:.4g}, below the threshold {gate.threshold:.4g}"
    if gate.coverage < 1.0 and taken >= gate.k_min:
        return f"the experts before it cover {gate.coverage:.4g} of the mixing mass already"
    if plan.transmission is not None and plan.transmission.drop:
        return "its row was not worth the smallest frame (the plan's transmission rules)"
    return "the record does not say"
