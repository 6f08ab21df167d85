"""One controller a bench: the retained lease at its broker, taken before the first order and kept up while it commands.

MQTT has no compare-and-set, but the broker puts all messages of a topic in one order. So a claim counts only when it
has come back from the broker and nobody else's came before it since the lease was seen to be free. Where a quicker one
may have been missed (the connection broke, or the retained lease is not any more what was found: the will of one that
was refused lies over it), beats decide: whoever commands is heard within a few. Whether a holder lives is told by its
beats alone, in the newcomer's own monotonic time: no clocks are compared.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hil_config.errors import LinkError, RemoteProtocolError, SafetyRefusal
from hil_config.tls import BROKER, TlsFiles, check_accepted, client_context, explain
from hil_config.wire import messages as m
from hil_config.wire import topics

GROUND = "ground"
BEAT_S = 1.0
SILENT_BEATS = 3.0
"""A holder that was not heard for so many of its beats is taken for dead, if its will says so too."""
ANSWER_S = 10.0
"""The longest a broker takes to send a claim back."""


class _Heard(NamedTuple):
    lease: m.Lease
    retained: bool


class BenchLease:
    """One controller's claim to a bench.

    Args:
        place: host and port of the broker.
        alone: the broker was started by this run: nobody can hold it, and there is nothing to wait for.
    """

    def __init__(
        self, bench: str, place: tuple[str, int], run: str, tls: TlsFiles | None = None, alone: bool = False
    ) -> None:
        self._topic = topics.address(bench, GROUND, topics.LEASE)
        self._statuses = topics.address(bench, "+", topics.STATUS)
        self._bench = bench
        self._place = place
        self._tls = None if tls is None else client_context(tls, BROKER)
        self._alone = alone
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._own = m.Lease(
            holder=uuid.uuid4().hex[:12], epoch=0, state="held", run=run, host=socket.gethostname(), pid=os.getpid(),
            since_utc=since, beat_s=BEAT_S,
        )  # fmt: skip
        self._changed = threading.Condition()
        self._heard: list[_Heard] = []
        self._reported = 0
        self._listening = False
        self._since_s = 0.0
        """When the subscription that is heard now began: what came before it was missed."""
        self._held = False
        self._successor: m.Lease | None = None
        self._client: mqtt.Client | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def epoch(self) -> int:
        """The number under which this controller commands; 0 before `take`."""
        return self._own.epoch

    def take(self, above: int, take_over: bool = False) -> int:
        """Wait until it is sure that nobody commands the bench, claim it, and keep it up until `release`.

        Args:
            above: the epoch will be higher, and higher than the lease's and what agents report.
            take_over: of a holder that is not heard, although its will was not published.

        Raises:
            SafetyRefusal: another controller holds it, or was quicker.
            LinkError: the broker cannot be reached.
        """
        self._open(will=False)
        try:
            seen, found = self._look(take_over)
            self._shut()  # the last will must name the epoch, and a will is made with the connection
            self._own = replace(self._own, epoch=1 + max(above, self._reported, found.epoch if found else 0))
            self._claim(seen, found)
        except BaseException:
            self._shut()
            raise
        self._held = True
        self._thread.start()
        return self.epoch

    def rise(self, above: int) -> int:
        """Command under an epoch higher than `above`, which an agent reported that came later."""
        if above >= self.epoch:
            self._shut()  # as in `take`: the will names the epoch
            with self._changed:
                self._own = replace(self._own, epoch=above + 1)
            self._open(will=True)
            self._publish(self._own)
        return self.epoch

    def check(self) -> None:
        """SafetyRefusal if another controller has taken command."""
        after = self._successor
        if after is not None:
            raise SafetyRefusal(
                f"bench {self._bench}: {_who(after)} has taken command with epoch {after.epoch}; nodes obey it, not us",
                "this run was stopped; what it recorded is kept",
            )

    def release(self) -> None:
        """Say that nobody commands, unless somebody else does by now."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        client = self._client
        if client is not None and self._held and self._successor is None and client.is_connected():
            client.publish(self._topic, m.encode(replace(self._own, state="released")), 1, True).wait_for_publish(2.0)
        self._shut()

    def _open(self, will: bool) -> None:
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"lease-{self._own.holder}", protocol=mqtt.MQTTv5
        )
        client.reconnect_delay_set(1, 2)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_disconnect, client.on_message = self._on_disconnect, self._on_message
        if will:
            client.will_set(self._topic, m.encode(replace(self._own, state="lost")), 1, True)
        host, port = self._place
        hint = "start it, or mend `broker` in bench.yaml"
        try:
            if self._tls is not None:
                check_accepted(self._place, self._tls)
            client.connect(host, port, keepalive=5)
        except LinkError as error:
            raise LinkError(f"broker {host}:{port}: {error.message}", hint) from error
        except OSError as error:
            raise LinkError(f"broker {host}:{port}: {explain(error)}", hint) from error
        client.loop_start()
        with self._changed:
            self._wait_listening()

    def _shut(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
        self._listening = False

    def _on_connect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if not reason.is_failure:
            client.subscribe([(self._statuses, 1), (self._topic, 1)])

    def _on_subscribe(self, client: mqtt.Client, u: object, mid: int, reasons: Any, p: object) -> None:
        with self._changed:
            self._listening, self._since_s = True, time.monotonic()
            self._changed.notify_all()

    def _on_disconnect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        self._listening = False

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            row = topics.parse(message.topic)[2]
            body: Any = m.decode(bytes(message.payload), row.payload)
        except RemoteProtocolError:
            return  # no lease that we could respect, and no epoch that a node of this release reports
        with self._changed:
            if isinstance(body, m.Status):
                self._reported = max(self._reported, body.epoch)
            elif self._held:
                self._defend(body)
            else:
                self._heard.append(_Heard(body, message.retain))
            self._changed.notify_all()

    def _look(self, take_over: bool) -> tuple[int, m.Lease | None]:
        """Wait until the lease is free: how much was heard by then, and the last of it."""
        with self._changed:
            while True:
                last = self._heard[-1] if self._heard else None
                lease = None if last is None else last.lease
                if last is not None and last.lease.state == "held" and not last.retained:
                    raise self._refusal(last.lease, alive=True)
                self._wait_listening()
                beat_s = BEAT_S if lease is None else lease.beat_s
                patience_s = 0.0 if self._alone else SILENT_BEATS * beat_s
                # Retained messages follow the subscription at once; a moment is left for them.
                patience_s = 0.3 if lease is not None and lease.state == "released" else patience_s
                left_s = self._since_s + patience_s - time.monotonic()
                if left_s > 0.0:
                    self._changed.wait(left_s)
                    continue
                if lease is not None and lease.state == "held" and not take_over:
                    raise self._refusal(lease, alive=False)
                return len(self._heard), lease

    def _claim(self, seen: int, found: m.Lease | None) -> None:
        """Publish our claim and see whether it is the first after `found` that the broker passes on.

        In doubt a few beats are waited for; of two in doubt, the one with the lesser name gives way.
        """
        self._open(will=True)
        since_s, back_s, doubt = self._since_s, None, False
        self._publish(self._own)
        deadline = time.monotonic() + ANSWER_S
        with self._changed:
            while True:
                doubt = doubt or self._since_s != since_s
                for lease, _ in self._heard[seen:]:
                    seen += 1
                    if lease.holder == self._own.holder:
                        back_s = time.monotonic() if back_s is None else back_s
                        if not doubt:
                            return
                    elif lease.state == "held" and not _same(lease, found):
                        if back_s is None or lease.beat or lease.holder > self._own.holder:
                            raise self._refusal(lease, alive=True)
                    elif back_s is None and not _same(lease, found):
                        doubt = True
                now_s = time.monotonic()
                sure_s = deadline if back_s is None else max(back_s, self._since_s) + SILENT_BEATS * BEAT_S
                if now_s >= sure_s:
                    if back_s is None:
                        raise LinkError("the broker did not pass on our lease", "read the broker's log")
                    return
                self._changed.wait(sure_s - now_s)
                self._wait_listening()

    def _wait_listening(self) -> None:
        """With the condition held: until the broker is heard, again if the connection broke."""
        if not self._changed.wait_for(lambda: self._listening, ANSWER_S):
            raise LinkError(
                f"broker {self._place[0]}:{self._place[1]}: does not answer a subscription", "read the broker's log"
            )

    def _defend(self, other: m.Lease) -> None:
        """Somebody wrote the lease that we hold: a successor is obeyed, anything else written over.

        Of two that both believe to command under one number, the one with the lesser name gives way.
        """
        if other.holder == self._own.holder:
            return
        rank = (other.epoch, other.holder) > (self._own.epoch, self._own.holder)
        if other.state == "held" and other.beat and rank:
            self._successor = other
        elif self._successor is None:
            self._beat_once()

    def _publish(self, lease: m.Lease) -> None:
        if self._client is not None:
            self._client.publish(self._topic, m.encode(lease), 1, True)

    def _beat(self) -> None:
        while not self._stopping.wait(BEAT_S):
            with self._changed:
                if self._successor is None and self._listening:
                    self._beat_once()

    def _beat_once(self) -> None:
        self._own = replace(self._own, beat=self._own.beat + 1)
        self._publish(self._own)

    def _refusal(self, lease: m.Lease, alive: bool) -> SafetyRefusal:
        told = f"bench {self._bench} is commanded by {_who(lease)}, since {lease.since_utc}, with epoch {lease.epoch}"
        if alive:
            return SafetyRefusal(told, "wait for its end, or stop that process")
        return SafetyRefusal(
            f"{told}, and was not heard for {SILENT_BEATS * lease.beat_s:g} s",
            "see whether that process is there; if it is gone: the same command with --take-over",
        )


def _same(lease: m.Lease, other: m.Lease | None) -> bool:
    """Are they one message of one holder?"""
    return other is not None and (lease.holder, lease.state, lease.beat) == (other.holder, other.state, other.beat)


def _who(lease: m.Lease) -> str:
    return f"run {lease.run} (process {lease.pid} on {lease.host})"
