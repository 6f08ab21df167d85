"""Policies by name: a literal table, or `module:Name` from the user's own code.

A policy is a frozen dataclass; its fields are its options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast, get_type_hints

from ground_controller.policies.battery_life import BatteryLife
from ground_controller.policies.by_heat import ByHeat
from ground_controller.policies.by_importance_and_heat import ByImportanceAndHeat
from ground_controller.policies.des import Des
from ground_controller.policies.dtop_p import DTopP
from ground_controller.policies.eplb import Eplb
from ground_controller.policies.fixed import Fixed
from ground_controller.policies.forecast import Forecast
from ground_controller.policies.full import Full
from ground_controller.policies.horizon import Horizon
from ground_controller.policies.importance import ImportanceSending
from ground_controller.policies.lyapunov import Lyapunov
from ground_controller.policies.memory_greedy import MemoryGreedy
from ground_controller.policies.milp import Milp
from ground_controller.policies.myopic_solar import MyopicSolar
from ground_controller.policies.per_link_budget import PerLinkBudget
from ground_controller.policies.random_place import Random, RandomInRing, RandomInRingCentral
from ground_controller.policies.rank_match import RankMatch
from ground_controller.policies.reactive_soc import ReactiveSoc
from ground_controller.policies.resources import PrecisionPolicy, ReplacementPolicy, TransmissionPolicy
from ground_controller.policies.sift import Sift
from ground_controller.policies.stay import Stay
from ground_controller.policies.sunlit_first import SunlitFirst
from ground_controller.policies.thermal_balance import ThermalBalance
from ground_controller.policies.top_p import TopP
from ground_controller.policies.topk import TopK
from ground_controller.policies.view import PlacementPolicy, SelectionPolicy
from ground_controller.policies.wlr import Wlr
from hil_config.errors import ConfigError
from hil_config.own_code import own_code

SELECTION: dict[str, type[Any]] = {
    "battery_life": BatteryLife,
    "des": Des,
    "dtop_p": DTopP,
    "horizon": Horizon,
    "lyapunov": Lyapunov,
    "myopic_solar": MyopicSolar,
    "reactive_soc": ReactiveSoc,
    "sift": Sift,
    "sunlit_first": SunlitFirst,
    "thermal_balance": ThermalBalance,
    "top_p": TopP,
    "topk": TopK,
    "wlr": Wlr,
}
PLACEMENT: dict[str, type[Any]] = {
    "eplb": Eplb,
    "memory_greedy": MemoryGreedy,
    "milp": Milp,
    "random": Random,
    "random_in_ring": RandomInRing,
    "random_in_ring_central": RandomInRingCentral,
    "rank_match": RankMatch,
}
PRECISION: dict[str, type[Any]] = {"by_heat": ByHeat, "by_importance_and_heat": ByImportanceAndHeat, "fixed": Fixed}
TRANSMISSION: dict[str, type[Any]] = {"full": Full, "importance": ImportanceSending, "per_link_budget": PerLinkBudget}
REPLACEMENT: dict[str, type[Any]] = {"forecast": Forecast, "stay": Stay}

_WORDS: dict[type[Any], str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


def selection_policy(name: str, options: Mapping[str, object] | None = None) -> SelectionPolicy[Any]:
    """The selection policy called `name`, or ConfigError naming those there are."""
    found = from_options(name, options or {}, SELECTION, "selection", ("start", "select"))
    return cast(SelectionPolicy[Any], found)


def placement_policy(name: str, options: Mapping[str, object] | None = None) -> PlacementPolicy:
    """The placement policy called `name`, or ConfigError naming those there are."""
    return cast(PlacementPolicy, from_options(name, options or {}, PLACEMENT, "placement", ("place",)))


def precision_policy(name: str, options: Mapping[str, object] | None = None) -> PrecisionPolicy[Any]:
    """The precision policy called `name`, or ConfigError naming those there are."""
    found = from_options(name, options or {}, PRECISION, "precision", ("variants", "start", "choose"))
    return cast(PrecisionPolicy[Any], found)


def transmission_policy(name: str, options: Mapping[str, object] | None = None) -> TransmissionPolicy[Any]:
    """The transmission policy called `name`, or ConfigError naming those there are."""
    found = from_options(name, options or {}, TRANSMISSION, "transmission", ("start", "rule"))
    return cast(TransmissionPolicy[Any], found)


def replacement_policy(name: str, options: Mapping[str, object] | None = None) -> ReplacementPolicy[Any]:
    """The replacement policy called `name`, or ConfigError naming those there are."""
    found = from_options(name, options or {}, REPLACEMENT, "replacement", ("start", "move"))
    return cast(ReplacementPolicy[Any], found)


def from_options(
    name: str,
    options: Mapping[str, object],
    table: Mapping[str, type[Any]],
    kind: str,
    methods: tuple[str, ...],
) -> object:
    """An instance of the policy `name` with `options` as its fields; names and types are checked."""
    policy = _resolve(name, table, kind)
    where = f"{kind} policy {name}"
    if not (isinstance(policy, type) and is_dataclass(policy) and policy.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise ConfigError(f"{where}: is not a frozen dataclass", "decorate the class with @dataclass(frozen=True)")
    lacking = [method for method in methods if not callable(getattr(policy, method, None))]
    if lacking or not isinstance(getattr(policy, "name", None), str):
        raise ConfigError(
            f"{where}: lacks {', '.join(lacking) or 'a text called name'}",
            "see ground_controller/policies/view.py for what a policy has",
        )
    return policy(**_checked(policy, options, where))


def _resolve(name: str, table: Mapping[str, type[Any]], kind: str) -> object:
    return table[name] if name in table else own_code(name, f"{kind} policy", table)


def _checked(policy: type[Any], options: Mapping[str, object], where: str) -> dict[str, object]:
    kinds = get_type_hints(policy)
    known = {field.name: field for field in fields(policy) if field.init}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"{where}: unknown option {', '.join(unknown)}",
            f"its options are {', '.join(sorted(known))}" if known else "it has no options",
        )
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = sorted(set(required) - set(options))
    if missing:
        raise ConfigError(f"{where}: option {', '.join(missing)} is missing")
    return {name: _converted(value, kinds[name], f"{where}: option {name}") for name, value in options.items()}


def _converted(value: object, kind: type[Any], where: str) -> object:
    """`value` as `kind`; a whole number passes for a number, a boolean for nothing else, NaN for nothing."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number):
            return number
    elif kind not in _WORDS or type(value) is kind:
        return value
    raise ConfigError(f"{where} is {value!r}, wanted {_WORDS[kind]}")
