"""What a node serves now, changed while a run goes on: verified first, within a memory budget, visible all at once.

Bytes are those of the shard files, which is what the manifest vouches for; an open session takes 1.0 to 1.2 times
as much. While shards are exchanged old and new count both: a step under way still runs on the old ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from hil_config.errors import ArtefactError, EnvironmentFault
from hil_config.wire.manifest import Precision, Shard
from hil_config.wire.orders import DropShards, ExpertHolding, LoadShards
from node_agent.engine.experts import ExpertBank, HeldExperts, open_experts
from node_agent.engine.trunk import Trunk, TrunkSessions, open_trunk
from node_agent.shards.store import ShardStore

Experts = dict[tuple[int, int], tuple[Precision, ...]]
"""The precisions of each (layer, expert), the one that serves unless asked otherwise first."""


def _add(experts: Experts, holding: ExpertHolding) -> None:
    key = (holding.layer, holding.expert)
    if holding.precision not in experts.get(key, ()):
        experts[key] = (*experts.get(key, ()), holding.precision)


class Holdings:
    """The experts and trunk layers of one run on this node.

    Args:
        budget_bytes: of shard files open at once; 0 is no limit.
    """

    def __init__(
        self, store: ShardStore, experts: tuple[ExpertHolding, ...], trunk: tuple[int, ...], budget_bytes: int
    ) -> None:
        self._store = store
        self.budget_bytes = budget_bytes
        self._experts: Experts = {}
        for holding in experts:
            _add(self._experts, holding)
        self._trunk = frozenset(trunk)
        wanted = self._shards(self._experts, self._trunk)
        self._afford(wanted, "to prepare the run")
        store.keep_only(set(wanted))
        self.bank = ExpertBank(store, experts)
        self.trunk = Trunk(store, trunk)

    @property
    def bytes(self) -> int:
        """Of the shard files that are open."""
        return sum(self._shards(self._experts, self._trunk).values())

    def load(self, order: LoadShards) -> None:
        """Open the shards and serve them; an expert that is held at another precision is exchanged, unless it is to
        be held beside.

        Nothing changes if one of them is not what the manifest says or the budget does not allow old and new.
        """
        experts = dict(self._experts)
        for holding in () if order.beside else order.experts:
            experts.pop((holding.layer, holding.expert), None)
        for holding in order.experts:
            _add(experts, holding)
        trunk = self._trunk | set(order.trunk_layers)
        both = {**self._shards(self._experts, self._trunk), **self._shards(experts, trunk)}
        self._afford(both, "to load")
        try:
            self._serve(experts, trunk)
        finally:
            self._store.keep_only(set(self._shards(self._experts, self._trunk)))

    def drop(self, order: DropShards) -> None:
        """Serve these no longer; ArtefactError if one of them is not held."""
        for key in order.experts:
            if key not in self._experts:
                raise ArtefactError(f"layer {key[0]} expert {key[1]} is not held here", "see the node's last order")
        if missing := set(order.trunk_layers) - self._trunk:
            raise ArtefactError(f"trunk layers {sorted(missing)} are not held here", "see the node's last order")
        experts = {key: p for key, p in self._experts.items() if key not in set(order.experts)}
        self._serve(experts, self._trunk - set(order.trunk_layers))
        self._store.keep_only(set(self._shards(self._experts, self._trunk)))

    def let_go(self) -> None:
        """The run is over: groups are opened anew in the next one, and these must not be in memory beside them until
        the cycle collector comes by. (Sessions of single shards stay with the store, for the next run.)"""
        self.bank.replace(HeldExperts({}, {}, {}))
        self.trunk.replace(TrunkSessions({}, None, None))

    def _serve(self, experts: Experts, trunk: frozenset[int]) -> None:
        wanted = tuple(ExpertHolding(*key, p) for key, held in experts.items() for p in held)
        sessions = open_experts(self._store, wanted, self.bank.held)
        held = open_trunk(self._store, tuple(sorted(trunk)))
        self.bank.replace(sessions)
        self.trunk.replace(held)
        self._experts, self._trunk = experts, trunk

    def _afford(self, shards: dict[str, int], purpose: str) -> None:
        needed = sum(shards.values())
        if self.budget_bytes and needed > self.budget_bytes:
            raise EnvironmentFault(
                f"{needed} bytes of shards are needed {purpose}, the budget is {self.budget_bytes}",
                "drop shards first, choose a lower precision, or raise shard_budget_bytes in the agent's configuration",
            )

    def _shards(self, experts: Experts, trunk: frozenset[int]) -> dict[str, int]:
        """Size in bytes by file name."""
        return {shard.name: shard.bytes for shard in self._wanted(experts, trunk)}

    def _wanted(self, experts: Experts, trunk: frozenset[int]) -> Iterator[Shard]:
        manifest = self._store.manifest
        for (layer, expert), held in experts.items():
            for precision in held:
                yield manifest.find("expert", precision, layer, expert)
        for layer in trunk:
            yield manifest.find("trunk", manifest.model.trunk_precision, layer)
        if 0 in trunk:
            yield manifest.find("embed", manifest.model.trunk_precision)
        if manifest.model.layers - 1 in trunk:
            yield manifest.find("head", manifest.model.trunk_precision)
