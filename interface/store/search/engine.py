"""Statements that find resources: the tree of `domain.search`, by the tables of `kinds`, as SQL.

Who may see what is part of every set of rows that a statement names, however deep: what is not visible is not found, is
not counted, refers to nothing and is referred to by nothing. A set is always a subselect by id, never joined, so that
none can change what another one finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias
from uuid import UUID

from asyncpg import QueryCanceledError, Record

from interface.domain.search import (
    All,
    Among,
    Either,
    Is,
    Missing,
    Moment,
    Node,
    Not,
    Prefix,
    Referred,
    Refers,
    Value,
)
from interface.store.db import Connection
from interface.store.patients import persons
from interface.store.search.fields import Instant, Link, Pairs, Parameter, Sometimes, either


@dataclass(frozen=True, slots=True)
class Join:
    """The one row of another table that `on` says. `always`: there is one."""

    table: str  # with its alias
    on: str
    always: bool = True

    def text(self, alias: str, columns: Iterable[str], few: bool) -> str:
        """`columns`: of it that are wanted. `few`: of few rows, each of which looks it up; of many the planner joins as
        it likes, and of few it has thought that reading the whole table is as cheap."""
        how = "" if self.always else "left "
        if few:
            what = ", ".join(f"{alias}.{name}" for name in sorted(columns))
            return f"{how}join lateral (select {what} from {self.table} where {self.on} limit 1) {alias} on true"  # noqa: S608
        return f"{how}join {self.table} on {self.on}"


@dataclass(frozen=True, slots=True)
class Cover:
    """What is shown of each row of a page, by the statement that finds it: `columns` over the kind's own `carried`,
    which have the names of their columns, as columns of `m`, and over `joins`."""

    carried: Mapping[str, str]
    columns: str
    joins: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type as rows. Expressions are over `table` and those of `joins` (by alias) that they name.

    `updated`: when it changed last. `visible`: what the audience may see of it. `sorts`: by parameter the expression
    that a search is put in order by and its SQL type; nulls come last. `walks`: the sorts whose order an index has,
    each with the same resources as rows that it gives, upwards and downwards, None where they are these. `since`: what
    holds of all that have such a sort at {at} or later, where an index finds these.
    """

    name: str
    table: str
    id: str
    updated: str
    parameters: tuple[Parameter, ...]
    visible: str = "true"
    joins: Mapping[str, Join | str] = field(default_factory=dict)
    sorts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    cover: Cover | None = None
    walks: Mapping[str, tuple[Kind, Kind] | None] = field(default_factory=dict)
    since: str = ""

    def parameter(self, name: str) -> Parameter | None:
        return next((each for each in self.parameters if each.name == name), None)


Kinds = Mapping[str, Kind]


@dataclass(frozen=True, slots=True)
class Rows:
    """The resources of a type for which `where` holds."""

    kind: str
    where: Node


@dataclass(frozen=True, slots=True)
class Order:
    """By these sorts of the kind, each descending or not, then by id: every place in it is one resource's. `by_id`:
    whether the id descends; None: as the first sort does."""

    by: tuple[tuple[str, bool], ...] = ()
    by_id: bool | None = None

    @property
    def id_descending(self) -> bool:
        if self.by_id is not None:
            return self.by_id
        return self.by[0][1] if self.by else False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource stands in an order: its sort values as text, and its id."""

    keys: tuple[str, ...]
    id: UUID


class Statement:
    """One statement's text and bound values."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.values: list[object] = []

    def bind(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def select(self, rows: Rows, what: str, more: Sequence[str] = (), level: int = 0) -> str:
        """`select what` of the rows; `more`: conditions beside; `level`: how many sets it is within.

        What changed since is looked for among what did.
        """
        kind = self._kinds[rows.kind]
        since = _since(kind, rows.where) if kind.since else None
        if since is not None and not self.selective(kind, rows.where):
            more = [*more, kind.since.format(at=f"{self.bind(since)}::timestamptz")]
        return self._select(kind, rows.where, what, more, level)

    def _select(self, kind: Kind, where: Node, what: str, more: Sequence[str] = (), level: int = 0) -> str:
        scope = _Scope(kind, level)
        scope.note(what, kind.visible, *more)
        conditions = [each for each in (kind.visible, self._condition(scope, where), *more) if each != "true"]
        text = " and ".join(conditions) or "true"
        joins = scope.joins(self.selective(kind, where))
        return f"select {what} from {kind.table} {joins} where {text}"  # noqa: S608 - words of ours

    def _condition(self, scope: _Scope, node: Node) -> str:
        match node:
            case All():
                found = [text for each in node.nodes if (text := self._condition(scope, each)) != "true"]
                return f"({' and '.join(found)})" if found else "true"
            case Either():
                each_of = [self._condition(scope, each) for each in node.nodes]
                return "true" if "true" in each_of else either(each_of)
            case Not():
                return f"({self._condition(scope, node.node)}) is not true"
            case Is():
                return scope.note(_parameter(scope.kind, node.parameter).field.condition(node.values, self.bind))
            case Among():
                if len(node.ids) == 1:  # by its key, however small the planner thinks the laboratory is
                    return f"{scope.kind.id} = {self.bind(node.ids[0])}::uuid"
                return f"{scope.kind.id} = any({self.bind(list(node.ids))}::uuid[])"
            case Missing():
                return self._missing(scope, _parameter(scope.kind, node.parameter))
            case Refers():
                return self._refers(scope, node)
            case Referred():
                return self._referred(scope, node)

    # ---- references

    def _refers(self, scope: _Scope, node: Refers) -> str:
        relation = _link(scope.kind, node.parameter).targets.get(node.target)
        if relation is None or node.target not in self._kinds:
            return "false"
        if isinstance(relation, Pairs):
            among = self._among(node, scope.level + 1)
            return _within(scope.kind.id, f"select x.f from ({relation.select}) x where x.t {among}", scope.level)  # noqa: S608
        if isinstance(relation, Sometimes):
            return f"({scope.note(relation.where)} and {relation.column} {self._among(node, scope.level)})"
        return f"{scope.note(relation)} {self._among(node, scope.level)}"

    def _among(self, node: Refers, level: int) -> str:
        """What the id of a target must be among. Of a patient also those who were merged into it (`store.people`)."""
        target = self._kinds[node.target]
        if node.ids is not None and target.visible == "true":
            ids = f"{self.bind(list(node.ids))}::uuid[]"
            return f"= any({persons(ids) if node.target == 'Patient' else ids})"
        where = node.where if node.ids is None else Among(node.ids)
        inner = self.select(Rows(node.target, where or All()), target.id, level=level + 1)
        if node.target == "Patient":
            inner += f" union all select e.id from lab.patient e where e.merged_into_id = any(array({inner}))"  # noqa: S608
        return _within("", inner, level)

    def _referred(self, scope: _Scope, node: Referred) -> str:
        source = self._kinds[node.kind]
        relation = _link(source, node.parameter).targets.get(scope.kind.name)
        if relation is None:
            return "false"
        rows = Rows(node.kind, node.where)
        if isinstance(relation, Pairs):
            among = _within("x.f", self.select(rows, source.id, level=scope.level + 2), scope.level + 1)
            inner = f"select x.t from ({relation.select}) x where {among}"  # noqa: S608 - words of ours
        else:
            what = relation.expression if isinstance(relation, Sometimes) else relation
            inner = self.select(rows, what, level=scope.level + 1)
        if scope.kind.name == "Patient":
            inner += f" union all select e.merged_into_id from lab.patient e where e.id = any(array({inner}))"  # noqa: S608
        return _within(scope.kind.id, inner, scope.level)

    def _missing(self, scope: _Scope, parameter: Parameter) -> str:
        if not isinstance(parameter.field, Link):
            return scope.note(parameter.field.missing())
        there = [self._refers(scope, Refers(parameter.name, name)) for name in parameter.field.targets]
        return f"({either(there)}) is not true"

    # ---- pages

    def page(self, rows: Rows, order: Order, after: Place | None, limit: int, cover: Cover | None = None) -> str:
        """A page of the rows: their ids and sort values as text, in order; what covers them, and the number of each.

        What a selective condition finds is found first and then put in order: of a walk along the order's own index,
        leaving out what does not fit, the planner expects far less than it costs. Without one the walk is right.
        """
        kind, selective = self.walked(rows, order), self.selective(self._kinds[rows.kind], rows.where)
        keys = [_key(kind, name, descending) for name, descending in order.by]
        turns = [descending for _, descending in order.by] + [order.id_descending]
        carried = [f"{text} as {name}" for name, text in cover.carried.items()] if cover is not None else []
        what = ", ".join([f"{kind.id} as id", *(f"({text}) as k{n}" for n, (text, _) in enumerate(keys)), *carried])
        more = [self._beyond(kind, keys, turns, after)] if after is not None else []
        places = _places(turns, "m")
        shown = ", ".join([*(f"m.k{n}::text as k{n}" for n in range(len(keys))), "m.id"])
        # the limit is in the text: of one that it does not know the planner expects a tenth of the rows
        end = f"order by {places} limit {int(limit)}"
        rest = ""
        if cover is not None and selective:
            found, rest = self._in_turn(rows, what, more, cover)
        else:
            found = self._select(kind, rows.where, what, more)
        found = f"with m as {'' if selective else 'not '}materialized ({found})"
        if cover is None:
            return f"{found} select {shown} from m {end}"  # noqa: S608 - words of ours
        page = f"select * from m {end}"  # noqa: S608 - words of ours
        if rest:  # what is in order already is looked at one by one, until there are enough
            own = _alias(kind)
            ordered = f"(select * from m order by {places}) {own} {rest}"  # noqa: S608 - words of ours
            page = f"select {own}.* from {ordered} order by {_places(turns, own)} limit {int(limit)}"  # noqa: S608
        # put in order by who asked: the rows nearly always come in it, and the database would sort them again
        number = f"row_number() over (order by {places}) as n"
        return f"{found} select {shown}, {cover.columns}, {number} from ({page}) m {cover.joins}"  # noqa: S608

    def walked(self, rows: Rows, order: Order) -> Kind:
        """The type as the rows that an index has in this order, where it is walked along it."""
        kind = self._kinds[rows.kind]
        if not order.by or self.selective(kind, rows.where):
            return kind
        name, descending = order.by[0]
        both = kind.walks.get(name)
        return both[descending] if both is not None else kind

    def own_order(self, rows: Rows) -> Order:
        """That of a search which asks for none: as they were made; those that nothing but a window of time finds, along
        the index that has it: on a walk through all there are the window's may come last."""
        kind = self._kinds[rows.kind]
        if self.selective(kind, rows.where):
            return Order()
        windows = (each.parameter for each in _conjuncts(rows.where) if isinstance(each, Is) and _bounded(each))
        name = next((name for name in windows if name in kind.walks), None)
        return Order(((name, False),)) if name is not None else Order()

    def _in_turn(self, rows: Rows, what: str, more: Sequence[str], cover: Cover) -> tuple[str, str]:
        """`select what` of the rows by what their own table says; and the joins and conditions for which another row is
        looked up for each of them, "" where there are none."""
        kind = self._kinds[rows.kind]
        scope, others = _Scope(kind, 0), _Scope(kind, 0)
        scope.note(what, kind.visible, *more)
        if scope.joined:
            return self.select(rows, what, more), ""
        first, later = [kind.visible, *more], list[str]()
        for node in _conjuncts(rows.where):
            of = _Scope(kind, 0)
            text = self._condition(of, node)
            (later if of.joined else first).append(text)
            others.take(of)
        rest = f"{others.joins(few=True)} where {' and '.join(later)}" if later else ""
        wanted = sorted(_columns(_alias(kind), rest) - cover.carried.keys() - {"id"})
        what = ", ".join([what, *(f"{_alias(kind)}.{each} as {each}" for each in wanted)])
        conditions = " and ".join(text for text in first if text != "true") or "true"
        return f"select {what} from {kind.table} where {conditions}", rest  # noqa: S608 - words of ours

    def selective(self, kind: Kind, node: Node) -> bool:
        """Whether a condition finds few of a type's rows, by an index."""
        match node:
            case All():
                return any(self.selective(kind, each) for each in node.nodes)
            case Either():
                return bool(node.nodes) and all(self.selective(kind, each) for each in node.nodes)
            case Among():
                return True
            case Refers():
                few = node.ids is not None or self.selective(self._kinds[node.target], node.where or All())
                return few and _link(kind, node.parameter).few
            case Referred():
                return self.selective(self._kinds[node.kind], node.where)
            case Is():
                field = _parameter(kind, node.parameter).field
                return field.selective or (isinstance(field, Instant) and field.day and all(map(_one_day, node.values)))
        return False

    def of_one(self, kind: Kind, node: Node) -> bool:
        """Whether a condition asks for one resource, or for those of one patient, specimen, order: however many there
        are, these are few."""
        match node:
            case All():
                return any(self.of_one(kind, each) for each in node.nodes)
            case Either():
                return len(node.nodes) == 1 and self.of_one(kind, node.nodes[0])
            case Among():
                return len(node.ids) == 1
            case Refers():
                return node.ids is not None and len(node.ids) == 1 and _link(kind, node.parameter).few
        return False

    def _beyond(self, kind: Kind, keys: Sequence[tuple[str, str]], turns: Sequence[bool], after: Place) -> str:
        left = [*(text for text, _ in keys), kind.id]
        right = [f"{self.bind(value)}::text::{cast}" for value, (_, cast) in zip(after.keys, keys, strict=True)]
        right.append(f"{self.bind(after.id)}::uuid")
        if len(set(turns)) == 1:
            return f"({', '.join(left)}) {'<' if turns[0] else '>'} ({', '.join(right)})"
        ways = []
        for place, turn in enumerate(turns):
            same = [f"{a} = {b}" for a, b in zip(left[:place], right[:place], strict=True)]
            ways.append(" and ".join([*same, f"{left[place]} {'<' if turn else '>'} {right[place]}"]))
        return f"({' or '.join(ways)})"


def _alias(kind: Kind) -> str:
    """Of its own table."""
    return kind.id.partition(".")[0]


def _places(turns: Sequence[bool], of: str) -> str:
    """An order by the columns of a page: its sort values, each descending or not, and the id."""
    names = [*(f"k{n}" for n in range(len(turns) - 1)), "id"]
    return ", ".join(f"{of}.{name} {'desc' if turn else 'asc'}" for name, turn in zip(names, turns, strict=True))


def _conjuncts(node: Node) -> Iterator[Node]:
    """What must all hold for a condition to hold."""
    if isinstance(node, All):
        for each in node.nodes:
            yield from _conjuncts(each)
    else:
        yield node


def _one_day(value: Value) -> bool:
    return isinstance(value, Moment) and value.prefix is Prefix.EQ and value.high - value.low <= timedelta(days=1)


def _bounded(node: Is) -> bool:
    """Whether it is a window of time."""
    return all(isinstance(one, Moment) and one.prefix is not Prefix.NE for one in node.values)


def _since(kind: Kind, node: Node) -> datetime | None:
    """The begin of a window of time of one of the type's walks."""
    for each in _conjuncts(node):
        if isinstance(each, Is) and each.parameter in kind.walks:
            begins = [_BEGINS[one.prefix](one) for one in each.values if isinstance(one, Moment)]
            known = [one for one in begins if one is not None]
            if known and len(known) == len(begins):
                return min(known)
    return None


_BEGINS: Mapping[Prefix, Callable[[Moment], datetime | None]] = dict.fromkeys(Prefix, lambda one: None) | {
    Prefix.EQ: lambda one: one.low, Prefix.GE: lambda one: one.low, Prefix.GT: lambda one: one.high,
    Prefix.SA: lambda one: one.high,
}  # fmt: skip


def _key(kind: Kind, name: str, descending: bool) -> tuple[str, str]:
    """A sort's expression without nulls, and its type."""
    text, cast = kind.sorts[name]
    last = {"timestamptz": "-infinity" if descending else "infinity", "date": "-infinity" if descending else "infinity"}
    if name in kind.walks or text == kind.updated:  # there is one always
        return text, cast
    if cast == "text":
        return f"coalesce({text}, '')", cast
    return f"coalesce({text}, '{last[cast]}'::{cast})", cast


class _Scope:
    """One set of rows while its conditions are put together: the joins that they name, and which columns of each."""

    def __init__(self, kind: Kind, level: int) -> None:
        self.kind, self.level = kind, level
        self._needed: dict[str, set[str]] = {}

    def note(self, *texts: str) -> str:
        """The first text; the joins that any names are needed, and those that these name."""
        for alias, join in self.kind.joins.items():
            for text in texts:
                if columns := _columns(alias, text):
                    if alias not in self._needed:
                        self._needed[alias] = set()
                        if isinstance(join, Join):
                            self.note(join.on)
                    self._needed[alias] |= columns
        return texts[0]

    def take(self, other: _Scope) -> None:
        """What another one needs is needed here."""
        for alias, columns in other._needed.items():
            self._needed.setdefault(alias, set()).update(columns)

    @property
    def joined(self) -> bool:
        """Whether any of the joins are needed."""
        return bool(self._needed)

    def joins(self, few: bool) -> str:
        return " ".join(
            join.text(alias, self._needed[alias], few) if isinstance(join, Join) else join
            for alias, join in self.kind.joins.items()
            if alias in self._needed
        )


@lru_cache(maxsize=4096)
def _columns(alias: str, text: str) -> frozenset[str]:
    return frozenset(re.findall(rf"(?<![\w.]){alias}\.(\w+)", text))


def _within(expression: str, select: str, level: int) -> str:
    """An id is of a set. The outermost set may be joined as the planner likes; what is within a set is worked out once,
    from the inside: of sets in sets the planner knows too little, and has chosen loops within loops."""
    return f"{expression} in ({select})" if level == 0 else f"{expression} = any(array({select}))"


def _parameter(kind: Kind, name: str) -> Parameter:
    found = kind.parameter(name)
    if found is None:
        raise KeyError(f"{kind.name} has no search parameter {name}")
    return found


def _link(kind: Kind, name: str) -> Link:
    found = _parameter(kind, name).field
    if not isinstance(found, Link):
        raise TypeError(f"{name} of {kind.name} is no reference")
    return found


# ---- what callers ask -----------------------------------------------------------------------------------------------


class TooCostly(Exception):
    """The search took longer than a search may (`db.SEARCH_TIMEOUT_S`) and was stopped."""


async def find_places(
    connection: Connection, kinds: Kinds, rows: Rows, order: Order, after: Place | None, limit: int
) -> list[Place]:
    """A page of resources after a place, at most `limit`. Raises TooCostly."""
    statement = Statement(kinds)
    found = await fetch(connection, statement.page(rows, order, after, limit), statement.values)
    return [Place(tuple(row[:-1]), row[-1]) for row in (tuple(each.values()) for each in found)]


Row: TypeAlias = tuple[Any, ...] | Record  # the id, the columns of the cover, and what the statement needs itself


@dataclass(frozen=True, slots=True)
class Covered:
    """The statement that finds a page of at most `limit` resources after a place with what covers them."""

    text: str
    values: Sequence[object]
    limit: int
    keys: int  # sort values before the id
    one: bool  # it asks for what is of one patient, specimen or the like: it reads few rows

    @classmethod
    def of(cls, kinds: Kinds, rows: Rows, order: Order, after: Place | None, limit: int) -> Covered:
        statement = Statement(kinds)
        text = statement.page(rows, order, after, limit + 1, kinds[rows.kind].cover)
        return cls(text, statement.values, limit, len(order.by), statement.of_one(kinds[rows.kind], rows.where))

    async def find(self, connection: Connection) -> tuple[Sequence[Row], Place | None]:
        """The rows in order, and the last one's place if there are more. Raises TooCostly."""
        found = await fetch(connection, self.text, self.values)
        found.sort(key=itemgetter(-1))
        return self.page(found)

    def page(self, found: Sequence[Row]) -> tuple[Sequence[Row], Place | None]:
        """The same of what the statement gave."""
        keys, limit = self.keys, self.limit
        last = found[limit - 1] if len(found) > limit else None
        shown = found[:limit]
        return (
            [each[keys:] for each in shown] if keys else shown,
            Place(tuple(last[:keys]), last[keys]) if last is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Form:
    """The statement of several searches that differ in their values only; `casts`: of each value the SQL type, and
    whether it is the one of a list; `page`: the page of one of them, whose values are `q.p1` and so on."""

    text: str
    casts: tuple[tuple[str, bool], ...]
    page: str

    def columns(self, asked: Sequence[Sequence[object]]) -> list[list[object]]:
        """The values of the searches as the statement takes them, an array of each."""
        return [
            [value[0] if listed else value for value in each]
            for each, (_, listed) in zip(zip(*asked, strict=True), self.casts, strict=True)
        ]


_TYPES = ((UUID, "uuid"), (str, "text"), (datetime, "timestamptz"), (date, "date"), (Decimal, "numeric"))


def form_of(page: Covered) -> Form | None:
    """The form of a search; None where a list of its values is not of one: that is another statement each time."""
    casts = []
    for value in page.values:
        listed = isinstance(value, list)
        one = value if not isinstance(value, list) else value[0] if len(value) == 1 else None
        cast = next((sql for known, sql in _TYPES if isinstance(one, known)), None)
        if cast is None:
            return None
        casts.append((cast, listed))
    return _form(page.text, tuple(casts))


@lru_cache(maxsize=512)
def _form(text: str, casts: tuple[tuple[str, bool], ...]) -> Form:
    def place(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"array[q.p{number}]" if casts[number - 1][1] else f"q.p{number}"

    page = re.sub(r"\$(\d+)", place, text)
    return Form(f"select x.*, q.n from {unnested(casts)}, lateral ({page}) x", casts, page)  # noqa: S608


def unnested(casts: tuple[tuple[str, bool], ...], before: tuple[tuple[str, str], ...] = ()) -> str:
    """The searches that have these values, as rows `q` with their number as `n`; `before`: name and type of what stands
    with each before its values."""
    types = [*(cast for _, cast in before), *(cast for cast, _ in casts)]
    arrays = ", ".join(f"${n}::{cast}[]" for n, cast in enumerate(types, 1))
    names = ", ".join([*(name for name, _ in before), *(f"p{n}" for n in range(1, len(casts) + 1)), "n"])
    return f"unnest({arrays}) with ordinality q({names})"


async def find_together(connection: Connection, form: Form, asked: Sequence[Sequence[object]]) -> list[list[Row]]:
    """What `Covered.page` takes, of each of the searches that have these values. Raises TooCostly."""
    found: list[list[Row]] = [[] for _ in asked]
    for row in await fetch(connection, form.text, form.columns(asked)):
        found[row[-1] - 1].append(row)
    for rows in found:
        rows.sort(key=itemgetter(-2))
    return found


async def count_rows(connection: Connection, kinds: Kinds, rows: Rows) -> int:
    """How many resources there are on all pages. Raises TooCostly."""
    statement = Statement(kinds)
    [found] = await fetch(connection, statement.select(rows, "count(*)"), statement.values)
    count: int = found[0]
    return count


async def fetch(connection: Connection, text: str, values: Sequence[object]) -> list[Record]:
    """Rows of a search's statement. Raises TooCostly."""
    try:
        return await connection.fetch(text, *values)
    except QueryCanceledError as error:
        raise TooCostly from error
