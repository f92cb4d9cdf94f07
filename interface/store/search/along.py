"""Searches together with who asks them: whom a token stands for and the page it asks for, by one statement.

Nothing is searched for a token that is not valid. Whether its holder may search is for the caller to ask before
anything of the page is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from interface.store.actors import TOKENS, TokenHolder
from interface.store.db import Connection
from interface.store.search.engine import Form, Row, fetch, unnested
from interface.store.search.sent import fields, optional_id, text, texts


class Asked(NamedTuple):
    """A search of some form, by its values, and the token it is asked with."""

    token_hash: bytes
    values: Sequence[object]


class Told(NamedTuple):
    """`rows`: as `Covered.page` takes them."""

    holder: TokenHolder
    rows: list[Row]


# The holder stands in the first row of each page, or in the only one of a page without any.
_ALONG = """
with t as materialized ({tokens})
select x.*, case when coalesce(x.n, 1) = 1 then q.holder end, q.n
from (select q.*, record_send(row(t.user_id, t.client_id, t.name, t.roles, t.scopes)) as holder
      from {asked} join t on t.token_hash = q.hash offset 0) q
left join lateral ({page}) x on true
"""


@lru_cache(maxsize=64)
def along_text(form: Form) -> str:
    """The statement of `find_along`, planned once on each connection."""
    asked = unnested(form.casts, (("hash", "bytea"),))
    return _ALONG.format(tokens=TOKENS, asked=asked, page=form.page)


async def find_along(connection: Connection, form: Form, asked: Sequence[Asked]) -> list[Told | None]:
    """What each finds; None of a token that is not valid. Raises TooCostly."""
    values = [[one.token_hash for one in asked], *form.columns([one.values for one in asked])]
    found: list[Told | None] = [None] * len(asked)
    pages: list[list[Row]] = [[] for _ in asked]
    for row in await fetch(connection, along_text(form), values):
        at, holder, place = row[-1] - 1, row[-2], row[-3]
        if holder is not None:
            found[at] = Told(_holder(holder), pages[at])
        if place is not None:
            pages[at].append(row)
    for rows in pages:
        rows.sort(key=itemgetter(-3))
    return found


@lru_cache(maxsize=256)
def _holder(sent: bytes) -> TokenHolder:
    user, client, name, roles, scopes = fields(sent)
    return TokenHolder(optional_id(user), optional_id(client), text(name), tuple(texts(roles)), tuple(texts(scopes)))
