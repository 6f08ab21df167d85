"""`hil serve` in front of a run on local nodes, driven by OpenAI's own client library."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import openai
import pytest

from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.journal import Journal

if TYPE_CHECKING:
    from tests.campaign.conftest import Launched, Starter

HIL = (sys.executable, "-m", "hil_config.door")
TOKEN = "correct-horse-battery-staple"  # what is tested


class Served(NamedTuple):
    """A run that takes requests, two at a time and one waiting, and an endpoint in front of it."""

    run: Launched
    model: str
    base_url: str

    def client(self, key: str = "any") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0, timeout=90.0)


def _serve(folder: Path, *more: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        [*HIL, "serve", str(folder), "--port", "0", "--json", *more], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return process, json.loads(line)


@pytest.fixture(scope="module")
def served(module_starter: Starter) -> Iterator[Served]:
    running = module_starter.start(
        "served", workload__arrivals="requests", workload__concurrency=2, workload__queue=1, orbit__rate=1,
        orbit__duration_s=3_000,
    )  # fmt: skip
    running.wait_for(running.folder / "requests.sock")
    running.wait_entries("tick")
    process, told = _serve(running.folder)
    yield Served(running, told["model"], told["base_url"])
    running.process.send_signal(signal.SIGINT)
    assert running.wait().code == 130
    _, said = process.communicate(timeout=30.0)
    assert process.returncode == 0  # an endpoint ends with its run
    assert "the run takes no more requests" in said
    assert not (running.folder / "requests.sock").exists()


def _recorded(served: Served, journal: Callable[[Path], Journal], number: int) -> tuple[RequestBegan, RequestEnded]:
    """What the run's record says of a request, once it has ended."""
    served.run.wait_entries("request_end", lambda body: json.loads(body)["request"] == number)
    record = journal(served.run.folder)
    begun = [msgspec.json.decode(e.body, type=RequestBegan) for e in record.entries("request_begin")]
    ended = [msgspec.json.decode(e.body, type=RequestEnded) for e in record.entries("request_end")]
    (mine,) = [one for one in begun if one.request == number]
    (end,) = [one for one in ended if one.request == number]
    return mine, end


def test_models(served: Served) -> None:
    client = served.client()
    (card,) = client.models.list().data
    assert (card.id, card.owned_by) == (served.model, "spacemoe-hil")
    assert client.models.retrieve(served.model).id == served.model


def test_a_completion_is_in_the_record(served: Served, journal: Callable[[Path], Journal]) -> None:
    raw = served.client().completions.with_raw_response.create(
        model=served.model, prompt="The satellite", max_tokens=6, temperature=0.7
    )
    answer = raw.parse()
    begun, ended = _recorded(served, journal, int(raw.headers["x-hil-request"]))
    assert raw.headers["x-hil-ignored"] == "temperature"
    assert (begun.domain, begun.prompt) == ("http", "The satellite")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (ended.text, "length")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(begun.prompt_tokens), 6)


def test_a_chat_streams(served: Served) -> None:
    client = served.client()
    ask: dict[str, Any] = {"model": served.model, "messages": [{"role": "user", "content": "The sky"}], "max_tokens": 8}
    parts = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    texts = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert len([text for text in texts if text]) > 1
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] == "length"
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == 8
    whole = client.chat.completions.create(**ask)  # greedy: the same again
    assert whole.choices[0].message.content == "".join(texts)


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
        ({"n": 2}, 400, "n", "unsupported_parameter"),
        ({"stop": ["x"]}, 400, "stop", "unsupported_parameter"),
        ({"max_tokens": 100_000}, 400, "max_tokens", "context_length_exceeded"),
        ({"prompt": [10**7]}, 400, "prompt", None),
        ({"prompt": []}, 400, "prompt", None),
        ({"extra_body": {"frobnicate": 1}}, 400, "frobnicate", None),
    ],
)
def test_errors_have_their_shape(
    served: Served, changes: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        served.client().completions.create(**{"model": served.model, "prompt": "a", **changes})
    assert caught.value.status_code == status
    body: Any = caught.value.body
    assert (body["param"], body["code"], body["type"]) == (param, code, "invalid_request_error")


def test_a_full_queue_and_clients_that_leave(served: Served, journal: Callable[[Path], Journal]) -> None:
    """Two streams hold both places, one request waits and the next is refused; then the streams hang up."""
    client = served.client()
    streams = [
        client.completions.with_raw_response.create(model=served.model, prompt=p, max_tokens=200, stream=True)
        for p in ("hello", "a long day")
    ]
    numbers = [int(one.headers["x-hil-request"]) for one in streams]
    found: list[tuple[int, str]] = []

    def ask() -> None:
        try:
            client.completions.create(model=served.model, prompt="a", max_tokens=1)
            found.append((200, ""))
        except openai.APIStatusError as error:
            found.append((error.status_code, error.response.headers.get("retry-after", "")))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    threads[0].join(0.5)
    for one in streams:
        one.http_response.close()
    for thread in threads:
        thread.join(60.0)
    assert sorted(found) == [(200, ""), (429, "1")]
    assert {_recorded(served, journal, number)[1].reason for number in numbers} == {"withdrawn by its client"}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"},
     {"Host": "evil.example", "Origin": "http://evil.example"}],
)  # fmt: skip
def test_pages_of_other_sites_reach_nothing(served: Served, headers: dict[str, str]) -> None:
    """A browser sends such a request for any page, unasked, as plain text; by a rebound name the page reads answers."""
    connection = HTTPConnection(urlsplit(served.base_url).netloc, timeout=60.0)
    body = json.dumps({"model": served.model, "prompt": "a", "max_tokens": 1})
    for method, path, sent in (("POST", "/v1/completions", body), ("GET", "/v1/models", None)):
        connection.request(method, path, sent, {"Content-Type": "text/plain", **headers})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        assert (answer.status, said["error"]["code"]) == (403, "other_site")
    connection.close()


def test_a_token_is_wanted_where_one_is_set(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    refused = subprocess.run(
        [*HIL, "serve", str(served.run.folder), "--token-file", str(path)], capture_output=True, text=True,
        timeout=60.0, check=False,
    )  # fmt: skip
    assert refused.returncode == 11
    assert "mode 0644, wanted 0600" in refused.stderr
    path.chmod(0o600)
    process, told = _serve(served.run.folder, "--token-file", str(path))
    try:
        guarded = served._replace(base_url=told["base_url"])
        with pytest.raises(openai.AuthenticationError) as caught:
            guarded.client("wrong").models.list()
        body: Any = caught.value.body
        assert body["code"] == "invalid_api_key"
        assert guarded.client(TOKEN).completions.create(model=served.model, prompt="a", max_tokens=1).choices
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30.0)
    assert process.returncode in {0, 130}


def test_nobody_is_let_in_from_outside_without_one(served: Served) -> None:
    refused = subprocess.run(
        [*HIL, "serve", str(served.run.folder), "--host", "0.0.0.0"],  # what is refused
        capture_output=True, text=True, timeout=60.0, check=False,
    )  # fmt: skip
    assert refused.returncode == 11
    assert "--token-file" in refused.stderr


def test_a_folder_whose_run_takes_none(tmp_path: Path) -> None:
    refused = subprocess.run(
        [*HIL, "serve", str(tmp_path)], capture_output=True, text=True, timeout=60.0, check=False,
    )  # fmt: skip
    assert refused.returncode == 10
    assert "workload.arrivals: requests" in refused.stderr
