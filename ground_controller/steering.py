"""Pause, resume, seek, step and injected link faults while a run is under way.

A request is a file in the run folder's `control/`, written whole by rename; the answer stands beside it. The loop
takes requests between ticks, journals what they come to, and only then acts: so replay derives the same decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ground_controller.run_end import refuse_unsteerable, tick_s
from hil_config.clock import PacedClock
from hil_config.errors import HilError, UsageError
from hil_config.wire.link_fault import LinkFault

FOLDER = "control"
LEAD_S = 0.2
"""A clock that goes on does so this far ahead, so that every node has heard of it."""
ANSWER_S = 10.0
"""Longest wait for an answer beyond the tick that is under way."""
LOOK_S = 0.25
"""How often somebody who waits for an answer looks whether the run has ended meanwhile."""

ClockAction = Literal["pause", "resume", "seek", "step"]
Action = ClockAction | Literal["fault"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks for. `value_s`: where to seek to, or how far to step (0: one tick)."""

    action: Action
    value_s: float = 0.0
    fault: LinkFault | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a request; `error` is empty if it was carried out. `scenario_s` is where the run stands."""

    error: str
    scenario_s: float
    paused: bool


class Steered(msgspec.Struct, frozen=True):
    """Journalled before it is acted on. Scenario time was `at_s` at `host_ns` and is `to_s` from then on."""

    action: Action
    at_s: float
    to_s: float
    rate: float
    host_ns: int
    fault: LinkFault | None = None


class Steering:
    """The controller's end.

    Args:
        folder: of the run.
        links: names that a fault may name (satellites).
        announce: tells every node of the clock (action, host ns, scenario second, rate; 0 is paused).
        inject: tells every node of a fault.
    """

    def __init__(
        self,
        folder: Path,
        clock: PacedClock,
        duration_s: float,
        tick_s: float,
        links: tuple[str, ...],
        announce: Callable[[ClockAction, int, float, float], None],
        inject: Callable[[LinkFault], None],
    ) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._clock = clock
        self._duration_s = duration_s
        self._tick_s = tick_s
        self._links = links
        self._announce = announce
        self._inject = inject

    def take(self) -> Iterator[tuple[Path, Steered]]:
        """Requests in the order of their names, checked; a refused one is answered here. Each begins where the one
        before left the clock, so whoever takes one acts on it before the next."""
        for path in sorted(self._folder.glob("*.request.json")):
            try:
                planned = self._plan(msgspec.json.decode(path.read_bytes(), type=Request))
            except FileNotFoundError:  # whoever left it does not wait any more
                continue
            except (HilError, ValueError) as error:
                self._answer(path, str(error))
                continue
            yield path, planned

    def _plan(self, request: Request) -> Steered:
        now_ns, at_s, paused = time.monotonic_ns(), float(self._clock.now()), self._clock.paused
        action, rate = request.action, 0.0 if paused else self._clock.rate
        if action == "pause":
            return Steered(action, at_s, at_s, 0.0, now_ns)
        if action == "resume":
            ahead_ns = int(LEAD_S * 1e9) if paused else 0
            return Steered(action, at_s, at_s, self._clock.rate, now_ns + ahead_ns)
        if action == "seek":
            if not 0.0 <= request.value_s <= self._duration_s:
                raise UsageError(f"seek to {request.value_s} s: wanted 0 to {self._duration_s:g}, the run's duration")
            ahead_ns = 0 if paused else int(LEAD_S * 1e9)
            return Steered(action, at_s, request.value_s, rate, now_ns + ahead_ns)
        if action == "step":
            if not paused:
                raise UsageError("step: the run is not paused", "hil control pause RUN")
            by_s = request.value_s or self._tick_s * self._clock.rate
            if not 0.0 < by_s <= self._duration_s - at_s:
                raise UsageError(f"step of {by_s} s: wanted more than 0 and at most {self._duration_s - at_s:g}")
            return Steered(action, at_s, at_s + by_s, 0.0, now_ns)
        if request.fault is None:
            raise UsageError("fault: names no fault")
        for name in (request.fault.source, request.fault.target):
            if name and name not in self._links:
                raise UsageError(f"fault: {name!r} is not of this run; its satellites are {', '.join(self._links)}")
        return Steered(action, at_s, at_s, rate, now_ns, request.fault)

    def act(self, path: Path, steered: Steered) -> None:
        """Carry out what has been journalled."""
        if steered.action == "fault":
            assert steered.fault is not None
            self._inject(steered.fault)
        else:
            self._clock.move(steered.host_ns / 1e9, steered.to_s, steered.rate)
            self._announce(steered.action, steered.host_ns, steered.to_s, steered.rate)
        self._answer(path, "", steered.to_s, steered.rate == 0.0)

    def _answer(self, path: Path, error: str, scenario_s: float | None = None, paused: bool | None = None) -> None:
        answer = Answer(
            error,
            float(self._clock.now()) if scenario_s is None else scenario_s,
            self._clock.paused if paused is None else paused,
        )
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(answer))
        part.replace(answer_path(path))
        path.unlink(missing_ok=True)


def answer_path(request: Path) -> Path:
    """Where a request is answered."""
    return request.with_name(request.name.replace(".request.json", ".answer.json"))


def forget_requests(folder: Path) -> None:
    """Requests and answers that a dead controller left behind."""
    for path in (folder / FOLDER).glob("*.json"):
        path.unlink(missing_ok=True)


def leave_request(folder: Path, request: Request) -> Path:
    """Put a request where the run in `folder` finds it between two ticks."""
    path = folder / FOLDER / f"{time.time_ns()}.request.json"
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(request))
    part.replace(path)
    return path


def _await(answered: Path, folder: Path, deadline: float) -> None:
    looked = time.monotonic()
    while not answered.exists():
        if time.monotonic() - looked > LOOK_S:
            refuse_unsteerable(folder)
            looked = time.monotonic()
        if looked > deadline:
            raise UsageError(f"{folder}: no answer in time, although its controller is there", f"hil top {folder}")
        time.sleep(0.02)


def patience_s(folder: Path) -> float:
    """How long an answer may take: a run takes requests between its ticks."""
    return ANSWER_S + tick_s(folder)


def ask(folder: Path, request: Request, timeout_s: float | None = None) -> Answer:
    """A person's end: leave a request and wait for the answer, as long as there is somebody to give it.

    Args:
        timeout_s: how long; None: `patience_s`.

    Raises:
        UsageError: no run goes on in `folder` or it ends meanwhile, it has not begun yet, or it refused.
    """
    refuse_unsteerable(folder)
    if not (folder / FOLDER).is_dir():
        raise UsageError(f"{folder}: this run has not begun its orbit yet", "wait for its first tick: hil top RUN")
    timeout_s = patience_s(folder) if timeout_s is None else timeout_s
    path = leave_request(folder, request)
    deadline, answered = time.monotonic() + timeout_s, answer_path(path)
    try:
        _await(answered, folder, deadline)
    except UsageError:
        path.unlink(missing_ok=True)
        if not answered.exists():  # it may have come in the last moment
            raise
    answer = msgspec.json.decode(answered.read_bytes(), type=Answer)
    answered.unlink()
    if answer.error:
        message, _, hint = answer.error.partition("\n  hint: ")
        raise UsageError(message, hint)
    return answer
