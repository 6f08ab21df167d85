"""One follower for all pages: reads the journal in a thread of its own and tells each page what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ground_controller.live import messages
from ground_controller.live.follower import BATCH, Follower, Moment
from ground_controller.live.terminal import standing
from hil_config.errors import HilError

LOOK_S = 0.25
"""Between looks at the journal, and at least between pictures."""

STANDING_S = 2.0
MOST_WAITING = 40
"""Pictures that wait for a page; one that is further behind gets the whole picture again."""

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode


class Page:
    """A connected page: what waits to be sent to it, and whether it looks at the past."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self.past = False

    def tell(self, message: bytes) -> None:
        self.waiting.put_nowait(message)


class Hub:
    """Start `watch` as a task. All reading happens in one thread, so the follower is never used twice at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._follower: Follower | None = None
        self._pages: set[Page] = set()
        self._shown: Moment | None = None
        self._standing = ""
        self._told_s = 0.0

    async def _do(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def watch(self) -> None:
        """Follow the journal until cancelled."""
        try:
            while True:
                more = await self._do(self._look)
                if not more:
                    await asyncio.sleep(LOOK_S)
                self._tell_change(await self._do(self._newest))
        finally:
            await self._do(self._close)
            self._thread.shutdown()

    def _look(self) -> bool:
        """Read a batch; whether there is more to read at once."""
        if self._follower is None:
            self._follower = Follower.open(self.folder)
            return self._follower is not None
        return self._follower.read() == BATCH

    def _newest(self) -> tuple[Moment | None, str]:
        """The newest moment if it is not the one that was shown, and how the run stands."""
        follower = self._follower
        if follower is None or not len(follower.history):
            return None, ""
        state = standing(follower.facts, follower.ended, follower.quiet_s, follower.rate)
        if self._shown is not None and self._shown.tick == follower.history.tick(-1):
            return None, state
        return follower.now(), state

    def _tell_change(self, found: tuple[Moment | None, str]) -> None:
        moment, state = found
        now_s = asyncio.get_running_loop().time()
        if moment is None and (self._shown is None or state == self._standing or now_s < self._told_s + STANDING_S):
            return
        before, self._standing, self._told_s = self._shown, state, now_s
        if before is None:
            self._shown = moment
            return
        current = self._shown = moment or before
        message = _encode(messages.picture(current, before, state, current.tick.host_s))
        for page in self._pages:
            if page.past:
                continue
            if page.waiting.qsize() > MOST_WAITING:
                while not page.waiting.empty():
                    page.waiting.get_nowait()
                self._show(page)
            else:
                page.tell(message)

    async def join(self, page: Page) -> None:
        """Tell a page everything from now on; before the run's first tick, that it has to wait."""
        if self._shown is None:
            page.tell(_encode({"kind": "waiting", "folder": str(self.folder)}))
        while self._shown is None:
            await asyncio.sleep(LOOK_S)
        await self._greet(page)
        self._pages.add(page)

    def leave(self, page: Page) -> None:
        self._pages.discard(page)

    async def _greet(self, page: Page) -> None:
        """Nothing may come between what is told here and the changes that follow: no await after the first."""
        assert self._follower is not None
        hello = await self._do(messages.hello, self._follower)
        page.tell(_encode(hello))
        page.past = False
        self._show(page)

    def _show(self, page: Page) -> None:
        if self._shown is not None:
            page.tell(_encode(messages.picture(self._shown, None, self._standing, self._shown.tick.host_s)))

    async def answer(self, page: Page, ask: messages.Ask) -> None:
        """What a page asks for."""
        follower = self._follower
        if follower is None or self._shown is None:
            return
        if ask.ask == "live":
            await self._greet(page)
        elif ask.ask == "at":
            page.past = True
            try:
                moment = await self._do(follower.at, ask.host_s)
            except HilError as error:
                page.tell(_encode({"kind": "error", "error": error.message, "hint": error.hint}))
                return
            if moment is not None and page.past:
                last_s = self._shown.tick.host_s
                page.tell(_encode(messages.picture(moment, None, self._standing, last_s, past=True)))
        elif ask.ask == "node" and 0 <= ask.node < len(follower.facts.nodes):
            page.tell(_encode(await self._do(self._node, ask.node)))

    def _node(self, node: int) -> messages.NodeTold:
        assert self._follower is not None
        return messages.NodeTold(node, self._follower.readings(node), messages.curves(self._follower, node))

    def _close(self) -> None:
        if self._follower is not None:
            self._follower.close()
