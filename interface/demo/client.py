"""The HTTP side of the demo: the laboratory's REST interface with a user's token, FHIR with an EMR's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp

from interface.errors import LaboraError

Json = dict[str, Any]
REQUEST_TIMEOUT_S = 30.0


class Unexpected(LaboraError):
    """An answer that the demo does not expect; the text has method, route and status, never the body."""

    slug = "demo"


@dataclass(frozen=True, slots=True)
class Api:
    """One caller's way to one server. `token` is sent as a bearer token when there is one."""

    session: aiohttp.ClientSession
    base_url: str
    token: str = ""

    def with_token(self, token: str) -> Api:
        return Api(self.session, self.base_url, token)

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Json:
        """The body of a GET. `path` is below the base URL, or a whole URL of this server such as a next page's."""
        return await self._call("GET", path, params=parameters)

    async def post(self, path: str, body: Json) -> Json:
        return await self._call("POST", path, json=body)

    async def form(self, path: str, fields: Mapping[str, str]) -> Json:
        return await self._call("POST", path, data=fields)

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        url = path if path.startswith("http") else self.base_url + path
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            async with self.session.request(method, url, headers=headers, **arguments) as answer:
                text = await answer.text()
                if answer.status >= 400:
                    raise Unexpected(f"{method} {path.partition('?')[0]} was answered {answer.status} {answer.reason}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unexpected(f"{method} {path.partition('?')[0]} was not answered ({type(error).__name__})") from error
        body: Json = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        return body

    async def search(self, kind: str, parameters: Mapping[str, str]) -> list[Json]:
        """Every resource a FHIR search finds, page after page."""
        bundle = await self.get(f"/fhir/{kind}", parameters)
        found: list[Json] = []
        while True:
            found += [entry["resource"] for entry in bundle.get("entry", [])]
            links = {link["relation"]: link["url"] for link in bundle.get("link", [])}
            if "next" not in links:
                return found
            bundle = await self.get(links["next"])


@asynccontextmanager
async def connected(base_url: str) -> AsyncIterator[Api]:
    """An API without a token, for the duration of the block."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Api(session, base_url)
