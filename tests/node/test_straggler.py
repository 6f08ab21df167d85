"""One of eight hosts is ten times slower: on a stepped clock, the slowest hundredth of the layers hardly shows it."""

from __future__ import annotations

import heapq

import numpy as np

from models.serving.dispatch import Call, LayerDispatch
from models.serving.layer_gate import Picks
from node_agent.engine.hosts import HostBook

HOSTS, LAYERS, EXPERTS = 8, 4000, 16
NORMAL_S, SLOW = 0.040, 10.0
NAMES = tuple(f"n{i}" for i in range(HOSTS))


def layer(rng: np.random.Generator, book: HostBook, slow: int, now_s: float, first_id: int) -> float:
    """Seconds until one layer of one token is whole: two experts, each with two holders."""
    never, shunned = book.barred(now_s)
    assert not never
    holders = [[e % HOSTS, (e + 1) % HOSTS] for e in range(EXPERTS)]
    open_to = [[h for h in hosts if NAMES[h] not in shunned] or hosts for hosts in holders]
    experts = rng.permutation(EXPERTS)[None, :2].astype(np.int16)
    hosts = np.array([[open_to[e][int(rng.integers(len(open_to[e])))] for e in experts[0]]], np.int16)
    one = np.ones((1, 2), np.float32)
    picks = Picks(experts, hosts, one, experts[:, :0], one[:, :0], one[:, 0], np.zeros(1, np.intp))
    dispatch = LayerDispatch(picks, 1, open_to, lambda h: book.patience_s(NAMES[h]), 5.0, now_s, first_id)
    begun_s, due, sent = now_s, list[tuple[float, int, Call]](), dict[int, float]()
    while True:
        for call in [ask.call() for ask in dispatch.take_asks()]:
            took_s = NORMAL_S * float(rng.uniform(0.9, 1.1)) * (SLOW if call.host == slow else 1.0)
            heapq.heappush(due, (now_s + took_s, call.id, call))
            sent[call.id] = now_s
        if dispatch.finished:
            return now_s - begun_s
        deadline_s = dispatch.next_deadline_s()
        if due and due[0][0] <= deadline_s:
            now_s, _, call = heapq.heappop(due)
            if dispatch.reply(call.id, np.ones((1, 1), np.float32)):
                book.answered(NAMES[call.host], now_s - sent[call.id])
        else:
            now_s = deadline_s
            for host in dispatch.advance(now_s):
                book.missed(NAMES[host], now_s)


def p99(slow: int) -> tuple[float, list[str]]:
    rng, told = np.random.default_rng(5), list[str]()
    book = HostBook(lambda host: 0.0, 5.0, lambda event, host, reason: told.append(f"{event} {host}"))
    now_s, times = 0.0, []
    for n in range(LAYERS):
        took_s = layer(rng, book, slow, now_s, 1 + n * 4096)
        now_s += took_s
        times.append(took_s)
    return float(np.quantile(times, 0.99)), told


def test_one_slow_host_of_eight_leaves_p99_within_one_and_a_half() -> None:
    quiet, nothing = p99(slow=-1)
    hurt, told = p99(slow=3)
    assert hurt <= 1.5 * quiet
    assert not nothing and set(told) == {"HostShunned n3"}
