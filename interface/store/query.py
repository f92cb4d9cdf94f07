"""What all searches of the laboratory's records share: a page of rows, and a statement put together from conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next page starts after it. Pages are in the order of (updated_at, id)."""

    updated_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """What is common to all searches. `since` is inclusive, `until` exclusive; both are of the last change."""

    since: datetime | None = None
    until: datetime | None = None
    after: Cursor | None = None
    newest_first: bool = False
    limit: int = 100


FIRST_PAGE = Page()


class Query:
    """A statement's conditions and bound values; no value ever becomes part of the text."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._conditions: list[str] = []

    def bind(self, value: object) -> str:
        """The place of `value` in the statement, `$3`."""
        self.values.append(value)
        return f"${len(self.values)}"

    def where(self, condition: str, *values: object) -> None:
        """Add a condition; each `?` in it is one of `values`."""
        for value in values:
            condition = condition.replace("?", self.bind(value), 1)
        self._conditions.append(condition)

    def any(self, condition: str, values: Iterable[object]) -> None:
        """Add a condition with one `?` for a list, unless the list is empty."""
        if chosen := list(values):
            self.where(condition, chosen)

    def between(self, expression: str, since: object | None, until: object | None) -> None:
        if since is not None:
            self.where(f"{expression} >= ?", since)
        if until is not None:
            self.where(f"{expression} < ?", until)

    def page(self, page: Page, stamp: str, key: str, changed: str = "") -> str:
        """Add the page's conditions; returns `order by … limit …`. `changed`: the last change, if `stamp` is not it."""
        self.between(changed or stamp, page.since, page.until)
        sign, order = ("<", "desc") if page.newest_first else (">", "asc")
        if page.after is not None:
            self.where(f"({stamp}, {key}) {sign} (?, ?)", page.after.updated_at, page.after.id)
        return f"order by {stamp} {order}, {key} {order} limit {self.bind(page.limit)}"

    @property
    def conditions(self) -> str:
        return " and ".join(self._conditions) or "true"
