"""The HTTP server of one process: the application of `interface.api` on a listening socket, ended without losing a
request.

Other processes may accept from the same socket (`interface.servers`). The end is therefore: take no new connection
(what waits in the socket's queue is the others'), tell those that are there to go elsewhere with their next request
(`Connection: close`), and only then cut what is left. To close at once, as aiohttp does, leaves requests unanswered.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from interface.api import connections
from interface.api.context import ENDING, SERVICES
from interface.api.shares import Share
from interface.errors import LaboraError
from interface.link.tls import listen_context, listen_problems
from interface.settings import Address

BACKLOG = 1024
LINGER_S = 1.0  # for requests that are on their way, where somebody takes up what comes after them
TLS = web.AppKey("tls", ssl.SSLContext)
_LOOK_S = 0.05
_log = structlog.get_logger(__name__)


def listen_on(address: Address) -> socket.socket:
    """The socket, bound and listening. Raises LaboraError when the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listener = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise LaboraError(f"api.listen: cannot listen on {address}: {os.strerror(error.errno or 0)}") from error
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def serving(
    app: web.Application, listener: socket.socket, *, drain_s: float, linger_s: float = 0.0, share: Share | None = None
) -> AsyncIterator[None]:
    """Serve for the duration of the block. At its end requests that came are answered, within `drain_s`; `linger_s`:
    how long others are awaited that are on their way on connections that exist; `share`: with whom connections are
    shared."""
    if (tls := app[SERVICES].settings.api.tls) is not None:
        app[TLS] = await asyncio.to_thread(listen_context, tls)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=drain_s)
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    if server is None:
        raise AssertionError("a runner that is set up has a server")
    accepting = await connections.listen(runner, app.get(TLS), sock=listener, share=share)
    try:
        yield
    finally:
        accepting.close()
        app[ENDING].set()
        until = loop.time() + linger_s
        while server.connections and loop.time() < until:  # noqa: ASYNC110  aiohttp tells of no connection that ends
            await asyncio.sleep(_LOOK_S)
        await runner.cleanup()


async def renew_certificate(app: web.Application) -> None:
    """Read the certificate again; open connections stay. One that cannot be used changes nothing."""
    context, tls = app.get(TLS), app[SERVICES].settings.api.tls
    if context is None or tls is None:
        return
    if problems := await asyncio.to_thread(listen_problems, tls):
        said = "; ".join(f"api.tls.{key}: {text}" for key, text in problems)
        _log.error("the API's certificate is not read again", action="daemon.configuration", problems=said)
        return
    await asyncio.to_thread(context.load_cert_chain, tls.cert, tls.key)
