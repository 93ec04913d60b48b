"""HTTP on the loopback: one event loop, any number of connections that wait.

No library that the SDK brings along serves HTTP, but h11 comes with it and knows the protocol (keep-alive,
chunked bodies, malformed requests); around it asyncio does the rest. A thread per connection, as in the
standard library's server, would cost the computing thread its turns when hundreds of polls wait.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from distillation.engine.protocol import JSON
from distillation.engine.refusals import Refused

LOOPBACK = "127.0.0.1"

MAX_BODY = 256 * 1024 * 1024
"""Bytes of a request's body that are taken."""

PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``groups`` are the parts of the path that the route picked out."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: bytes
    groups: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            Refused: it is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as cause:
            raise Refused(400, f"the body is not JSON: {cause}") from cause
        if not isinstance(value, dict):
            raise Refused(400, "the body is not a JSON object")
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    payload: bytes = b""
    status: int = 200
    content_type: str = JSON


Answerer = Callable[[Call], Awaitable[Reply]]


def refusal(status: int, detail: str) -> Reply:
    """An answer that says no, as the SDK reads it."""
    return Reply(json.dumps({"detail": detail}).encode(), status)


class Server:
    """Listens on a loopback port and hands each request to ``answer``."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def listen(self, port: int) -> int:
        """Open the port, or any free one for 0; returns its number."""
        self._server = await asyncio.start_server(self._connection, LOOPBACK, port, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away in the middle is everyday business, not an error of ours.
        with suppress(ConnectionError, TimeoutError):
            await self._converse(reader, writer)
        with suppress(ConnectionError):
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER)
        while wire.our_state is h11.IDLE:
            try:
                call = await self._read(wire, reader)
                if call is None:
                    return
                reply = await self._reply(call)
            except Refused as cause:
                reply = refusal(cause.status, cause.detail)
            except h11.RemoteProtocolError as cause:
                reply = refusal(cause.error_status_hint, str(cause))
            _write(wire, writer, reply)
            await writer.drain()
            if wire.our_state is h11.DONE and wire.their_state is h11.DONE:
                wire.start_next_cycle()

    async def _read(self, wire: h11.Connection, reader: asyncio.StreamReader) -> Call | None:
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                wire.receive_data(await reader.read(PIECE))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the body has more than {MAX_BODY} bytes")
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return _call(request, bytes(body))
            else:
                return None

    async def _reply(self, call: Call) -> Reply:
        try:
            return await self._answer(call)
        except Refused as cause:
            return refusal(cause.status, cause.detail)
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            traceback.print_exception(cause, file=sys.stderr)
            return refusal(422, f"{call.path}: {type(cause).__name__}: {cause}")


def _call(request: h11.Request, body: bytes) -> Call:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    # A page in somebody's browser must not reach the engine through a name that leads here.
    host = urlsplit("//" + headers.get("host", "")).hostname
    if host not in (LOOPBACK, "localhost"):
        raise Refused(403, "the local engine answers on the loopback only")
    target = urlsplit(request.target.decode("latin-1"))
    return Call(
        method=request.method.decode("latin-1"),
        path=unquote(target.path),
        query=dict(parse_qsl(target.query)),
        content_type=headers.get("content-type", ""),
        body=body,
    )


def _write(wire: h11.Connection, writer: asyncio.StreamWriter, reply: Reply) -> None:
    if wire.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [("content-type", reply.content_type), ("content-length", str(len(reply.payload)))]
    pieces = [wire.send(h11.Response(status_code=reply.status, headers=headers))]
    pieces.append(wire.send(h11.Data(data=reply.payload)))
    pieces.append(wire.send(h11.EndOfMessage()))
    writer.write(b"".join(piece for piece in pieces if piece))
