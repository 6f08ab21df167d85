"""OpenAI's shapes: what requests may hold, what answers and errors look like. No I/O.

Decoding is greedy, so what would draw otherwise (temperature and the like) is taken and not obeyed, which a header
says; what would make the answer another (several choices, stop texts, tools) is refused.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

IGNORED = frozenset({
    "temperature", "top_p", "seed", "user", "presence_penalty", "frequency_penalty", "store", "metadata",
    "service_tier", "parallel_tool_calls", "reasoning_effort", "prompt_cache_key", "safety_identifier", "verbosity",
})  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1), "best_of": (None, 1), "echo": (None, False), "logprobs": (None, False), "top_logprobs": (None, 0),
    "stop": (None, []), "tools": (None, []), "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""), "logit_bias": (None, {}), "functions": (None, []), "modalities": (None, ["text"]),
}  # fmt: skip
"""Parameters that are taken only with these values."""
DEFAULT_TOKENS = 16
"""Of OpenAI's legacy completions; chats get what fits."""


class Refusal(Exception):
    """A request that is answered with an error in OpenAI's shape."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """The request is wrong."""
    return Refusal(status, message, "invalid_request_error", param, code)


class Wanted(NamedTuple):
    """`prompt` as text or token ids; `most` tokens, None: what fits. `ignored` parameters were given and not obeyed."""

    prompt: str | list[int]
    most: int | None
    stream: bool
    usage: bool
    ignored: tuple[str, ...]


def parse(body: bytes, model: str, *, chat: bool) -> Wanted:
    """What a request wants, or Refusal."""
    try:
        data = msgspec.json.decode(body)  # halves of a surrogate pair, which no tokenizer takes, are refused by it
    except (ValueError, RecursionError) as error:
        raise invalid(f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict):
        raise invalid("The body of a request is a JSON object.")
    _check(data, model, chat)
    options = data.get("stream_options") or {}
    if not isinstance(options, dict):
        raise invalid("stream_options is an object.", "stream_options")
    stream = data.get("stream")
    if not isinstance(stream, bool | None):
        raise invalid(f"stream is {stream!r}, wanted true or false.", "stream")
    most = data.get("max_completion_tokens")
    if most is None:
        most = data.get("max_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise invalid(f"max_tokens is {most!r}, wanted a whole number of 1 or more.", "max_tokens")
    prompt = _chat(data) if chat else _prompt(data)
    default = None if chat else DEFAULT_TOKENS
    ignored = tuple(sorted(name for name in data if name in IGNORED and data[name] is not None))
    return Wanted(prompt, most or default, stream is True, options.get("include_usage") is True, ignored)


def _check(data: dict[str, Any], model: str, chat: bool) -> None:
    taken = {
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        *(("messages", "max_completion_tokens") if chat else ("prompt",)),
    }
    for name, value in data.items():
        if name in NEUTRAL:
            if value not in NEUTRAL[name]:
                raise invalid(
                    f"{name} is not supported: this bench decodes one greedy continuation.",
                    name,
                    "unsupported_parameter",
                )
        elif name not in taken | IGNORED:
            raise invalid(f"Unrecognized request argument supplied: {name}", name)
    wanted = data.get("model")
    if not isinstance(wanted, str):
        raise invalid("you must provide a model parameter", "model")
    if wanted != model:
        raise invalid(
            f"The model '{wanted}' does not exist; this bench serves '{model}'.", "model", "model_not_found", 404
        )


def _prompt(data: dict[str, Any]) -> str | list[int]:
    found = data.get("prompt")
    if isinstance(found, list) and len(found) == 1 and not isinstance(found[0], int):
        found = found[0]
    if isinstance(found, str) and found:
        return found
    if isinstance(found, list) and found and all(isinstance(one, int) and not isinstance(one, bool) for one in found):
        return found
    raise invalid("prompt is a text, or a list of token ids; one of them.", "prompt")


def _chat(data: dict[str, Any]) -> str:
    """The messages' texts below one another: the models here know no roles."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages is a list of at least one message.", "messages")
    texts = []
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = _joined(content)
        if not isinstance(content, str):
            raise invalid("content is a text, or a list of text parts.", f"messages[{number}].content")
        texts.append(content)
    prompt = "\n".join(texts)
    if not prompt:
        raise invalid("the messages hold no text.", "messages")
    return prompt


def _joined(parts: list[Any]) -> str | None:
    """The text of text parts; None if there is another among them."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if len(found) == len(parts) else None


def usage(prompt: int, generated: int) -> dict[str, int]:
    """Token counts; the end-of-text token before a prompt, and the one that ends an answer, are counted."""
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


class Answer(NamedTuple):
    """What is the same in every part of an answer."""

    id: str
    created: int
    model: str
    chat: bool

    def whole(self, text: str, finish: str, counts: dict[str, int]) -> dict[str, Any]:
        """An answer that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return self._envelope("chat.completion" if self.chat else "text_completion", [choice]) | {"usage": counts}

    def piece(self, text: str, finish: str | None = None, *, first: bool = False) -> dict[str, Any]:
        """One part of a streamed answer."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if not self.chat:
            return self._envelope("text_completion", [{**choice, "text": text}])
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})
        return self._envelope("chat.completion.chunk", [{**choice, "delta": delta}])

    def counts(self, counts: dict[str, int]) -> dict[str, Any]:
        """The last part, where usage was asked for."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._envelope(kind, []) | {"usage": counts}

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
