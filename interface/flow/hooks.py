"""Sends to endpoints of EMRs: only those that are allowed, at addresses that were checked, bounded in size and time.

What becomes of it: it was taken; it was not sent, or is to come later (DeliveryTransient); nobody knows
(DeliveryAmbiguous); it was refused for what it says (DeliveryRejected). Texts of errors name the server at most.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from interface.domain import hooks
from interface.domain.hooks import Endpoint
from interface.errors import DeliveryAmbiguous, DeliveryRejected, DeliveryTransient

TOTAL_S: Final = 10.0  # from the first byte of the request to the last that we read of the answer
CONNECT_S: Final = 5.0
MOST_ANSWER_BYTES: Final = 65536  # nothing in it is of use; more ends the connection
LONGEST_RETRY_AFTER_S: Final = 3600.0
# Whatever the content, the endpoint does not want us (now): the next message would fare the same.
_OF_THE_ENDPOINT = frozenset({401, 402, 403, 404, 405, 407, 408, 410, 421, 423, 425, 426, 429, 451})


class Refused(Exception):
    """A name that resolves to addresses we may not connect to."""


class _Checked(AbstractResolver):
    """Resolves, and gives only addresses that may be connected to: what is checked is what is used."""

    def __init__(self, endpoint: Endpoint, networks: Sequence[str]) -> None:
        self._endpoint, self._networks = endpoint, networks

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = [
            {"hostname": host, "host": sockaddr[0], "port": port, "family": kind, "proto": protocol,
             "flags": socket.AI_NUMERICHOST}
            for kind, _, protocol, _, sockaddr in found
            if hooks.reachable(str(sockaddr[0]), self._endpoint, self._networks)
        ]  # fmt: skip
        if not addresses:
            raise Refused
        return addresses

    async def close(self) -> None:
        """Nothing is kept."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a site allows: `entries` as `[api] hooks` has them, `networks` as `[api] hook_networks`."""

    entries: tuple[Endpoint, ...] = ()
    networks: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None  # None: the authorities this machine trusts

    @classmethod
    def of(cls, entries: Sequence[str], networks: Sequence[str]) -> Hooks:
        return cls(tuple(map(hooks.read_endpoint, entries)), tuple(networks))

    def check(self, text: str) -> Endpoint:
        """Raise ValueError, with a text, unless the endpoint is allowed."""
        return hooks.allowed(text, self.entries)

    @asynccontextmanager
    async def opened(self, text: str) -> AsyncIterator[Sender]:
        """A sender to one endpoint, which keeps its connection for the block. Raises DeliveryTransient."""
        try:
            endpoint = self.check(text)
        except ValueError as error:
            raise DeliveryTransient(f"the endpoint {error}") from None
        if endpoint.literal is not None and not hooks.reachable(endpoint.host, endpoint, self.networks):
            raise DeliveryTransient("the endpoint is at an address that nobody may send to")
        connector = aiohttp.TCPConnector(
            resolver=_Checked(endpoint, self.networks), use_dns_cache=False, limit=1, ssl=self.tls or True
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # a proxy of the environment would resolve for itself
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=TOTAL_S, connect=CONNECT_S),
            headers={"User-Agent": "Labora"},
        ) as session:
            yield Sender(session, endpoint)


@dataclass(frozen=True, slots=True)
class Sender:
    session: aiohttp.ClientSession
    endpoint: Endpoint

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return when it was taken. Raises DeliveryTransient, DeliveryAmbiguous, DeliveryRejected."""
        url = URL(f"{self.endpoint}{path}" if path else f"{self.endpoint}" + ("" if self.endpoint.path else "/"),
                  encoded=True)  # fmt: skip
        try:
            async with self.session.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
                status, after = answer.status, answer.headers.get("Retry-After", "")
                await _passed_over(answer)
        except (Refused, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise DeliveryTransient(_why(error, self.endpoint)) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise DeliveryAmbiguous(
                f"{self.endpoint.origin} gave no answer that could be read ({type(error).__name__})"
            ) from None
        _judge(status, after, self.endpoint)


async def _passed_over(answer: aiohttp.ClientResponse) -> None:
    """Read the answer, so that the connection can be used again; the status has been read, whatever follows."""
    rest = MOST_ANSWER_BYTES
    try:
        async for piece in answer.content.iter_chunked(8192):
            rest -= len(piece)
            if rest < 0:
                answer.close()
                return
    except (aiohttp.ClientError, OSError, TimeoutError):
        answer.close()


def _why(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, Refused):
        return f"{endpoint.origin} is at an address that is not allowed ([api] hook_networks)"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"{endpoint.origin} does not answer"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{endpoint.origin} shows a certificate that is not trusted"
    if isinstance(cause, Refused):
        return _why(cause, endpoint)
    words: dict[type[Exception], str] = {
        ConnectionRefusedError: "refuses the connection",
        socket.gaierror: "has a name that is not known",
    }
    return f"{endpoint.origin} {words.get(type(cause), f'cannot be reached ({type(cause).__name__})')}"


def _judge(status: int, after: str, endpoint: Endpoint) -> None:
    if 200 <= status < 300:
        return
    text = f"{endpoint.origin} answered {status}"
    if 300 <= status < 400:
        raise DeliveryTransient(f"{text}: it sends on to elsewhere, which is not followed")
    if status in _OF_THE_ENDPOINT or not 400 <= status < 500:
        wait_s = min(float(after), LONGEST_RETRY_AFTER_S) if after.isascii() and after.isdigit() else 0.0
        raise DeliveryTransient(text, wait_s)
    raise DeliveryRejected(text)
