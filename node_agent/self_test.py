"""`hil-agent self-test`: can this board do what it is configured for? Every check runs, whatever the others say.

onnxruntime is tried in a child process: on some boards importing it ends the process with a signal (its cpuinfo
library on unknown or offline cores), and a board that cannot say so looks dead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hil_config.errors import EnvironmentFault, HilError, UsageError
from node_agent import VERSION
from node_agent.config import AgentConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from node_agent.shards.store import ShardStore

CLOCK_SET = 1_735_689_600
"""2025-01-01: a board without a clock of its own that has not been told the time says 1970."""
SHARD_S = 120.0
LEAST_FREE_MB = 16


class Check(msgspec.Struct, frozen=True):
    """One line: `ok`, and what was found or what is wrong."""

    name: str
    ok: bool
    detail: str


def _spool(config: AgentConfig) -> str:
    folder = Path(config.spool)
    path = folder / f".self-test-{os.getpid()}"
    begin_s = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = os.statvfs(folder)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror}", "free space, or choose another spool folder") from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    free_mb, most_mb = free.f_bavail * free.f_frsize / 1e6, config.max_spool_bytes / 1e6
    if free_mb < LEAST_FREE_MB:
        raise EnvironmentFault(f"{folder}: {free_mb:.1f} MB free, wanted {LEAST_FREE_MB}", "free space for evidence")
    room = "" if free_mb >= most_mb else f", less than the {most_mb:.0f} MB of max_spool_bytes"
    took_ms = (time.monotonic() - begin_s) * 1e3
    return f"{folder}: 4 kB written and synced in {took_ms:.1f} ms, {free_mb:.0f} MB free{room}"


def _clock(config: AgentConfig) -> str:
    if time.time() < CLOCK_SET:
        raise EnvironmentFault(
            f"the clock is not set: it says {time.strftime('%Y-%m-%d', time.gmtime())}",
            "set the time (date -s, timedatectl) before certificates are checked",
        )
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _sensors(config: AgentConfig) -> str:
    from node_agent.sensors.listing import look

    listing = look(config)
    wrong = [f"{line.name}: {line.problem}" for line in listing.found if line.problem]
    if wrong:
        raise EnvironmentFault("; ".join(wrong), "hil-agent sensors shows them all")
    power = next(line for line in listing.found if line.name == "power_w")
    missing = f", missing: {', '.join(one.name for one in listing.missing)}" if listing.missing else ""
    return f"{len(listing.found)} quantities, power {power.provenance}{missing}"


def _identity(config: AgentConfig) -> str:
    from hil_config.epoch_file import EpochFile
    from hil_config.signing import OrderGate
    from hil_config.tls import check_own_certificate
    from node_agent.link.security import secure

    if config.tls is None:
        return "none: on loopback, in the clear"
    secure(config.tls, config.node, "self-test")
    days = check_own_certificate(config.tls)
    OrderGate(Path(config.command_key), config.node, "self-test", EpochFile(Path(config.spool) / ".self-test.epoch"))
    return f"{config.tls.certificate} and its key fit, {days:.0f} days left"


def _port(config: AgentConfig) -> str:
    where = f"{config.data_host}:{config.data_port}"
    try:
        socket.create_server((config.data_host, config.data_port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # this board's own agent may be at work
            return f"{where} is in use: right if the agent is running, else see who has it: ss -ltnp"
        raise EnvironmentFault(f"data port {where}: {error.strerror}", "mend data_host or data_port") from error
    return f"{where} is free"


def _links(config: AgentConfig) -> str:
    from node_agent.link.frame_log import open_frame_log
    from node_agent.link.netem import ours

    shaper = "shaped by the agent"
    if config.data_interface:
        at_work = ours(config.data_interface)
        shaper = f"shaped by the kernel on {config.data_interface}{', at work now' if at_work else ''}"
    log = open_frame_log(config.frame_log, "self-test", f"{config.node}-{os.getpid()}")
    if log is None:
        return shaper
    log.close()
    log.path.unlink()
    return f"{shaper}, every frame logged in {config.frame_log}"


def _broker(config: AgentConfig) -> str:
    from node_agent.mqtt_link import try_broker

    try_broker(config)
    return f"{config.broker_host}:{config.broker_port} takes this node"


def _try_shard(config: AgentConfig) -> str:
    """Runs in the child: open the smallest expert shard of the folder, verified, and run one row through it; then
    through the first layer's trunk, if it is here, as the first token of a request."""
    import numpy as np

    from node_agent.shards.providers import choose_providers
    from node_agent.shards.store import ShardStore

    providers = choose_providers(config.provider, config.cuda_arena_bytes)
    if providers.reason:
        raise EnvironmentFault(f"provider {config.provider}: {providers.reason}", "mend that, or set provider: cpu")
    store = ShardStore(Path(config.shards), config.trust, providers=providers)
    shards = [shard for shard in store.manifest.shards if shard.kind == "expert"]
    shard = min(shards, key=lambda one: (one.bytes, one.name))
    session = store.session(shard.kind, shard.precision, shard.layer, shard.expert)
    row = np.sin(np.arange(store.manifest.model.hidden, dtype=np.float32))[None]
    session.run(row)
    begin_s = time.perf_counter()
    (output,) = session.run(row)
    took_ms = (time.perf_counter() - begin_s) * 1e3
    if not np.all(np.isfinite(output)):
        raise EnvironmentFault(f"{shard.name}: the result is not finite", "this onnxruntime computes wrongly here")
    total = float(np.sum(output, dtype=np.float64))
    where = providers.details()["provider"].removesuffix("ExecutionProvider")
    found = f"{shard.name} ({shard.bytes} bytes) verified and run on {where}: sum {total:.4f}, {took_ms:.2f} ms a row"
    return f"{found}{_try_trunk(store, row)}"


def _try_trunk(store: ShardStore, row: NDArray[np.float32]) -> str:
    import numpy as np

    from node_agent.engine.kv_cache import RequestCache, pasts

    card = store.manifest.model
    shard = store.manifest.find("trunk", card.trunk_precision, 0)
    if not (store.folder / shard.name).exists():
        return ""
    past = pasts(0, [RequestCache(card.cache_shape)])
    session = store.session("trunk", card.trunk_precision, 0)
    for output in session.run(row, *past, np.zeros((1, 1), np.int64)):
        if not np.all(np.isfinite(output)):
            raise EnvironmentFault(f"{shard.name}: the result is not finite", "this onnxruntime computes wrongly here")
    return f"; {shard.name} too"


def _shard(config: AgentConfig) -> str:
    """A forked child does the work; a crash of it is a finding."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            answer = {"ok": True, "detail": _try_shard(config)}
        except HilError as error:
            answer = {"ok": False, "detail": error.message, "hint": error.hint}
        except Exception as error:  # whatever happens in the child must be told, not shown twice
            answer = {"ok": False, "detail": f"{type(error).__name__}: {error}", "hint": ""}
        os.write(writer, json.dumps(answer).encode()[:65536])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        late = not select.select([pipe], [], [], SHARD_S)[0]
        if late:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if late:
        raise EnvironmentFault(f"was not run within {SHARD_S:g} s", "look at card and load; try another onnxruntime")
    if not text:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.waitstatus_to_exitcode(status)}"
        raise EnvironmentFault(
            f"onnxruntime ended its process with {how}", "try another release of onnxruntime; look at /proc/cpuinfo"
        )
    told = json.loads(text)
    if not told["ok"]:
        raise EnvironmentFault(told["detail"], told["hint"])
    return str(told["detail"])


def _platform(config: AgentConfig) -> str:
    from node_agent.wake_latency import hold

    hold(Path(config.sysfs_root), config.wake_latency_us).close()
    return f"agent {VERSION}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"


CHECKS: tuple[tuple[str, Callable[[AgentConfig], str]], ...] = (
    ("platform", _platform),
    ("clock", _clock),
    ("spool", _spool),
    ("sensors", _sensors),
    ("shard", _shard),
    ("identity", _identity),
    ("port", _port),
    ("links", _links),
    ("broker", _broker),
)


def self_test(config: AgentConfig, skip: frozenset[str] = frozenset()) -> list[Check]:
    """All checks but those to skip; UsageError where there is none of that name."""
    if unknown := skip - {name for name, _ in CHECKS}:
        raise UsageError(f"--skip {sorted(unknown)[0]}: no such check", f"one of {', '.join(n for n, _ in CHECKS)}")
    found = []
    for name, check in CHECKS:
        if name in skip:
            continue
        try:
            found.append(Check(name, True, check(config)))
        except HilError as error:
            found.append(Check(name, False, f"{error.message} ({error.hint})" if error.hint else error.message))
        except Exception as error:  # every check runs, whatever the others say
            found.append(Check(name, False, f"unexpected: {type(error).__name__}: {error}"))
    return found


def show(checks: list[Check], as_json: bool) -> int:
    """Print, and give the exit code: 9 if a check failed."""
    if as_json:
        print(msgspec.json.encode({"ok": all(c.ok for c in checks), "checks": checks}).decode())
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:9} {check.detail}")
    sys.stdout.flush()
    return 0 if all(check.ok for check in checks) else EnvironmentFault.exit_code
