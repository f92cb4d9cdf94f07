"""How much one address and one client may ask for, how long a body may be and take, and from where a request comes.

Buckets of tokens: each request takes one, they come back at a steady rate, and as many as `BURST_S` seconds bring are
saved up. They are the process's own: of several server processes each gives its share. What somebody who has proved
nothing yet asks for again and again, in vain, is counted apart and much lower.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from aiohttp import web

from interface.api.context import ACTOR, ADDRESS, REQUEST_ID, SERVICES, TOKEN, Handler
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.settings import ApiSettings

BURST_S = 10.0
MOST_KEYS = 10_000  # addresses or clients that are remembered; the one that was longest away is forgotten first
FAILURES_PER_S, MOST_FAILURES = 1.0, 50.0  # wrong tokens, passwords and assertions from one address
TOLD_EVERY_S = 60.0  # that a client is slowed down stands in the audit once a minute, not once a request
BODY_WAIT_S = 10.0
MOST_PUBLIC_BODY_BYTES = 1 << 16  # of what needs no token
UNLIMITED = frozenset({"/health", "/ready", "/metrics"})  # what watches the daemon is not to take it for dead
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # for zlib: with the header of each (RFC 1952, RFC 1950)
_AS_IT_IS = frozenset({"", "identity"})  # the latter should not be said (RFC 9110 8.4), and is
_PROVING = frozenset({"/oauth/token", "/api/login"})

_log = structlog.get_logger(__name__)


class Throttled(ApiError):
    """Too many requests. `retry_after_s`: when the next would be taken."""

    slug = "throttled"

    def __init__(self, retry_after_s: float, text: str = "too many requests; try again later") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(429, "throttled", text)


class Buckets:
    """A bucket for each key, of `most` tokens, into which `rate` a second come back. A rate of 0: without limit."""

    def __init__(self, rate: float, most: float, keys: int = MOST_KEYS) -> None:
        self._rate, self._most, self._keys = rate, most, keys
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()  # what was in it, and when

    def wait_s(self, key: object, now: float) -> float:
        """How long until there is a token; 0 when there is one."""
        return max(0.0, (1.0 - self._level(key, now)) / self._rate) if self._rate else 0.0

    def take(self, key: object, now: float) -> float:
        """Take a token if there is one, which 0 says; else how long until there is."""
        if not self._rate:
            return 0.0
        level = self._level(key, now)
        taken = level >= 1.0
        self._buckets[key] = (level - 1.0 if taken else level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - level) / self._rate

    def _level(self, key: object, now: float) -> float:
        level, at = self._buckets.get(key, (self._most, now))
        return min(self._most, level + (now - at) * self._rate)


@dataclass(slots=True)
class Limits:
    """The limits of this process. `clock` in seconds."""

    addresses: Buckets
    clients: Buckets
    failures: Buckets = field(default_factory=lambda: Buckets(FAILURES_PER_S, MOST_FAILURES))
    told: Buckets = field(default_factory=lambda: Buckets(1 / TOLD_EVERY_S, 1.0))
    clock: Callable[[], float] = time.monotonic
    body_wait_s: float = BODY_WAIT_S
    slowed: OrderedDict[str, float] = field(
        default_factory=OrderedDict
    )  # tokens with which too much was asked: until when

    @classmethod
    def of(cls, api: ApiSettings) -> Limits:
        """The share of one of `[api] workers` processes."""

        def buckets(rate: float) -> Buckets:
            return Buckets(rate / api.workers, max(1.0, BURST_S * rate / api.workers))

        return cls(buckets(api.address_rate), buckets(api.client_rate))


LIMITS = web.AppKey("limits", Limits)


# ---- from where -----------------------------------------------------------------------------------------------------


def client_address(peer: str, forwarded: str, proxies: tuple[str, ...]) -> str:
    """From where a request comes: the connection's other end, or what a trusted proxy says.

    Each proxy appends to X-Forwarded-For whom it was asked by, so the list is read from the right, and the first who is
    no trusted proxy is it; what stands before was said by that one itself, and may be anything.
    """
    trusted = _networks(proxies)
    address = peer
    for hop in reversed([*forwarded.split(",")] if forwarded else []):
        if not _within(address, trusted):
            break
        hop = hop.strip().removeprefix("[").removesuffix("]")
        try:
            address = str(ipaddress.ip_address(hop))
        except ValueError:
            break  # a proxy that says something else is believed no further
    return address


@lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


def _within(address: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def bucket_of(address: str) -> str:
    """An IPv6 subscriber has 2**64 addresses, so they share one bucket (RFC 6177)."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    except ValueError:
        return address


# ---- what is true of every request ----------------------------------------------------------------------------------


@web.middleware
async def of_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say from where the request comes, and let an address ask so often, and fail so often, and no more."""
    at, limits = request.app[SERVICES], request.app[LIMITS]
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    request[ADDRESS] = client_address(request.remote or "", forwarded, at.settings.api.trusted_proxies)
    key = bucket_of(request[ADDRESS])
    if request.path in UNLIMITED:
        return await handler(request)
    if wait_s := limits.addresses.take(key, limits.clock()):
        _tell(limits, key)
        raise Throttled(wait_s)
    if request.path in _PROVING and (wait_s := limits.failures.wait_s(key, limits.clock())):
        _tell(limits, key)
        raise Throttled(wait_s)
    try:
        response = await handler(request)
    except ApiError as error:
        if error.status == 401 and _claims(request) and (wait_s := limits.failures.take(key, limits.clock())):
            _tell(limits, key)
            raise Throttled(wait_s) from None
        raise
    if response.status == 401 and _claims(request):
        limits.failures.take(key, limits.clock())
    return response


def _claims(request: web.Request) -> bool:
    """Whether the request claims to be somebody's; who does not even try is only told how."""
    return request.path in _PROVING or "Authorization" in request.headers


def _tell(limits: Limits, key: str) -> None:
    if not limits.told.take(key, limits.clock()):
        _log.warning("an address is slowed down", action="api.throttled", address=key)


def slowed(request: web.Request, token: str) -> bool:
    """Whether too much was asked with this token a moment ago: then nothing is looked for before `of_client` says that
    it may be, though who asks could be found by the same statement."""
    limits = request.app[LIMITS]
    return bool(limits.slowed) and limits.slowed.get(token, 0.0) > limits.clock()


async def of_client(request: web.Request, actor: Actor) -> None:
    """Let a user or client ask so often and no more; that it was slowed down stands in the audit. Raises Throttled."""
    limits, key = request.app[LIMITS], (actor.organization_id, actor.kind, actor.id)
    if wait_s := limits.clients.take(key, limits.clock()):
        limits.slowed[request[TOKEN]] = limits.clock() + wait_s
        limits.slowed.move_to_end(request[TOKEN])
        if len(limits.slowed) > MOST_KEYS:
            limits.slowed.popitem(last=False)
        if not limits.told.take(key, limits.clock()):
            detail = {"request": request[REQUEST_ID]}
            await request.app[SERVICES].audit.read(actor, "throttle", "route", None, detail, "refused")
        raise Throttled(wait_s)


async def of_body(request: web.Request) -> None:
    """Read the body, bounded in length and time, before anything is done with it: a slow one holds nothing but its
    connection. Raises ApiError 400, 408, 413."""
    known = request.content_length
    most = request.app[MOST_BODY] if ACTOR in request else MOST_PUBLIC_BODY_BYTES
    if known is not None and known > most:
        raise ApiError(413, "too-long", f"the body is longer than {most} bytes")
    try:
        async with asyncio.timeout(request.app[LIMITS].body_wait_s):
            body = await request.read()
    except TimeoutError:
        raise ApiError(408, "timeout", "the body did not come in time") from None
    except (web.RequestPayloadError, ConnectionError):  # not encoded as it says, or cut off
        request.content.feed_eof()  # or what is left of it is waited for, and is an error in the log
        if request.protocol is not None:
            request.protocol.close()
        raise ApiError(400, "structure", "the body did not come whole") from None
    if len(body) > most:
        raise ApiError(413, "too-long", f"the body is longer than {most} bytes")
    coding = ",".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    if body and coding not in _AS_IT_IS:
        request._read_bytes = _unpacked(body, coding, most)


def _unpacked(body: bytes, coding: str, most: int) -> bytes:
    """A body as RFC 9110 8.4.1 names its coding, unpacked as far as it is taken. Raises ApiError 400, 413, 415."""
    if coding not in _WBITS:
        raise ApiError(415, "not-supported", f"a body is not packed, or by one of {', '.join(_WBITS)}")
    unpack = zlib.decompressobj(_WBITS[coding])
    try:
        made = unpack.decompress(body, most + 1)
    except zlib.error:
        raise ApiError(400, "structure", f"the body is not {coding}") from None
    if len(made) > most:
        raise ApiError(413, "too-long", f"the body is longer than {most} bytes")
    if not unpack.eof or unpack.unused_data:
        raise ApiError(400, "structure", f"the body is not one whole {coding}")
    return made


MOST_BODY = web.AppKey("most_body", int)
