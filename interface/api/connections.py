"""Connections of HTTP clients: so many, and none that is slow without end.

The daemon's analyzers have their connections in the same process, so those of HTTP must not use up what it has.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from interface.api.shares import NOBODY, Share

MOST_CONNECTIONS = 512
HEADERS_WAIT_S = 10.0  # from a connection's first byte, or from a request's, to the end of its headers
IDLE_S = 75.0  # a connection is kept for another request
UNREAD_WAIT_S = 60.0  # for a client to read what it asked for
MOST_LINE_BYTES, MOST_HEADER_BYTES, MOST_HEADERS = 8190, 8192, 100  # two limits: which one was broken tells what was
_OTHERS_FIRST_S = 0.02  # who has more connections than another leaves it what waits, however busy the machine is
_MOST_AT_ONCE = 128
_WITHOUT_DESCRIPTORS_S = 1.0
_LINGER_S = 5.0  # what comes after an answer that did not wait for it

Held: TypeAlias = Callable[[], int]
_log = structlog.get_logger(__name__)


class BoundedHandler(RequestHandler):
    """aiohttp's connection, with an end to waiting for headers and for a reader, and errors in our words."""

    __slots__ = ("_asked", "_changed", "_timer")

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        asked: Callable[[], None],
    ) -> None:
        """`changed`: called when a connection has ended; `asked`: when the client has sent something."""
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # as AppRunner does: paths may name patients
            keepalive_timeout=IDLE_S,
            lingering_time=_LINGER_S,
            # aiohttp unpacks also what it only passes over, of what was refused, and gives nobody a turn meanwhile: a
            # megabyte may be a thousand, and the links wait. What is taken, `limits` unpacks.
            auto_decompress=False,
            max_line_size=MOST_LINE_BYTES,
            max_field_size=MOST_HEADER_BYTES,
            max_headers=MOST_HEADERS,
        )
        self._changed, self._asked = changed, asked
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wait(HEADERS_WAIT_S)

    def data_received(self, data: bytes) -> None:
        self._asked()
        super().data_received(data)
        if self._current_request is not None or self._messages:
            self._wait(None)
        elif self._timer is None:
            self._wait(HEADERS_WAIT_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(UNREAD_WAIT_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wait(None)
        super().connection_lost(exc)
        self._changed()

    def abort_connection(self) -> None:
        """Cut the connection, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self.abort_connection)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):  # outside every middleware: it expects what aiohttp does not do
            resp = self.handle_error(request, 400, resp)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or fails outside every middleware. Neither the answer nor the log repeats anything of it."""
        status = _too_long(exc) or status
        _log.info("request refused", action="api.malformed", status=status, error=type(exc).__name__)
        title = HTTPStatus(status).phrase
        code, detail = _UNREAD.get(status, _INSIDE if status >= 500 else _NO_REQUEST)
        problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": code}
        problem["detail"] = detail
        response = web.Response(
            body=orjson.dumps(problem),
            status=status,
            content_type="application/problem+json",
            headers={"Server": "Labora", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )
        response.force_close()
        return response


_NO_REQUEST: Final = ("structure", "this is not a request that can be read")
_INSIDE: Final = ("exception", "something went wrong inside")
_UNREAD: Final = {
    414: ("too-long", f"the request's line is longer than {MOST_LINE_BYTES} bytes; a search may be POSTed to _search"),
    431: ("too-long", f"a header is longer than {MOST_HEADER_BYTES} bytes, or there are more than {MOST_HEADERS}"),
}


def _too_long(error: BaseException | None) -> int:
    """RFC 9110 15.5.15, RFC 6585 5; 0: it is another fault."""
    if isinstance(error, LineTooLong):
        return 414 if error.args[1] == MOST_LINE_BYTES else 431
    return 431 if isinstance(error, BadHttpMessage) and error.message.startswith("Too many headers") else 0


class Accepting:
    """Takes connections from a listening socket, of which other processes may take too.

    Left to the event loop, who wakes first takes all that wait, and of two processes one has all the work. Here who has
    more than another (`Share`) leaves what waits to that one for a moment; who has fewest takes until it has as many.
    When more wait than it takes in a turn it takes twice as many in the next, so that no queue grows which one process
    alone could serve.
    """

    def __init__(
        self, listener: socket.socket, take: Callable[[socket.socket], Awaitable[object]], held: Held,
        share: Share | None = None, most: int = MOST_CONNECTIONS,
    ) -> None:  # fmt: skip
        """`take`: serves a connection; `held`: how many there are; `share`: None where nobody else takes any; `most`:
        also those count whose handshake is under way: each has a descriptor of the process."""
        self._loop, self._listener, self._take, self._held = asyncio.get_running_loop(), listener, take, held
        self._share, self._most = share or Share(), most
        self._begun: set[asyncio.Task[None]] = set()
        self._at_once = 1
        listener.setblocking(False)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.tell()
        self._look()

    def close(self) -> None:
        """Take no more and close the socket; what was taken is served."""
        self._closed = True
        self._share.tell(NOBODY)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._loop.remove_reader(self._listener)
        self._listener.close()

    def tell(self) -> None:
        """Say how many there are, to those who take from the same socket: whenever there are more or fewer."""
        if not self._closed:
            self._share.tell(self._count())

    def _look(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listener, self._ready)

    def _ready(self) -> None:
        least = self._share.others()
        if least is None or self._count() <= least:
            self._accept(_MOST_AT_ONCE if least is None else least - self._count() + 1)
            return
        self._wait(_OTHERS_FIRST_S, self._accept)

    def _count(self) -> int:
        return self._held() + len(self._begun)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is None:
            self._loop.remove_reader(self._listener)
        self._timer = self._loop.call_later(seconds, then)

    def _accept(self, wanted: int = 1) -> None:
        at_once, self._at_once = self._at_once, min(2 * self._at_once, _MOST_AT_ONCE)
        cut = 0
        for _ in range(min(max(at_once, wanted), _MOST_AT_ONCE)):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                self._at_once = 1
                break  # another process has it
            except OSError as error:  # no descriptor is left; it may be better in a while
                _log.warning("no connection taken", action="api.accept", error=error.errno)
                self._wait(_WITHOUT_DESCRIPTORS_S, self._look)
                return
            if self._count() >= self._most:
                connection.close()
                cut += 1
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection))
            self._begun.add(task)
            task.add_done_callback(self._done)
        if cut:
            _log.warning("too many HTTP connections", action="api.connections", most=self._most, cut=cut)
        self.tell()
        if self._timer is not None:
            self._look()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._begun.discard(task)
        self.tell()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._take(connection)
        except (OSError, TimeoutError):  # it went, or spoke no TLS
            connection.close()


async def listen(
    runner: web.AppRunner, context: ssl.SSLContext | None = None, *, most: int = MOST_CONNECTIONS, sock: socket.socket,
    share: Share | None = None,
) -> Accepting:  # fmt: skip
    """Serve what `runner` was set up for, to who connects to a listening socket.

    The caller closes what it is given before it cleans the runner up.
    """
    server = runner.server
    if server is None:
        raise ValueError("the runner is not set up")
    loop, share = asyncio.get_running_loop(), share or Share()
    handshake_s = HEADERS_WAIT_S if context is not None else None

    def take(connection: socket.socket) -> Awaitable[object]:
        return loop.connect_accepted_socket(
            lambda: BoundedHandler(server, loop, accepting.tell, share.ask), connection, ssl=context,
            ssl_handshake_timeout=handshake_s,
        )  # fmt: skip

    accepting = Accepting(sock, take, lambda: len(server.connections), share, most)
    return accepting
