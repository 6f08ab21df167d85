"""What the ground tells a node to do; each travels in a `messages.Command` with its fencing epoch."""

from __future__ import annotations

from typing import Literal

import msgspec

from hil_config.wire.hidden_codec import Codec
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.manifest import Precision
from hil_config.wire.plan import SelectionPlan


class ExpertHolding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """An expert a node is to hold."""

    layer: int
    expert: int
    precision: Precision


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A data-plane peer: name, host:port, and its offer where frames are sealed."""

    name: str
    address: str
    offer: bytes = b""


class Prepare(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="prepare"):
    """Take part in a run: peers, the whole link schedule (base64 in JSON), what to hold, the first plan.

    `satellites` maps peer names to satellites; a peer it does not name (the client) has an unshaped link.
    An expert that is named more than once is held at each of its precisions, the first one unless asked otherwise.
    `sealed`: only sealed frames pass between peers. `relay`: a peer whose link is down is reached over others.
    `routed`: frames go the ways that plans name, and others' frames are passed on.
    `link_codecs`: peers to which hidden states go in another codec. `seed` of what chance does to frames;
    `jitter_s` is uniform, so much either way.
    """

    run: str
    peers: tuple[Peer, ...]
    manifest_sha256: str
    trunk_layers: tuple[int, ...]
    experts: tuple[ExpertHolding, ...]
    schedule: bytes
    schedule_sha256: str
    satellites: dict[str, str]
    delay_scale: float
    hidden_codec: Codec
    expert_timeout_s: float
    plan: SelectionPlan
    sealed: bool = False
    relay: bool = False
    link_codecs: dict[str, Codec] = {}
    seed: int = 0
    jitter_s: float = 0.0
    rate_scale: float = 1.0
    routed: bool = False


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """Answered with the node's monotonic clock, for the offset estimate."""


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="finish"):
    """The run is over: flush the samplers and report the last sequence number."""


class Shutdown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="shutdown"):
    """End the agent process (local benches)."""


class SetDuty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="set_duty"):
    """Take new expert and gateway work (`in_service`), or refuse it: the twin's limits acting back."""

    in_service: bool
    reason: str


class LoadShards(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="load_shards"):
    """Hold these too, from the moment all of them are verified and open; one held at another precision is
    exchanged, or with `beside` held at both. Answered with an error, and nothing changed, if one is not right or
    memory does not suffice."""

    experts: tuple[ExpertHolding, ...]
    trunk_layers: tuple[int, ...] = ()
    beside: bool = False


class DropShards(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="drop_shards"):
    """Hold these (layer, expert) and trunk layers no longer; calls under way end first."""

    experts: tuple[tuple[int, int], ...]
    trunk_layers: tuple[int, ...] = ()


class InjectFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="inject_fault"):
    """Put a fault on links over the schedule, from now on or for a while."""

    fault: LinkFault


class SetPower(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="set_power"):
    """Change how much power the board may use; null leaves a setting as it is. Put back when the agent stops.

    `duty` is the share of time the node may compute, `cpu_khz` the cap of its cores, `nvp_mode` the number of a
    Jetson's power mode, `fan` the pulse width of its fan from 0 to 255. `restore` puts everything back first.
    `mode` is the ground's name for all of it, which the node's `PowerSet` event repeats.
    """

    duty: float | None = None
    cpu_khz: int | None = None
    nvp_mode: int | None = None
    fan: int | None = None
    restore: bool = False
    mode: str = ""


class SetLogLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="set_log_level"):
    """How much the agent writes to its log from now on."""

    level: Literal["debug", "info", "warning", "error"]


Order = Prepare | Ping | Finish | Shutdown | SetDuty | SetPower | SetLogLevel | LoadShards | DropShards | InjectFault
