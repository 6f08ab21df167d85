"""MQTT payloads: versioned flat JSON. Unknown fields are refused; NaN and infinity cannot be written.

A node's evidence (samples, token evidence, events) is wrapped in `Record` with (node, boot_id, seq):
the node keeps it on disk until the controller's `Watermark` says that it is committed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from hil_config.errors import RemoteProtocolError
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.orders import Order
from hil_config.wire.provenance import Provenance

VERSION = 1
MAX_MESSAGE_BYTES = 8 << 20
MAX_INT64 = (1 << 63) - 1
"""Largest number that the journal can hold."""
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT64)]

_T = TypeVar("_T")


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    v: int = VERSION


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describes one column a node reports: name with unit suffix, rate in hertz and provenance."""

    name: str
    unit: str
    hz: float
    provenance: Provenance


class Missing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sensor that was looked for and is not there, with the reason."""

    name: str
    reason: str


class Status(_Message, frozen=True):
    """Retained; `offline` is the last will. `offer` is what peers need to seal frames for this node; `epoch` is the
    highest that ever commanded it; `facts` is what the board is (model, serial number, kernel, power settings)."""

    node: str
    boot_id: str
    state: Literal["online", "serving", "offline"]
    agent_version: str = ""
    data_address: str = ""
    last_seq: int = 0
    manifest_sha256: str = ""
    quantities: tuple[Quantity, ...] = ()
    missing: tuple[Missing, ...] = ()
    facts: dict[str, str] = {}
    offer: bytes = b""
    epoch: Number = 0


class Lease(_Message, frozen=True):
    """Who commands a bench, retained under the name `ground`; `lost` is the holder's last will.

    `holder` is a new random name for each controller process. While it holds, it says so again every `beat_s` with
    the next `beat`; only that tells the living from the dead. `since_utc` is a label for people.
    """

    holder: str
    epoch: Number
    state: Literal["held", "released", "lost"]
    run: str
    host: str
    pid: int
    since_utc: str
    beat_s: float
    beat: int = 0


class SampleBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="samples"):
    """About one second of samples, by column. `columns[name][i]` was taken at `mono_ns[i]`.

    An absent reading is null with its reason in `absent`.
    """

    mono_ns: tuple[int, ...]
    columns: dict[str, tuple[float | None, ...]]
    absent: dict[str, str] = {}


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A call of a layer under a plan's transmission rules: to which node of the plan, over how many rows (of all steps
    that shared it), their mean squared mass, and the codecs of call and reply."""

    host: int
    rows: int
    importance: float
    codec: Codec
    answer: Codec


class LayerEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One layer of one step of one request at its gateway.

    `scores` float32 [rows, experts], `picks` int16 [rows, k_max] (-1 empty), `hosts` int16 the same shape
    (indices into the plan's nodes), both raw little-endian; `live` one byte per node of the plan.
    Times in microseconds: `trunk` onnxruntime of the trunk, `serialise` encoding of the calls, `link` both
    ways of the host that answered last, `queue` and `expert` there, `combine` gate and summing here.
    `mixing` float32 like `scores`: the router's mixing weights where they are not its scores, else empty.
    `sent`: the calls made for the layer's picks, where the plan has rules of transmission.
    """

    layer: int
    scores: bytes
    picks: bytes
    hosts: bytes
    live: bytes
    rerouted: int
    lost: int
    trunk_us: float
    serialise_us: float
    link_us: float
    queue_us: float
    expert_us: float
    combine_us: float
    mixing: bytes = b""
    sent: tuple[Sent, ...] = ()


class TokenEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="token"):
    """What a gateway did for rows [start, start + rows) of a request; one per step and gateway.

    `token` is -1 unless this gateway held the head. `kept_mass` is the mean mixing mass that was served.
    `handover` is the codec of the frame to the next gateway, where the plan has rules of transmission.
    """

    request: int
    attempt: int
    start: int
    rows: int
    plan_version: int
    plan_expired: bool
    mono_ns: int
    total_us: float
    head_us: float
    token: int
    kept_mass: float
    degraded: tuple[str, ...]
    layers: tuple[LayerEvidence, ...]
    handover: str = ""


class NodeEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="event"):
    """Something that happened on a node: past tense name and free details."""

    name: str
    mono_ns: int
    details: dict[str, str | int | float | bool] = {}


ERROR_EDGES_US = (0, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)
"""Bounds between the counts of a `LinkReport`'s histogram, which has one count more than there are bounds."""


class LinkReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="links"):
    """Frames this node sent to a peer since the last report, and how well the shaper kept the schedule.

    `error_us` holds achieved minus scheduled delay at quantiles 0.5, 0.99 and 1; `histogram` counts every shaped
    frame's between `ERROR_EDGES_US`. `lost` frames fell to the link's loss, `cut` ones waited when it went down.
    """

    peer: str
    mono_ns: int
    frames: int
    bytes: int
    refused: int
    scheduled_us: float
    error_us: tuple[float, float, float]
    histogram: tuple[int, ...] = ()
    lost: int = 0
    cut: int = 0


class WorkSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="work"):
    """Work of a model gateway that is only estimated: what lies between the windows that are calculated in detail.

    `stride`: detailed windows are 1 of so many. `rows` that passed a layer, `expert_rows` (node index, how many).
    """

    mono_ns: int
    stride: int
    tokens: int
    rows: int
    expert_rows: tuple[tuple[int, int], ...]


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="gap"):
    """Numbers of this boot that the node will not send: inclusive (first, last) pairs below the record's own seq.

    What the ground has of them it keeps; the others are lost, and known to be.
    """

    ranges: tuple[tuple[int, int], ...]
    mono_ns: int
    reason: str


class Record(_Message, frozen=True):
    """Envelope of evidence: order is (boot_id, seq); wall time is only a label; `epoch` is that of the controller whose
    order put the node into the run it is in, 0 as long as it was in none."""

    node: str
    boot_id: str
    seq: Number
    mono_ns: int
    wall_ns: int
    body: SampleBatch | TokenEvidence | NodeEvent | LinkReport | WorkSummary | Gap
    epoch: Number = 0


class Watermark(_Message, frozen=True):
    """Every record of (node, boot_id) up to `seq` is committed by the controller of `epoch`; a node that obeys a later
    one does not delete by it."""

    node: str
    boot_id: str
    seq: int
    epoch: int = 0


class Summary(_Message, frozen=True):
    """Flat, 1 Hz, retained: dashboards read it as it is."""

    node: str
    power_w: float | None = None
    temperature_c: float | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    tokens: int = 0
    expert_calls: int = 0
    spooled: int = 0


class Command(_Message, frozen=True):
    """One order with its fencing epoch: a node refuses an epoch below the highest it has seen."""

    id: str
    epoch: int
    body: Order


class CommandReply(_Message, frozen=True):
    """Answer to a command. `mono_ns` is the node's monotonic clock when it answered, `received_mono_ns`
    when it got the command (0: not told)."""

    id: str
    node: str
    boot_id: str
    ok: bool
    mono_ns: int
    received_mono_ns: int = 0
    last_seq: int = 0
    error: str = ""
    hint: str = ""
    exit_code: int = 0


class ClockAnchor(_Message, frozen=True):
    """Scenario time for one node: it was `scenario_s` at the node's `mono_ns`, and runs at `rate` (0: paused).

    Before `mono_ns` it stands at `scenario_s`. `kind` says why the clock was set.
    """

    epoch: int
    boot_id: str
    mono_ns: int
    scenario_s: float
    rate: float
    kind: Literal["start", "pause", "resume", "seek", "step", "sync"] = "start"


def encode(message: msgspec.Struct) -> bytes:
    """JSON bytes of a message; NaN and infinity become null and are refused by the reader."""
    return msgspec.json.encode(message)


def decode(data: bytes, kind: type[_T]) -> _T:
    """The message in `data`, or RemoteProtocolError: nothing else leaves this function."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"{kind.__name__}: {len(data)} bytes; at most {MAX_MESSAGE_BYTES}")
    try:
        message: Any = msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec errors and a bare UnicodeDecodeError
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from error
    if getattr(message, "v", VERSION) != VERSION:
        raise RemoteProtocolError(
            f"{kind.__name__}: message version {message.v}, this side speaks {VERSION}",
            "install the same release on boards and ground",
        )
    return message  # type: ignore[no-any-return]  # msgspec checked it against `kind`
