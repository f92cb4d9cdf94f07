"""Statements remembered by the shape of a search: those of one shape differ in nothing but the values that are bound.

To put a statement together costs as much as to find its rows. An EMR asks in few shapes: which parameters, how each is
compared, the order, the length of a page. Only what is a conjunction of plain conditions has a shape, with one value
each; whatever else is asked is put together each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from interface.domain.search import All, Among, Either, Is, Node, Refers
from interface.store.search.engine import Covered, Form, Kind, Kinds, Order, Place, Rows, form_of

MOST_SHAPES = 256  # that are remembered
_Shape: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A page's statement, and its form where several searches can share one."""

    page: Covered
    form: Form | None


class Shapes:
    """Of one audience's kinds."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._known: dict[_Shape, Known] = {}
        self._condition = lru_cache(maxsize=1024)(self._plain)

    def __len__(self) -> int:
        return len(self._known)

    def page(self, rows: Rows, order: Order, after: Place | None, limit: int) -> Known:
        """As `Covered.of`, with its form."""
        values: list[object] = []
        if after is not None:
            values += [*after.keys, after.id]
        shape = self._shape(self._kinds[rows.kind], rows.where, values)
        if shape is None:
            return self._made(rows, order, after, limit)
        key = rows.kind, shape, order.by, order.by_id, after is not None, limit
        known = self._known.get(key)
        if known is not None:
            return Known(replace(known.page, values=values), known.form)
        made = self._made(rows, order, after, limit)
        if made.page.values == values:  # else the walk here and the statement's are not in the same order
            if len(self._known) >= MOST_SHAPES:
                self._known.clear()
            self._known[key] = made
        return made

    def _made(self, rows: Rows, order: Order, after: Place | None, limit: int) -> Known:
        page = Covered.of(self._kinds, rows, order, after, limit)
        return Known(page, form_of(page) if page.one else None)

    def _shape(self, kind: Kind, node: Node, values: list[object]) -> _Shape | None:
        """What the text of a condition depends on; None where it has none. Adds what is bound to `values`."""
        match node:
            case All() | Either():
                found: list[object] = [type(node)]
                for each in node.nodes:
                    shape = self._shape(kind, each, values)
                    if shape is None:
                        return None
                    found.append(shape)
                return tuple(found)
            case Is():
                text, bound = self._condition(kind.name, node)
                values += bound
                return (text,) if text else None
            case Refers():
                if node.ids is None or len(node.ids) != 1:
                    return None
                values.append(list(node.ids))
                return node.parameter, node.target
            case Among():
                if len(node.ids) != 1:
                    return None
                values.append(node.ids[0])
                return (Among,)
        return None

    def _plain(self, kind: str, node: Is) -> tuple[str, Sequence[object]]:
        """The text of a condition by itself and what it binds; "" where a list of it has not one value."""
        parameter = self._kinds[kind].parameter(node.parameter)
        bound: list[object] = []

        def bind(value: object) -> str:
            bound.append(value)
            return f"${len(bound)}"

        text = parameter.field.condition(node.values, bind) if parameter is not None else ""
        many = any(isinstance(value, list) and len(value) != 1 for value in bound)
        return ("" if many else text), bound
