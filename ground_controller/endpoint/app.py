"""The web server: OpenAI's models, completions and chat completions over one run."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tokenizers import Tokenizer

from ground_controller.endpoint import messages as m
from ground_controller.endpoint.run_link import RunLink
from ground_controller.endpoint.shapes import DONE, Answer, Refusal, Wanted, event, invalid, parse, usage
from ground_controller.endpoint.text import TextStream
from ground_controller.live.access import Access

_T = TypeVar("_T")

MOST_BODY = 4 << 20
FINISH = {"length": "length", "end of text": "stop"}


class Gone(Exception):
    """The client hung up; nobody reads an answer."""


class Endpoint:
    """Handlers of one run. `access`: who may ask."""

    def __init__(self, link: RunLink, access: Access) -> None:
        self._link = link
        self._access = access
        self._tokenizer = Tokenizer.from_str(link.described.tokenizer)

    def app(self) -> Starlette:
        """As an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/models", self._models), Route("/v1/models/{name:path}", self._model),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chats, methods=["POST"]),
            ],
            exception_handlers={Refusal: _refused, 404: _no_route, 405: _no_route},
        )  # fmt: skip

    def _admit(self, request: Request) -> None:
        """No page of another site knows a token. Without one its browser gives it away, see `live.access`."""
        access, headers = self._access, request.headers
        if access.token:
            kind, _, shown = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not access.knows_token(shown.strip()):
                raise invalid("Incorrect API key provided.", None, "invalid_api_key", 401)
            return
        host = headers.get("host", "")
        if not access.knows_host(host) or not access.knows_origin(headers.get("origin"), host):
            raise invalid("Without a token only programs and pages of this machine may ask.", None, "other_site", 403)

    async def _models(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _model(self, request: Request) -> Response:
        self._admit(request)
        name = request.path_params["name"]
        if name != self._link.described.model:
            raise invalid(f"The model '{name}' does not exist.", "model", "model_not_found", 404)
        return JSONResponse(self._card())

    def _card(self) -> dict[str, object]:
        said = self._link.described
        return {"id": said.model, "object": "model", "created": said.began_unix_s, "owned_by": "spacemoe-hil"}

    async def _completions(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def _chats(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        self._admit(request)
        said = self._link.described
        wanted = parse(await _body(request), said.model, chat=chat)
        text, tokens, most = self._fitted(wanted)
        kind = "chatcmpl" if chat else "cmpl"
        answer = Answer(f"{kind}-{uuid.uuid4().hex}", int(time.time()), said.model, chat)
        heard = self._link.ask(text, tokens, most)
        try:
            number = await _unless_gone(request, _begun(heard))
            headers = {"x-hil-request": str(number)}
            if wanted.ignored:
                headers["x-hil-ignored"] = ", ".join(wanted.ignored)
            if wanted.stream:
                parts = self._parts(heard, answer, len(tokens), wanted.usage)
                return StreamingResponse(parts, headers=headers, media_type="text/event-stream")
            whole = await _unless_gone(request, self._whole(heard, answer, len(tokens)))
            return JSONResponse(whole, headers=headers)
        except Gone:
            await heard.aclose()
            return Response(status_code=499)
        except BaseException:
            await heard.aclose()
            raise

    def _fitted(self, wanted: Wanted) -> tuple[str, list[int], int]:
        """Prompt as text and tokens, and how many tokens may follow."""
        said = self._link.described
        if isinstance(wanted.prompt, str):
            text = wanted.prompt
            # The models were trained on texts that follow an end-of-text token.
            tokens = [max(said.end_of_text, 0), *self._tokenizer.encode(text, add_special_tokens=False).ids]
        else:
            tokens, most_id = list(wanted.prompt), self._tokenizer.get_vocab_size()
            if not all(0 <= token < most_id for token in tokens):
                raise invalid(f"token ids go from 0 to {most_id - 1}.", "prompt")
            text = str(self._tokenizer.decode(tokens))
        room = said.context - len(tokens)
        most = max(1, room) if wanted.most is None else wanted.most
        if most > room:
            raise invalid(
                f"This model's maximum context length is {said.context} tokens. However, you requested {len(tokens)} "
                f"in the prompt and {most} in the completion.", "max_tokens", "context_length_exceeded",
            )  # fmt: skip
        return text, tokens, most

    async def _whole(self, heard: AsyncIterator[m.FromRun], answer: Answer, prompt: int) -> dict[str, object]:
        stream, count, text = self._stream(), 0, ""
        async for said in heard:
            if isinstance(said, m.TokenSaid):
                count += 1
                text += stream.push(said.token)
            elif isinstance(said, m.Ended):
                finish = FINISH.get(said.reason)
                if finish is None:
                    raise Refusal(503, f"broken off: {said.reason}", "server_error")
                return answer.whole(text + stream.rest(), finish, usage(prompt, count))
        raise Refusal(503, "the run has ended", "server_error")

    async def _parts(
        self, heard: AsyncGenerator[m.FromRun], answer: Answer, prompt: int, with_usage: bool
    ) -> AsyncIterator[bytes]:
        stream, count = self._stream(), 0
        async with aclosing(heard):
            yield event(answer.piece("", first=True))
            async for said in heard:
                if isinstance(said, m.TokenSaid):
                    count += 1
                    if text := stream.push(said.token):
                        yield event(answer.piece(text))
                elif isinstance(said, m.Ended):
                    finish = FINISH.get(said.reason)
                    if finish is None:  # the status is sent already: OpenAI, too, says it in the stream
                        yield event(Refusal(503, f"broken off: {said.reason}", "server_error").body)
                        return
                    yield event(answer.piece(stream.rest(), finish))
            if with_usage:
                yield event(answer.counts(usage(prompt, count)))
            yield DONE

    def _stream(self) -> TextStream:
        return TextStream(self._tokenizer, self._link.described.end_of_text)


async def _body(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MOST_BODY:
            raise invalid(f"The body of a request has at most {MOST_BODY} bytes.", status=413)
    return data


async def _begun(heard: AsyncIterator[m.FromRun]) -> int:
    """The number of the generation, once it is under way; Refusal if it will not be."""
    async for said in heard:
        if isinstance(said, m.Begun):
            return said.request
        if isinstance(said, m.Refused) and said.busy:
            raise Refusal(429, f"The bench is busy: {said.reason}.", "requests", None, "rate_limit_exceeded")
        if isinstance(said, m.Refused):
            raise invalid(said.reason)
        if isinstance(said, m.Ended):
            raise Refusal(503, f"broken off: {said.reason}", "server_error")
    raise Refusal(503, "the run has ended", "server_error")


async def _unless_gone(request: Request, work: Coroutine[object, object, _T]) -> _T:
    """The result of `work`, or Gone as soon as the client hangs up."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
    return JSONResponse(error.body, error.status, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse(invalid(f"Unknown request URL: {request.method} {request.url.path}").body, status)
