"""Page links that say nothing: a search and a place in it, sealed with a key that only the database holds.

A search may carry a patient's name or number; a link that carried the search on would put these into the logs of every
proxy on the way (DESIGN §1.9). Sealed (AES-GCM, NIST SP 800-38D), whoever serves the database opens it, after a restart
and in every process, and nothing is kept for pages that nobody asks for. It opens for its owner and its search only.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from interface.errors import ApiError
from interface.store.db import Database
from interface.store.page_keys import page_key
from interface.store.query import Cursor
from interface.store.search.engine import Place

PAGE_LIFETIME_S = 86400.0
_NONCE_BYTES = 12
_LONG = 2000  # bytes from which making it shorter is worth ten times what sealing costs
MOST_NAME = 8000  # a line of a request is at most 8190 bytes


@dataclass(frozen=True, slots=True)
class NextPage:
    """Where a search goes on. `kind`: what it searches; `parameters` in order, as applied; `total` as first counted.

    `after`: the last row of a list; `place`: the last resource of a FHIR search, which was begun at `asked_at`.
    """

    kind: str
    actor_id: UUID | None
    organization_id: UUID
    parameters: tuple[tuple[str, str], ...]
    after: Cursor | None = None
    place: Place | None = None
    total: int | None = None
    asked_at: datetime | None = None


class Seal:
    """Makes and opens the page links of one organization."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        # Megabytes that a daemon of which nobody asks a second page does without.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher, self._clock, self._forged = AESGCM(key), clock, InvalidTag

    def keep(self, page: NextPage) -> str:
        """A name for the page, good for PAGE_LIFETIME_S."""
        place, after = page.place, page.after
        content = orjson.dumps(
            [
                self._clock() + PAGE_LIFETIME_S,
                page.parameters,
                [after.updated_at, str(after.id)] if after is not None else None,
                [place.keys, str(place.id)] if place is not None else None,
                page.total,
                page.asked_at,
            ]
        )
        nonce = os.urandom(_NONCE_BYTES)
        owner = _owner(page.kind, page.actor_id, page.organization_id)
        if len(content) > _LONG:
            content = zlib.compress(content)
        sealed = nonce + self._cipher.encrypt(nonce, content, owner)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def find(self, name: str, kind: str, actor_id: UUID | None, organization_id: UUID) -> NextPage:
        """The page of that name; another actor's does not exist. Raises ApiError 410 (issue type `expired`)."""
        try:
            sealed = base64.b64decode(name + "=" * (-len(name) % 4), altchars=b"-_", validate=True)
            owner = _owner(kind, actor_id, organization_id)
            content = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner)
            content = content if content.startswith(b"[") else zlib.decompress(content)
            until, parameters, after, place, total, asked_at = orjson.loads(content)
        except (binascii.Error, ValueError, zlib.error, self._forged):
            raise _gone() from None
        if until < self._clock():
            raise _gone()
        return NextPage(
            kind,
            actor_id,
            organization_id,
            tuple((one, value) for one, value in parameters),
            Cursor(_instant(after[0]), UUID(after[1])) if after else None,
            Place(tuple(place[0]), UUID(place[1])) if place else None,
            total,
            _instant(asked_at) if asked_at else None,
        )


def _owner(kind: str, actor_id: UUID | None, organization_id: UUID) -> bytes:
    """What a page is sealed for, beside its content."""
    return f"{organization_id} {actor_id} {kind}".encode()


def _instant(text: Any) -> datetime:
    return datetime.fromisoformat(text)


def _gone() -> ApiError:
    return ApiError(410, "expired", "this page is no longer there; search again")


class Pages:
    """The seals of the organizations, whose keys are in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seals: dict[UUID, Seal] = {}

    async def seal(self, organization_id: UUID) -> Seal:
        seal = self._seals.get(organization_id)
        if seal is None:
            async with self._database.transaction(organization_id) as connection:
                seal = self._seals[organization_id] = Seal(await page_key(connection, organization_id))
        return seal
