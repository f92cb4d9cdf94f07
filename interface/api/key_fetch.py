"""Fetching the public keys of clients that were registered with an address (`[api] jwks_hosts`).

What asks for it is not authenticated yet, so it must cost little: one request at a time and address, a small answer in
a short time, no redirect, and a new one at most every ten seconds whatever is asked.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp
import orjson
import structlog

from interface.flow.client_keys import KeysUnavailable, url_problem

KEPT_S, AT_MOST_EVERY_S = 300.0, 10.0
TIMEOUT_S, MOST_BYTES = 5.0, 1 << 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float  # it was asked for last
    document: object  # None: it could not be fetched
    fetched_at: float


class KeyFetcher:
    """A `KeySource` over HTTPS. `hosts`: see `url_problem`; `clock` in seconds; `context`: the authorities trusted."""

    def __init__(
        self,
        hosts: frozenset[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts, self._clock, self._context = hosts, clock, context
        self._kept: dict[str, _Kept] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one per registered address

    async def fetch(self, url: str, *, again: bool = False) -> object:
        if url_problem(url, self._hosts):  # the configuration is not what it was
            raise KeysUnavailable("the host is not named in [api] jwks_hosts")
        async with self._locks[url]:
            kept = self._kept.get(url)
            now = self._clock()
            old = kept is None or kept.document is None or now - kept.fetched_at >= KEPT_S
            if kept is None or (now - kept.at >= AT_MOST_EVERY_S and (again or old)):
                document = await self._get(url)
                if document is not None or kept is None or old:
                    kept = _Kept(now, document, now)
                else:  # whoever names a key that nobody has must not take away those that are good
                    kept = replace(kept, at=now)
                self._kept[url] = kept
        if kept.document is None:
            raise KeysUnavailable("the keys cannot be fetched")
        return kept.document

    async def _get(self, url: str) -> object:
        """The document; None where there is none."""
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=False, auto_decompress=False
                ) as session,
                session.get(
                    url,
                    allow_redirects=False,  # to where nobody allowed
                    ssl=self._context or True,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                ) as response,
            ):
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                body = b""
                async for chunk in response.content.iter_chunked(1 << 14):
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise ValueError("too long")
            return orjson.loads(body)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            _log.warning("the keys of a client cannot be fetched", action="api.keys", error=type(error).__name__)
            return None
