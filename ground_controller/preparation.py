"""From the two files a person wrote to everything a run needs, checked before any process starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ground_controller.arrival_times import read_trace
from ground_controller.evaluation import EvaluationSet, evaluation_path, load_evaluation
from ground_controller.further_setup import further_of, further_policies
from ground_controller.mixed import check_mixed, model_boards
from ground_controller.orbit.instant import julian_date, parse_instant
from ground_controller.orbit.sunlight import sun_position_km
from ground_controller.physics.platform import Platform
from ground_controller.policies.registry import placement_policy, selection_policy
from ground_controller.policies.view import Limits, Placement, PlacementProblem, SelectionPolicy
from ground_controller.power_modes import modes_of
from ground_controller.schedules import compile_orbit
from ground_controller.twin import Twin
from ground_controller.workload import Prompt, read_prompts
from ground_controller.world import Setting
from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import config_hash
from hil_config.schema.platforms import PlatformChoice, load_platform
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.importance import read_importance
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.manifest import BLOCK, Manifest, manifest_hash
from hil_config.wire.plan import GatewaySlice
from hil_config.wire.schedule_file import encode_schedule
from models.allocation import AllocationFile, read_allocation
from models.build import PRECISIONS, build_shards, model_card
from models.checkpoint import read_checkpoint
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint

AU_KM = 149_597_870.7
LEAST_PROMPT = 8
"""Tokens of context that are kept for a prompt, whatever is to be generated."""

EXPERT_CALL_S = 1.5e-4
"""CPU seconds of one expert row of the reference model on the development machine: only a starting value for
prices, which use it relative to the other nodes."""


@dataclass(frozen=True)
class Prepared:
    """Frozen inputs of one run. Hashes identify them in the journal."""

    bench: Bench
    campaign: Campaign
    config_sha256: str
    profiles: tuple[BoardProfile, ...]
    shards: Path
    manifest: Manifest
    manifest_sha256: str
    schedule: LinkSchedule
    schedule_bytes: bytes
    placement: Placement
    policy: SelectionPolicy[Any]
    setting: Setting
    prompts: tuple[Prompt, ...]
    tokenizer: Tokenizer
    evaluation: EvaluationSet | None = None
    allocation: AllocationFile | None = None
    warnings: tuple[str, ...] = ()


def profiles_hash(profiles: tuple[BoardProfile, ...], modes: bool) -> str:
    """SHA-256 of the boards' profiles in order: modelled power and prices follow from them. `modes`: the campaign
    orders power modes, so those count too."""
    left_out = None if modes else {"modes"}
    text = json.dumps([profile.model_dump(mode="json", exclude=left_out) for profile in profiles], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Where built shards are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spacemoe-hil"


def shards_folder(checkpoint: Path, kinds: str) -> Path:
    """Where the shards of a checkpoint are built. Of two whose folders have one name each has its own, so that a run
    never replaces what another is being served from."""
    whole = checkpoint.resolve()
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]
    name = whole.name if whole == reference_checkpoint().resolve() else f"{whole.name}-{digest}"
    return cache_folder() / "models" / f"{name}-{kinds}"


def mean_delay_s(schedule: LinkSchedule, satellites: tuple[str, ...]) -> NDArray[np.float64]:
    """[S, S] mean one-way delay over the schedule; an outage counts as the largest delay seen anywhere."""
    index = {name: i for i, name in enumerate(satellites)}
    step_s = schedule.header.step_s
    seen = schedule.sample(np.arange(0.0, schedule.duration_s + step_s / 2, step_s))
    worst = float(seen.delay_s.max(initial=0.0))
    delay = np.full((len(satellites), len(satellites)), worst)  # a pair that the schedule does not name is never up
    np.fill_diagonal(delay, 0.0)
    mean = np.where(seen.up, seen.delay_s, worst).mean(axis=0)
    for column, (a, b) in enumerate(schedule.header.pairs):
        if a in index and b in index:
            delay[index[a], index[b]] = mean[column]
    return delay


def _sun_distance_au(epoch_utc: str) -> float:
    whole, fraction = julian_date(parse_instant(epoch_utc))
    return float(np.linalg.norm(sun_position_km(np.array([whole + fraction]))) / AU_KM)


def platform_of(choice: PlatformChoice) -> Platform:
    """The chosen preset with the campaign's changes."""
    preset = load_platform(choice.preset).model_dump(exclude={"name", "source"})
    return Platform(**{**preset, **choice.model_dump(exclude={"preset"}, exclude_none=True)})


def _twin(campaign: Campaign) -> Twin:
    return Twin(platform_of(campaign.twin.platform), _sun_distance_au(campaign.orbit.epoch_utc))


def _place(
    bench: Bench,
    campaign: Campaign,
    profiles: tuple[BoardProfile, ...],
    manifest: Manifest,
    schedule: LinkSchedule,
) -> Placement:
    """In a fleet of both kinds each holds the whole model: frames do not pass between them."""
    models = model_boards(bench)
    groups = [[i for i, board in enumerate(bench.boards) if (board.name in models) == kind] for kind in (False, True)]
    if all(groups):
        check_mixed(bench, campaign)
    return joined([(_place_on(g, bench, campaign, profiles, manifest, schedule), tuple(g)) for g in groups if g])


def _place_on(
    group: list[int],
    bench: Bench,
    campaign: Campaign,
    profiles: tuple[BoardProfile, ...],
    manifest: Manifest,
    schedule: LinkSchedule,
) -> Placement:
    policy = placement_policy(campaign.policies.placement.name, campaign.policies.placement.options)
    problem = PlacementProblem(
        nodes=tuple(bench.boards[i].name for i in group),
        expected_delay_s=mean_delay_s(schedule, tuple(campaign.orbit.satellites[i] for i in group)),
        slots=tuple(profiles[i].expert_slots for i in group), replicas=campaign.model.replicas - 1,
        trunk_slices=campaign.model.trunk_slices, model=manifest.model, seed=campaign.seed,
    )  # fmt: skip
    whole, modelled = len(group) == len(bench.boards), bench.boards[group[0]].kind == "model"
    kind = "" if whole else "model " if modelled else "real "
    wanted = manifest.model.layers * manifest.model.experts * campaign.model.replicas
    if sum(problem.slots) < wanted or len(group) < campaign.model.replicas:
        raise ConfigError(
            f"the {len(group)} {kind}boards hold {sum(problem.slots)} experts together, {wanted} are wanted: "
            f"{manifest.model.layers} layers x {manifest.model.experts} experts x {campaign.model.replicas} copies",
            "lower model.replicas in campaign.yaml, or add boards",
        )
    return policy.place(problem)


def joined(found: list[tuple[Placement, tuple[int, ...]]]) -> Placement:
    """Placements of separate groups of nodes as one: (placement over the group, its node numbers in the bench)."""
    first, *others = found
    if not others:
        return first[0]
    holders = tuple(
        tuple(
            tuple(group[n] for placed, group in found for n in placed.holders[layer][expert])
            for expert in range(len(first[0].holders[layer]))
        )
        for layer in range(len(first[0].holders))
    )
    slices = zip(*(placed.gateways for placed, _ in found), strict=True)
    gateways = tuple(
        GatewaySlice(same[0].first, same[0].last, tuple(name for piece in same for name in piece.nodes))
        for same in slices
    )
    return Placement(gateways, holders, "; ".join(placed.reason for placed, _ in found))


def _allocation(campaign: Campaign, checkpoint: Path) -> AllocationFile | None:
    """The precision of every expert, if the campaign names a file of them."""
    if campaign.model.allocation == "none":
        return None
    return read_allocation(Path(campaign.model.allocation), model_card(read_checkpoint(checkpoint)))


def without_dropped(placement: Placement, allocation: AllocationFile) -> Placement:
    """Nobody holds an expert that the allocation drops: the gate then takes the next one, as after a loss."""
    holders = tuple(
        tuple(held if allocation.of(layer, expert) is not None else () for expert, held in enumerate(row))
        for layer, row in enumerate(placement.holders)
    )
    return dataclasses.replace(placement, holders=holders)


def prepare(bench: Bench, campaign: Campaign, progress: Callable[[int, int, str], None] | None = None) -> Prepared:
    """Load, build, compile and place; every error of the inputs is raised here."""
    profiles = tuple(load_profile(board.profile) for board in bench.boards)
    policy = selection_policy(campaign.policies.selection.name, campaign.policies.selection.options)
    schedules = compile_orbit(campaign)
    checkpoint = reference_checkpoint() if campaign.model.checkpoint == "reference" else Path(campaign.model.checkpoint)
    allocation = _allocation(campaign, checkpoint)
    choosers = further_policies(campaign)
    wanted = {
        campaign.model.precision, *(allocation.precisions() if allocation else ()), *choosers.precision.variants()
    }  # fmt: skip
    precisions = tuple(p for p in PRECISIONS if p in wanted)
    block = campaign.model.block
    kinds = "-".join((*precisions, *(() if block == BLOCK else (f"blocks-of-{block}",))))
    shards = shards_folder(checkpoint, kinds)
    manifest = build_shards(checkpoint, shards, precisions, progress, block=block)
    longest = manifest.model.context - LEAST_PROMPT
    if campaign.workload.max_new_tokens > longest:
        raise ConfigError(
            f"workload.max_new_tokens is {campaign.workload.max_new_tokens}; {manifest.model.name} has a context of "
            f"{manifest.model.context} tokens, of which {LEAST_PROMPT} are for the prompt: at most {longest}",
            "lower workload.max_new_tokens in campaign.yaml",
        )
    prompts = read_prompts(
        checkpoint / "prompts.json" if campaign.workload.prompts == "reference" else Path(campaign.workload.prompts)
    )
    if campaign.workload.trace != "none":
        read_trace(Path(campaign.workload.trace))
    tokenizer = read_tokenizer(checkpoint)
    asked = evaluation_path(campaign.workload.evaluation)
    evaluation = load_evaluation(asked, tokenizer, manifest.model, campaign.seed) if asked else None
    placement = _place(bench, campaign, profiles, manifest, schedules.predicted)
    if allocation is not None:
        placement = without_dropped(placement, allocation)
    twin = _twin(campaign)
    start = campaign.twin.start
    limits = Limits(**campaign.twin.limits.model_dump())
    importance = read_importance(shards, manifest)
    setting = Setting(
        nodes=tuple(board.name for board in bench.boards), satellites=tuple(campaign.orbit.satellites),
        schedule=schedules.factual, predicted=schedules.predicted, twin=twin,
        twin_start=twin.start([s.temperature_c for s in start], [s.charge for s in start]), limits=limits,
        model=manifest.model, gateways=placement.gateways, holders=placement.holders,
        idle_power_w=tuple(p.idle_w for p in profiles),
        energy_per_call_j=tuple(p.per_core_w * p.cpu_scale * EXPERT_CALL_S for p in profiles),
        tick_s=campaign.control.tick_s, rate=campaign.orbit.rate, accounting=campaign.twin.accounting,
        importance=importance,
        further=further_of(campaign, choosers, bench, profiles, manifest, schedules, allocation, importance),
        modes=modes_of(campaign.power, bench, profiles),
    )  # fmt: skip
    return Prepared(
        bench=bench, campaign=campaign, config_sha256=config_hash(bench, campaign), profiles=profiles,
        shards=shards, manifest=manifest, manifest_sha256=manifest_hash(manifest), schedule=schedules.factual,
        schedule_bytes=encode_schedule(schedules.factual), placement=placement, policy=policy, setting=setting,
        prompts=prompts, tokenizer=tokenizer, evaluation=evaluation, allocation=allocation,
        warnings=schedules.warnings,
    )  # fmt: skip
