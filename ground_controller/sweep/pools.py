"""Where cells run: processes of this machine, or the workers of a Dask cluster. Results come as they are ready."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ground_controller.orphans import end_with_parent
from ground_controller.sweep.cells import SweepCell
from ground_controller.sweep.execute import CellResult, run_cell
from hil_config.errors import EnvironmentFault

CONNECT_S = 20.0
DIED = "the process that ran this cell died (out of memory, or killed); nothing more is known"


def in_processes(cells: Sequence[SweepCell], jobs: int) -> Iterator[CellResult]:
    """`jobs` processes. Where one dies, the cells that were under way run again, each alone: whose process dies then is
    the one that failed."""
    waiting = list(cells)
    while waiting:
        suspects: list[SweepCell] = []
        with _pool(jobs) as pool:
            running: dict[Future[CellResult], SweepCell] = {}
            while waiting or running:
                while waiting and len(running) < jobs and not suspects:
                    cell = waiting.pop(0)
                    running[pool.submit(run_cell, cell)] = cell
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        suspects.append(cell)
        for cell in suspects:
            yield _alone(cell)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned: a forked child of a process with threads (onnxruntime's among them) may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent)


def _alone(cell: SweepCell) -> CellResult:
    with _pool(1) as pool:
        try:
            return pool.submit(run_cell, cell).result()
        except BrokenProcessPool:
            return CellResult(cell.key, DIED)


def on_cluster(cells: Sequence[SweepCell], address: str) -> Iterator[CellResult]:
    """The workers behind a scheduler's `address`, as they are. A cell whose workers die again and again is recorded.

    Raises:
        EnvironmentFault: nothing answers there, or the library is not installed.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # its calls carry no types
    except ImportError as error:
        raise EnvironmentFault("--dask: distributed is not installed", "pip install 'spacemoe-hil[dask]'") from error
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"--dask {address}: no scheduler answers: {error}", "give its address, like tcp://host:8786"
        ) from error
    with client:
        futures = {client.submit(run_cell, cell, key=f"hil-sweep-{cell.key}", pure=False): cell for cell in cells}
        try:
            for future in distributed.as_completed(list(futures), loop=client.loop):
                cell = futures.pop(future)
                trouble = future.exception()
                yield (
                    future.result() if trouble is None else CellResult(cell.key, f"{type(trouble).__name__}: {trouble}")
                )
        finally:
            if futures:
                client.cancel(list(futures))
