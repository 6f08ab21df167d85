"""What peers say to each other: the header and tensors of every kind of frame. `frames.py` writes and reads them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.wire.hidden_codec import Hidden
from hil_config.wire.manifest import Precision

PROTOCOL = 1

Tokens = NDArray[np.int32]
Experts = NDArray[np.int16]
Weights = NDArray[np.float32]
Microseconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]
"""Taken; what a peer says of them goes into evidence."""
Name = Annotated[str, msgspec.Meta(max_length=255)]
"""Of a node, a run, a boot or a delta. What is answered repeats it, and an answer's header has an end."""
Marks = Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)]
"""What was lost on the way; the next gateway adds to it."""
_NONE_F: Hidden = np.zeros((0, 0), np.float32)
_NONE_T: Tokens = np.zeros(0, np.int32)
_NONE_E: Experts = np.zeros((0, 0), np.int16)
_NONE_L: Weights = np.zeros(0, np.float32)


class FrameHeader(msgspec.Struct, array_like=True, forbid_unknown_fields=True, eq=False):
    """Header fields are array items; tensors are attributes set beside it (see `_TENSORS`)."""

    kind: ClassVar[int]


class Hello(FrameHeader):
    """First frame of every connection: who speaks and for which run; `offer` where frames are sealed (`seal.py`)."""

    kind: ClassVar[int] = 1
    peer: Name
    run: Name
    boot_id: Name
    protocol: int = PROTOCOL
    offer: bytes = b""


class Route(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The gateways a request's hidden state passes, one per trunk slice, and the client that waits."""

    gateways: tuple[Name, ...]
    client: Name


class Step(FrameHeader):
    """Client or last gateway -> first gateway: run tokens [rows] at positions start..start+rows-1.

    `remaining`: tokens still to generate after this step, this one included. `attempt` rises when the client
    starts a request again; frames of an older attempt are ignored. `score`: generate nothing; answer with the
    log-probability of each of these tokens but the first (`Scores`). `adapter`: the delta the request runs under.
    """

    kind: ClassVar[int] = 2
    request: int
    attempt: int
    start: int
    remaining: int
    route: Route
    rows: int
    tokens: Tokens = _NONE_T
    score: bool = False
    adapter: Name = ""


class Handover(FrameHeader):
    """Gateway -> next gateway: the hidden state [rows, width] entering trunk slice `stage`.

    `plan_version` pins the selection plan of this step for every gateway on the way. `score`: `tokens` [rows] came
    with the step and are to be scored; otherwise `tokens` is empty.
    """

    kind: ClassVar[int] = 3
    request: int
    attempt: int
    start: int
    remaining: int
    route: Route
    stage: int
    plan_version: int
    degraded: Marks
    rows: int
    width: int
    hidden: Hidden = _NONE_F
    score: bool = False
    adapter: Name = ""
    tokens: Tokens = _NONE_T


RowPicked = tuple[tuple[int, ...], tuple[float, ...]]


class ExpertCall(FrameHeader):
    """Gateway -> host: the weighted sum of experts [rows, picks] (-1 empty) of `layer` over rows [rows, width].

    `precisions`: (expert, precision) of those that are not to be served at the one the host holds first. `answer`: the
    codec of the reply (empty: the host's own for this link). `row`: experts and weights of a call of one row as plain
    values: it is read so, and may be written so. `encoded` is not sent: calls over the same rows, of which
    it is known that they are finite, share it, so that `hidden` is encoded once for each codec.
    """

    kind: ClassVar[int] = 4
    call: int
    request: int
    layer: int
    rows: int
    width: int
    picks: int
    experts: Experts = _NONE_E
    weights: Weights = _NONE_F
    hidden: Hidden = _NONE_F
    adapter: Name = ""
    precisions: tuple[tuple[int, Precision], ...] = ()
    answer: Literal["", "fp32", "fp16", "int8", "int4"] = ""
    encoded: dict[str, bytes] | None = None
    row: RowPicked | None = None


class ExpertReply(FrameHeader):
    """Host -> gateway: the partial sums [rows, width], with the microseconds they waited and took."""

    kind: ClassVar[int] = 5
    call: int
    layer: int
    queue_us: Microseconds
    expert_us: Microseconds
    rows: int
    width: int
    hidden: Hidden = _NONE_F


NO_LINK = "no link to gateway"
"""Of a gateway's refusal, whose reason is `its name: NO_LINK the next gateway's name`."""


class Refusal(FrameHeader):
    """Host -> gateway, or gateway -> client: this call or request is not served, and why."""

    kind: ClassVar[int] = 6
    call: int
    request: int
    attempt: int
    reason: str


class Token(FrameHeader):
    """Last gateway -> client: the token at `position`. `degraded` names what was lost on the way."""

    kind: ClassVar[int] = 7
    request: int
    attempt: int
    position: int
    token: int
    logprob: float
    margin: float
    degraded: Marks


class Cancel(FrameHeader):
    """Forget attempts of `request` up to `attempt`: frees its key-value cache."""

    kind: ClassVar[int] = 8
    request: int
    attempt: int


class Scores(FrameHeader):
    """Last gateway -> client: log p(token | those before it) [rows] for the scored tokens at start + 1 and on."""

    kind: ClassVar[int] = 16
    request: int
    attempt: int
    start: int
    degraded: Marks
    rows: int
    logprobs: Weights = _NONE_L


class Delta(FrameHeader):
    """Client -> node: a delta file and its signature to keep; then the same to the first of `relay`, and so on."""

    kind: ClassVar[int] = 17
    name: Name
    relay: tuple[Name, ...]
    client: Name
    signature: bytes
    payload: bytes = b""


class DeltaReply(FrameHeader):
    """Node -> client: `node` holds delta `name` at `seq` now; with a `problem` it does not."""

    kind: ClassVar[int] = 18
    node: Name
    name: Name
    seq: int
    problem: str


class Sealed(FrameHeader):
    """Any -> any: a frame that only `receiver` can open (`hil_config/seal.py`). `boot_id` is the sender's."""

    kind: ClassVar[int] = 9
    sender: Name
    boot_id: Name
    receiver: Name
    seq: int
    payload: bytes = b""


class Relayed(FrameHeader):
    """A whole encoded frame from `source` on its way over `path`: the node this frame goes to, and those after it."""

    kind: ClassVar[int] = 10
    source: Name
    path: tuple[Name, ...]
    payload: bytes = b""


Frame = (
    Hello
    | Step
    | Handover
    | ExpertCall
    | ExpertReply
    | Refusal
    | Token
    | Cancel
    | Sealed
    | Relayed
    | Scores
    | Delta
    | DeltaReply
)
