"""The web server's side of the run's socket: one connection, many generations."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self

from ground_controller.endpoint import messages as m
from hil_config.errors import InvalidRunError, LinkError

OPEN_S = 5.0


class RunLink:
    """Open with `RunLink.open`. `over` is set when the run has ended or the connection is lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, described: m.Described) -> None:
        self._reader, self._writer = reader, writer
        self.described = described
        self.over = asyncio.Event()
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Queue[m.FromRun]] = {}
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, folder: Path) -> Self:
        """Connect to the run in `folder`.

        Raises:
            InvalidRunError: no run there takes requests.
            LinkError: it does not answer.
        """
        hint = "start one that does: hil campaign run, with workload.arrivals: requests in the campaign file"
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidRunError(f"{folder}: {error.strerror}", "give a run folder") from error
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{handle}/{m.SOCKET}", limit=m.MOST_LINE)
        except OSError as error:
            raise InvalidRunError(f"{folder}: no run here takes requests ({error.strerror})", hint) from error
        finally:
            os.close(handle)
        try:
            said = m.from_run(await asyncio.wait_for(reader.readline(), OPEN_S))
        except (TimeoutError, ValueError, OSError) as error:
            writer.close()
            raise LinkError(f"{folder / m.SOCKET}: the run does not say what it is: {error}", hint) from error
        if not isinstance(said, m.Described):
            writer.close()
            raise LinkError(f"{folder / m.SOCKET}: the run began with {type(said).__name__}", hint)
        return cls(reader, writer, said)

    async def _read(self) -> None:
        try:
            while data := await self._reader.readline():
                said = m.from_run(data)
                if not isinstance(said, m.Described) and said.id in self._answers:
                    self._answers[said.id].put_nowait(said)
        except (OSError, ValueError):
            pass  # the run has ended, or speaks another release's language: either way it is over
        finally:
            self.over.set()
            for number, queue in self._answers.items():
                queue.put_nowait(m.Ended(number, "the run has ended"))

    async def ask(self, prompt: str, tokens: list[int], want: int) -> AsyncGenerator[m.FromRun]:
        """What the run says of a generation, to its end. Leaving the loop early withdraws it."""
        number = next(self._ids)
        queue: asyncio.Queue[m.FromRun] = asyncio.Queue()
        self._answers[number] = queue
        done = False
        try:
            if self.over.is_set():
                yield m.Ended(number, "the run has ended")
                done = True
                return
            self._writer.write(m.line(m.Ask(number, prompt, tuple(tokens), want)))
            while not done:
                said = await queue.get()
                done = isinstance(said, m.Ended | m.Refused)
                yield said
        finally:
            del self._answers[number]
            if not done and not self.over.is_set():
                self._writer.write(m.line(m.Withdraw(number)))

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        await asyncio.gather(self._task, return_exceptions=True)
