"""What a model would need on which boards, from its config.json alone: sizes by formula, placed by free memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hil_config.errors import UsageError
from hil_config.wire.manifest import BLOCK, Precision
from models.describe import Description, FeedForward

GRAPH_BYTES = 4096
"""A graph and its container's header, about."""
USABLE = 0.75
"""Share of a board's memory for the agent; the rest is the system's. Assumed."""
AGENT_BYTES = 150_000_000
"""Interpreter, numpy, onnxruntime and agent before any shard. Assumed."""
LOADED = 1.2
"""Memory of an opened session over its weights: onnxruntime packs most into an order of its own (measured 1.0-1.2)."""


def linear_bytes(outputs: int, inputs: int, precision: Precision, bias: bool = False) -> int:
    """Stored bytes of a weight [outputs, inputs] and its bias; integers in blocks of 32, which are the largest."""
    blocks = -(-inputs // BLOCK)
    sizes = {
        "fp32": 4 * outputs * inputs,
        "fp16": 2 * outputs * inputs,
        "int8": outputs * blocks * (BLOCK + 4),
        "int4": outputs * blocks * (BLOCK // 2 + 4),
    }
    return sizes[precision] + (4 * outputs if bias else 0)


def feed_forward_bytes(d: Description, network: FeedForward, precision: Precision) -> int:
    gate_up = linear_bytes(2 * network.width, d.hidden, precision, network.bias)
    return gate_up + linear_bytes(d.hidden, network.width, precision, network.bias)


def expert_bytes(d: Description, expert: int, precision: Precision) -> int:
    return GRAPH_BYTES + feed_forward_bytes(d, d.feed_forward(expert), precision)


def embed_bytes(d: Description, precision: Precision) -> int:
    return GRAPH_BYTES + d.vocabulary * d.hidden * (4 if precision == "fp32" else 2)


def head_bytes(d: Description, precision: Precision) -> int:
    return GRAPH_BYTES + linear_bytes(d.vocabulary, d.hidden, precision, d.head_bias) + 8 * d.hidden


def trunk_bytes(d: Description, layer: int, precision: Precision) -> int:
    """A trunk shard: the attention of its decoder layers, its dense networks, its router (always fp32)."""
    dense = FeedForward(d.dense_width)
    depth = len(d.blocks(layer))
    total = depth * attention_bytes(d, precision) + (depth - 1) * feed_forward_bytes(d, dense, precision)
    return total + 4 * d.router.experts * (d.hidden + 1) + 3 * GRAPH_BYTES


def attention_bytes(d: Description, precision: Precision) -> int:
    a, latent = d.attention, d.attention.latent
    norms = 4 * d.hidden * (4 if d.norm == "layer" else 2)
    out = linear_bytes(d.hidden, a.heads * a.value_dim, precision, a.out_bias)
    if latent is None:
        widths = (a.heads * a.key_dim, a.kv_heads * a.key_dim, a.kv_heads * a.value_dim)
        return norms + out + sum(linear_bytes(width, d.hidden, precision, a.bias) for width in widths)
    down = linear_bytes(latent.kv_rank + latent.rotary, d.hidden, precision, a.bias)
    up = linear_bytes(a.heads * (latent.plain + a.value_dim), latent.kv_rank, precision)
    if latent.query_rank:
        query = linear_bytes(latent.query_rank, d.hidden, precision, a.bias)
        query += linear_bytes(a.heads * a.key_dim, latent.query_rank, precision)
    else:
        query = linear_bytes(a.heads * a.key_dim, d.hidden, precision)
    return norms + out + down + up + query


def cache_bytes(d: Description, layer: int, positions: int) -> int:
    """Keys and values of one trunk shard over that many positions."""
    a = d.attention
    return 4 * positions * len(d.blocks(layer)) * a.kv_heads * (a.key_dim + a.value_dim)


@dataclass
class Board:
    """A board and what it is given. `layers`: trunk shards; `experts`: (layer, expert)."""

    name: str
    memory_bytes: int
    layers: list[int] = field(default_factory=list)
    experts: list[tuple[int, int]] = field(default_factory=list)
    used_bytes: int = AGENT_BYTES

    @property
    def usable_bytes(self) -> int:
        return int(USABLE * self.memory_bytes)

    @property
    def free_bytes(self) -> int:
        return self.usable_bytes - self.used_bytes


@dataclass(frozen=True)
class ShardPlan:
    """`disk_bytes`: the built folder; `copies`: of each expert, spread over different boards."""

    boards: tuple[Board, ...]
    disk_bytes: int
    expert_bytes: int
    trunk_bytes: int
    copies: int

    @property
    def fits(self) -> bool:
        return all(board.free_bytes >= 0 for board in self.boards)


def plan_boards(
    d: Description,
    boards: Sequence[tuple[str, int]],
    precision: Precision = "int4",
    trunk_precision: Precision = "int8",
    gateways: int = 2,
    positions: int = 4096,
    copies: int = 1,
) -> ShardPlan:
    """Place a model over `boards` (name, memory in bytes).

    Trunk layers go in ranges of equal length to the `gateways` roomiest boards, each with the cache of `positions`;
    every copy of an expert to the board with most free memory that has none of it.
    """
    if not 1 <= gateways <= min(len(boards), d.layers):
        raise UsageError(f"gateways: got {gateways}, wanted 1 to {min(len(boards), d.layers)}", "")
    if positions < 1:
        raise UsageError(f"positions: got {positions}, wanted at least 1", "a request needs one for each of its tokens")
    if not 1 <= copies <= len(boards):
        raise UsageError(f"copies: got {copies}, wanted 1 to {len(boards)}", "")
    placed = [Board(name, memory) for name, memory in boards]
    roomy = sorted(placed, key=lambda board: -board.memory_bytes)[:gateways]
    chosen = [board for board in placed if any(board is one for one in roomy)]
    trunk = _place_trunk(d, chosen, trunk_precision, positions)
    for layer in range(d.layers):
        for expert in range(d.experts):
            size = expert_bytes(d, expert, precision)
            for board in sorted(placed, key=lambda board: -board.free_bytes)[:copies]:
                board.experts.append((layer, expert))
                board.used_bytes += int(LOADED * size)
    experts = d.layers * sum(expert_bytes(d, expert, precision) for expert in range(d.experts))
    return ShardPlan(tuple(placed), trunk + experts, experts, trunk, copies)


def _place_trunk(d: Description, chosen: Sequence[Board], precision: Precision, positions: int) -> int:
    """Trunk, embedding and head onto the gateways; their bytes on disk."""
    total = 0
    for layer in range(d.layers):
        board = chosen[layer * len(chosen) // d.layers]
        size = trunk_bytes(d, layer, precision)
        board.layers.append(layer)
        board.used_bytes += int(LOADED * size) + cache_bytes(d, layer, positions)
        total += size
    for board, size in ((chosen[0], embed_bytes(d, precision)), (chosen[-1], head_bytes(d, precision))):
        board.used_bytes += int(LOADED * size)
        total += size
    return total
