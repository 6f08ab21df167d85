"""What routers are asked and what they answer, and what becomes of it: predicted and factual plans apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from ground_controller.formats.plan import Contact, ContactPlan


@dataclass(frozen=True)
class Message:
    """`size_bit` bits at `source` at `at_s`, in seconds of the plan, for `target`."""

    source: str
    target: str
    at_s: float
    size_bit: float = 0.0


@dataclass(frozen=True)
class Hop:
    """One contact of a route: sending ends at `leaves_s`, the last bit is there at `arrives_s`."""

    contact: Contact
    leaves_s: float
    arrives_s: float


@dataclass(frozen=True)
class Route:
    """Hops in order, at least one."""

    hops: tuple[Hop, ...]

    @property
    def arrival_s(self) -> float:
        return self.hops[-1].arrives_s

    @property
    def next_node(self) -> str:
        """The neighbour it goes to first."""
        return self.hops[0].contact.target

    @property
    def ends_s(self) -> float:
        """When the first of its contacts ends: after that the route is gone."""
        return min(hop.contact.end_s for hop in self.hops)

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.hops[0].contact.source, *(hop.contact.target for hop in self.hops))


class Router(Protocol):
    """Finds routes over the plan it was made with: a prediction. Routers of one plan do not share bookings."""

    @property
    def name(self) -> str: ...

    def route(self, message: Message) -> Route | None:
        """The route of a message; None where there is none. Nothing is booked.

        Raises:
            ConfigError: a node that the plan does not know.
        """
        ...

    def book(self, route: Route, size_bit: float) -> None:
        """Take what a message needs from the contacts of its route: later routes wait for it or go elsewhere."""
        ...

    def residual_bit(self, contact: Contact) -> float:
        """What a contact of the plan can still carry."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of a message: `arrived_s` is infinity if it was stranded, at `node`."""

    arrived_s: float
    node: str
    hops: tuple[Hop, ...]


def travel(route: Route, message: Message, factual: ContactPlan) -> Outcome:
    """The route of a prediction over what really happens.

    At each hop the message waits for a factual contact of the same pair that overlaps the predicted one and takes
    the first that can carry it; where there is none it is stranded. It is sent no earlier than predicted: until then
    the contact may be booked for others.
    """
    t = message.at_s
    done: list[Hop] = []
    for hop in route.hops:
        wanted = hop.contact
        chances = [
            real for real in factual.contacts
            if (real.source, real.target) == (wanted.source, wanted.target) and real.rate_bit_s > 0.0
            and real.start_s < wanted.end_s and real.end_s > wanted.start_s
        ]  # fmt: skip
        leaves = [
            (max(max(t, real.start_s) + message.size_bit / real.rate_bit_s, hop.leaves_s), real) for real in chances
        ]
        real_hops = [Hop(real, at, at + real.delay_s) for at, real in leaves if at <= real.end_s]
        if not real_hops:
            return Outcome(math.inf, wanted.source, tuple(done))
        taken = min(real_hops, key=lambda one: one.arrives_s)
        done.append(taken)
        t = taken.arrives_s
    return Outcome(t, message.target, tuple(done))
