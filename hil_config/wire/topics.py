"""The one table of MQTT topics: who writes, what type, retained or not, at which quality of service.

All topics stand under `hil/v1/<bench>/<node>/`. The lease stands under the name `ground`: what the ground retains is
for the next controller, and no node's business.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from hil_config.errors import LocalProtocolError, RemoteProtocolError
from hil_config.wire import messages as m
from hil_config.wire.plan import SelectionPlan

ROOT = "hil/v1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")


class Topic(NamedTuple):
    """One row of the table."""

    suffix: str
    writer: Literal["node", "ground"]
    payload: type
    retained: bool
    qos: int


STATUS = Topic("status", "node", m.Status, True, 1)
POWER = Topic("tele/power", "node", m.Record, False, 0)
SUMMARY = Topic("tele/summary", "node", m.Summary, True, 0)
EVENT = Topic("evt", "node", m.Record, False, 0)
TOKEN = Topic("token", "node", m.Record, False, 0)
REPLY = Topic("rsp", "node", m.CommandReply, False, 1)
COMMAND = Topic("cmd", "ground", m.Command, False, 1)
PLAN = Topic("plan", "ground", SelectionPlan, False, 0)
CLOCK = Topic("clock", "ground", m.ClockAnchor, False, 1)
WATERMARK = Topic("watermark", "ground", m.Watermark, False, 0)
LEASE = Topic("lease", "ground", m.Lease, True, 1)

TABLE: tuple[Topic, ...] = (
    STATUS, POWER, SUMMARY, EVENT, TOKEN, REPLY, COMMAND, PLAN, CLOCK, WATERMARK, LEASE,
)  # fmt: skip
_BY_SUFFIX = {topic.suffix: topic for topic in TABLE}


def address(bench: str, node: str, topic: Topic) -> str:
    """The full topic of one node, or with node `+` the filter for all of them."""
    if not NAME.match(bench) or not (node == "+" or NAME.match(node)):
        raise LocalProtocolError(f"topic names: bench {bench!r}, node {node!r}; wanted letters, digits, - and _")
    return f"{ROOT}/{bench}/{node}/{topic.suffix}"


def parse(text: str) -> tuple[str, str, Topic]:
    """(bench, node, row) of a full topic, or RemoteProtocolError."""
    parts = text.split("/", 4)
    if len(parts) == 5 and "/".join(parts[:2]) == ROOT and parts[4] in _BY_SUFFIX:
        return parts[2], parts[3], _BY_SUFFIX[parts[4]]
    raise RemoteProtocolError(f"topic {text!r} is not in the table of {ROOT}")
