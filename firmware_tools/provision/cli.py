"""`hil provision`: from a flashed board to one in service."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.fleet import on_all_rolling, worst
from firmware_tools.state import State
from hil_config.errors import ConfigError, EnvironmentFault, LinkError, UsageError

if TYPE_CHECKING:
    from firmware_tools.provision.job import Found, Provisioned, Timeouts, Wanted
    from firmware_tools.provision.upgrade import Upgraded
    from hil_config.schema.bench import Bench, Board


@click.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD...")
@click.option("--via", type=click.Choice(["auto", "console", "ssh"]), default="auto", show_default=True,
              help="auto: SSH if the bench file names it, else the console.")  # fmt: skip
@click.option("--check", is_flag=True, help="Only look and report; exit code 9 if something differs.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the agent at the broker.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(10, 3600), default=180.0, show_default=True,
              help="Seconds until the board has to give a shell.")  # fmt: skip
@click.option("--join-timeout", "join_s", type=click.FloatRange(1, 3600), default=120.0, show_default=True,
              help="Seconds until its agent has to be at the broker.")  # fmt: skip
@click.option("--upgrade", is_flag=True, help="Bring this machine's version of the agent onto the boards.")
@click.option("--agent", "agent_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="With --upgrade: this archive instead.")  # fmt: skip
@click.option("--rollback", is_flag=True, help="Return to the agent that ran before.")
@click.option("--batch", type=click.IntRange(1, 64), default=1, show_default=True,
              help="With --upgrade or --rollback: so many boards at once; the first failure ends it.")  # fmt: skip
@click.option("--keep-going", is_flag=True, help="With --upgrade or --rollback: go on after a failure.")
@click.option("--ntp", default=None, metavar="HOST", help="The boards' time server; the broker's host if left out, "
              "'' leaves their time alone.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@BENCH_OPTION
@click.pass_context
def provision(
    context: click.Context, boards: tuple[str, ...], via: str, check: bool, no_wait: bool, timeout_s: float,
    join_s: float, upgrade: bool, agent_file: Path | None, rollback: bool, batch: int, keep_going: bool,
    ntp: str | None, as_json: bool, bench_file: Path,
) -> None:  # fmt: skip
    """Log in over SSH or on the serial console, set the clock, enrol the board and see its agent at the broker.

    May be repeated: what is in order is left alone. With --upgrade a new agent goes into a slot of its own, tests
    itself there, and is switched to; if it does not come to the broker the one before is put back. `all` stands for
    every board but processes of this machine and model boards.
    """
    if check + upgrade + rollback > 1 or (no_wait and (upgrade or rollback)) or (agent_file and not upgrade):
        raise UsageError(
            "--check, --upgrade and --rollback exclude each other; --no-wait does not go with the latter two, "
            "--agent only with --upgrade",
            "hil provision --help",
        )
    from firmware_tools.provision.job import Timeouts

    bench, chosen = boards_of(bench_file, boards)
    if boards == ("all",):
        chosen = tuple(board for board in chosen if board.kind != "local")
    state, by_name = State(bench_file), {board.name: board for board in chosen}
    agent = _archive(agent_file) if upgrade else b""
    ntp = _time_server(bench, chosen, ntp)
    order = Order(via, check, not no_wait, Timeouts(shell_s=timeout_s, online_s=join_s), agent, rollback, ntp)
    outcomes, left = on_all_rolling(
        list(by_name), lambda name: _one(by_name[name], bench, order, state), batch if upgrade or rollback else None,
        keep_going,
    )  # fmt: skip
    error = worst(outcomes)
    back = _way_back([one.result for one in outcomes], via, bench_file) if upgrade and error is not None else ""
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(outcomes), "not_begun": left, "back": back}))
    for one in outcomes if not as_json else ():
        if one.result is not None:
            click.echo(_sentence(one.result))
    if left:
        click.echo(f"not begun after the first failure: {' '.join(left)}", err=True)
    if back:
        click.echo(f"back to the agent before, on the boards that were switched: {back}", err=True)
    if error is not None:
        raise error
    if check and any(getattr(one.result, "differs", ()) for one in outcomes):
        context.exit(EnvironmentFault.exit_code)


def _way_back(results: Sequence[Found | Provisioned | Upgraded | None], via: str, bench_file: Path) -> str:
    """The command that takes an upgrade back where it was made; empty if it was made nowhere."""
    from firmware_tools.provision.upgrade import Upgraded

    switched = [one.board for one in results if isinstance(one, Upgraded) and one.outcome == "switched" and one.before]
    ways = [] if via == "auto" else ["--via", via]
    command = ["hil", "provision", *switched, "--rollback", *ways, "--bench", str(bench_file)]
    return shlex.join(command) if switched else ""


class Order(NamedTuple):
    """What to do with each board. `agent`: archive to upgrade to, empty for none."""

    via: str
    check: bool
    wait: bool
    limits: Timeouts
    agent: bytes
    rollback: bool
    ntp: str | None


def _time_server(bench: Bench, boards: Sequence[Board], ntp: str | None) -> str | None:
    """What was asked for; else None, the broker's host, if that serves time: a board that is told to ask a server
    which is not there keeps worse time than before."""
    from firmware_tools.time_server import ask
    from hil_config.schema.strict import LOOPBACK

    if ntp is not None or bench.broker.host in LOOPBACK or all(board.kind == "virtual" for board in boards):
        return ntp
    try:
        ask(bench.broker.host)
    except LinkError as error:
        click.echo(f"note: the boards' time is left alone: {error.message}; to serve it: {error.hint}", err=True)
        return ""
    return None


def _wanted(board: Board, bench: Bench, ntp: str | None) -> Wanted:
    """A loopback address of ours says nothing to a board."""
    from firmware_tools.firstboot.job import place_of
    from firmware_tools.provision.job import Wanted
    from hil_config.schema.strict import LOOPBACK

    host = place_of(board, bench).broker_host if ntp is None else ntp
    return Wanted(board.kind == "jetson", "" if host in LOOPBACK and ntp is None else host)


def _archive(path: Path | None) -> bytes:
    from firmware_tools.firstboot.agent_package import agent_tar

    return agent_tar() if path is None else path.read_bytes()


def _one(board: Board, bench: Bench, order: Order, state: State) -> Found | Provisioned | Upgraded:
    from firmware_tools.broker_watch import BrokerWatch
    from firmware_tools.identity_store import IdentityStore
    from firmware_tools.provision.agent_service import renew_units
    from firmware_tools.provision.job import look, provision
    from firmware_tools.provision.reach import reach
    from firmware_tools.provision.upgrade import Upgrade
    from firmware_tools.reservation import check_free

    if bench.identity is None:
        raise ConfigError(f"board {board.name}: the bench wants `identity`", "hil bench init, and name its folder")
    check_free(board.name, state)
    store, limits = IdentityStore.of(Path(bench.identity), bench.bench), order.limits
    wanted = _wanted(board, bench, order.ntp)
    with state.busy(board.name, "hil provision"), ExitStack() as stack:
        shell = reach(board, order.via, state, stack, limits.shell_s, _tell)
        if order.check:
            return look(shell, board.name, store, limits, wanted)

        def tell(words: str) -> None:
            click.echo(f"{board.name}: {words}", err=True)

        watch = None
        if order.wait:
            watch = BrokerWatch(bench.bench, bench.broker.host, bench.broker.port, Path(bench.identity))
            stack.enter_context(watch)
        if watch is not None and order.rollback:
            returned = Upgrade(shell, watch, state, limits, tell).back()
            renew_units(shell, wanted.jetson, limits.command_s, tell)
            return returned
        # An agent that does not come is no reason not to bring a better one.
        done = provision(board.name, shell, store, None if order.agent else watch, state, limits, tell, wanted)[0]
        if watch is not None and order.agent:
            upgraded = Upgrade(shell, watch, state, limits, tell).to(order.agent)
            renew_units(shell, wanted.jetson, limits.command_s, tell)
            return upgraded
        return done


def _tell(words: str) -> None:
    click.echo(words, err=True)


def _sentence(result: Found | Provisioned | Upgraded) -> str:
    from firmware_tools.firstboot.agent_package import agent_tar
    from firmware_tools.provision.agent_slots import slot_name
    from firmware_tools.provision.job import Found
    from firmware_tools.provision.upgrade import Upgraded

    if isinstance(result, Upgraded):
        where = f"; agent at the broker, boot {result.boot_id}" if result.boot_id else ""
        return f"{result.board}: {result.outcome}, agent {result.now}, before {result.before or 'none'}{where}"

    if isinstance(result, Found):
        days = "none of ours" if result.days_left is None else f"{result.days_left:.0f} days left"
        lines = {
            "first boot": result.first_boot or "never",
            "agent": f"{result.slot or 'none'}, this machine has {slot_name(agent_tar())}",
            "certificate": days, "revocation list": result.revocations, "clock": result.clock,
            "time": result.time, "service": result.service,
            "differs": f"{', '.join(result.differs)}: hil provision {result.name}" if result.differs else "nothing",
        }  # fmt: skip
        return "\n".join([f"{result.name}:", *(f"  {name + ':':<17}{value}" for name, value in lines.items())])
    done = ", ".join(result.changed) or "everything was in order"
    return f"{result.board}: {done}" + (f"; agent at the broker, boot {result.boot_id}" if result.boot_id else "")
