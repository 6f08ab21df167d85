"""The same campaign once in each power mode that the boards of a bench offer, to calibrate board models from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ground_controller.campaign import Progress, run_campaign
from ground_controller.fleet.mqtt import NodeRefused
from ground_controller.mixed import model_boards
from ground_controller.preparation import prepare
from hil_config.errors import UsageError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.power import Power
from hil_config.schema.profiles import load_profile


class ModeRuns(NamedTuple):
    """`folders` of the runs that came to their end; `refused`: mode -> why a board did not go into it."""

    folders: tuple[Path, ...]
    refused: dict[str, str]


def offered(bench: Bench) -> tuple[str, ...]:
    """Names of the modes of a bench's real boards, in the order of boards and profiles.

    Raises:
        UsageError: there are none.
    """
    models = model_boards(bench)
    real = [load_profile(board.profile) for board in bench.boards if board.name not in models]
    names = tuple(dict.fromkeys(mode.name for profile in real for mode in profile.modes))
    if not names:
        raise UsageError(
            f"bench {bench.bench}: no real board offers power modes",
            "list them in a board profile of your own under `modes`, the fastest first",
        )
    return names


def run_each_mode(
    bench: Bench, campaign: Campaign, folder: Path, show: Callable[[str, Progress], None]
) -> ModeRuns:  # fmt: skip
    """One run a mode, into `folder`/MODE. Every run ends with all boards as they were before it, however it ends.

    Args:
        show: told the mode and the run's progress.

    Raises:
        NodeRefused: no mode could be set.
    """
    done, refused = [], dict[str, str]()
    last: NodeRefused | None = None
    for name in offered(bench):
        held = campaign.model_copy(update={"power": Power(mode=name), "matrix": None})
        try:
            run_campaign(prepare(bench, held), folder / name, lambda p, name=name: show(name, p))  # type: ignore[misc]
        except NodeRefused as error:
            refused[name], last = error.message, error
        else:
            done.append(folder / name)
    if not done and last is not None:
        raise last
    return ModeRuns(tuple(done), refused)
