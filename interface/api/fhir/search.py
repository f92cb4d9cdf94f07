"""A FHIR search, read: parameters, chains, `_has`, includes, order and what is to be told, as a `domain.search` tree.

Which parameters there are is said by `store.search.kinds`. A parameter that is not there is ignored, or refused under
`Prefer: handling=strict`; a modifier, prefix or chain that is not supported is always refused, because leaving out a
condition shows other patients. What a caller may not read narrows every set that a search names (`Access`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from urllib.parse import urlencode
from uuid import UUID

from interface.api.fhir.types import TYPES
from interface.api.fhir.values import READERS, alternatives, bad, plain, read_id, unsupported, with_article
from interface.domain.permissions import Restriction, restrictions
from interface.domain.search import NEVER, All, Among, Either, Is, Missing, Node, Not, Referred, Refers
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.store.search.engine import Kind, Kinds, Order, Rows, Statement
from interface.store.search.fields import Coded, Instant, Link, Parameter

DEFAULT_COUNT, MOST_COUNT = 50, 500
# What one search may cost: each is refused in a sentence that says the limit
MOST_PARAMETERS, MOST_VALUES, MOST_CHARACTERS, MOST_DEPTH, MOST_INCLUDES, MOST_SORTS = 30, 200, 4000, 3, 10, 3
TELLING = ("_count", "_elements", "_summary", "_total")  # how much is told of what is found
CONTROLS = (
    "_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude", "_format", "_pretty",
)  # fmt: skip


_ONCE = frozenset({"_count", "_sort", "_total", "_summary", "_elements"})  # the last would count, unsaid
_ANY_TIME = datetime.min.replace(tzinfo=UTC)  # for what does not depend on now
UNRESTRICTED = (Restriction(),)
EVERYTHING: Node = Either((All(),))  # what a scope that no query narrows allows


class Summary(StrEnum):
    FALSE = "false"
    TRUE = "true"
    TEXT = "text"
    DATA = "data"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Include:
    """What comes along: what `parameter` of `kind` refers to of type `target`; `reverse`: `kind`, which refers to
    `target`. `iterate`: also of what came along."""

    kind: str
    parameter: str
    target: str
    reverse: bool = False
    iterate: bool = False


@dataclass
class Search:
    """A search as it was understood. `applied`: the parameters that were, in their order; `total`: it is to be counted;
    `included`: of each type what may come along."""

    kind: str
    where: Node
    order: Order = field(default_factory=Order)
    count: int = DEFAULT_COUNT
    total: bool = False
    summary: Summary = Summary.FALSE
    elements: frozenset[str] = frozenset()
    includes: list[Include] = field(default_factory=list)
    included: dict[str, Node] = field(default_factory=dict)
    applied: list[tuple[str, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Resources are shown with all their elements."""
        return self.summary is Summary.FALSE and not self.elements

    @cached_property
    def query(self) -> str:
        """The same as the query of a URL."""
        return urlencode(self.applied)


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do to each type: a user by permission, a client by scope, which may say to which ones."""

    actor: Actor

    def to(self, kind: str, action: str) -> tuple[Restriction, ...]:
        """(): to none. `action`: r to be shown it, s to find it, or something by it."""
        if self.actor.kind is ActorKind.CLIENT:
            return restrictions(self.actor.scopes, kind, action)
        known = TYPES.get(kind)
        return (Restriction(),) if known and known.permission.value in self.actor.scopes else ()


class Reader:
    """Reads searches for one caller. `base_url`: of the server, without a slash at its end; `now`: for `ap`."""

    def __init__(
        self, kinds: Kinds, access: Access | Mapping[str, tuple[Restriction, ...]], base_url: str, now: datetime
    ) -> None:
        self._kinds, self._access, self._now = kinds, access, now
        self._base = f"{base_url}/fhir/"

    def search(self, kind: str, given: Sequence[tuple[str, str]], strict: bool = False) -> Search:
        """Raises ApiError 400, and 403 for what leads to a type that the caller may not search or read."""
        given = [(name, value) for name, value in given if value and name not in ("_format", "_pretty")]
        _check_cost(given)
        found = Search(kind, All())
        conditions = [self.narrowed(kind, "s")]
        for name, value in given:
            if "\0" in value:
                raise bad(f"{name[:60]} holds a character that is none")
            base, _, modifier = name.partition(":")
            control = _CONTROLS.get(base)
            if control is not None:
                if modifier and base in _ONCE:  # as _sort:desc was in older versions
                    raise unsupported(f"the modifier {modifier[:40]!r} of {base} is not supported")
                if base in _ONCE and any(base == said for said, _ in found.applied):
                    raise bad(f"{base} is given twice")
                if control(self, found, name, value):
                    found.applied.append((name, value))
                    continue
            elif (node := self.condition(self._kinds[kind], name, value)) is not None:
                conditions.append(node)
                found.applied.append((name, value))
                continue
            if strict:
                raise unsupported(f"{with_article(kind)} has no search parameter {f'{name}={value}'[:80]!r}")
        found.where = All(tuple(conditions))
        if found.order == Order():  # by what is asked alone: the token of the next page may have other scopes
            found.order = Statement(self._kinds).own_order(Rows(kind, All(tuple(conditions[1:]))))
        return found

    def part(self, kind: str, given: Sequence[tuple[str, str]]) -> Search:
        """What a read is to show of a resource, by `_elements` and `_summary` (R4 http.html#read)."""
        found = self.told(kind, [(name, value) for name, value in given if name in ("_elements", "_summary")])
        if found.summary is Summary.COUNT:
            raise bad("_summary=count is for searches")
        return found

    def told(self, kind: str, given: Sequence[tuple[str, str]]) -> Search:
        """How much is to be told of whatever is found, by those of the parameters that say so."""
        found = Search(kind, All())
        for name, value in given:
            if value and name in TELLING:
                _CONTROLS[name](self, found, name, value)
        return found

    def narrowed(self, kind: str, action: str) -> Node:
        """The resources of a type that the caller may do this to. Raises ApiError 403 where there are none."""
        access = self._access
        allowed = access.to(kind, action) if isinstance(access, Access) else access.get(kind, ())
        if not allowed:
            raise ApiError(403, "forbidden", f"this needs the scope system/{kind}.{action}, or the permission")
        if allowed == UNRESTRICTED:
            return EVERYTHING
        return Either(tuple(self._restriction(kind, one) for one in allowed))

    def _restriction(self, kind: str, one: Restriction) -> Node:
        nodes = []
        for name, value in one.parameters:
            node = self._own(self._kinds[kind], name, value)
            nodes.append(NEVER if node is None else node)  # what cannot be applied allows nothing
        return All(tuple(nodes))

    # ---- conditions

    def condition(self, kind: Kind, name: str, value: str, depth: int = 0) -> Node | None:
        """One parameter; None when the type has none of this name."""
        if name.startswith("_has:"):
            return self._has(kind, name, value, depth)
        head, dot, rest = name.partition(".")
        return self._chain(kind, head, rest, value, depth) if dot else self._own(kind, name, value)

    def _has(self, kind: Kind, name: str, value: str, depth: int) -> Node:
        _, source, link, rest = (*name.split(":", 3), "", "", "")[:4]
        self._check_depth(depth)
        referring = self._kinds.get(source)
        parameter = referring.parameter(link) if referring else None
        if referring is None or parameter is None or not rest:
            raise unsupported(f"{name[:80]!r} is not understood: _has:<type>:<reference>:<parameter>")
        if not isinstance(parameter.field, Link) or kind.name not in parameter.field.targets:
            raise unsupported(f"{link} of {source} does not refer to {with_article(kind.name)}")
        node = self.condition(referring, rest, value, depth + 1)
        if node is None:
            raise unsupported(f"{with_article(source)} has no search parameter {rest[:60]!r}")
        return Referred(source, link, All((self.narrowed(source, "s"), node)))

    def _chain(self, kind: Kind, head: str, rest: str, value: str, depth: int) -> Node | None:
        base, _, typed = head.partition(":")
        parameter = kind.parameter(base)
        if parameter is None:
            return None
        self._check_depth(depth)
        if not isinstance(parameter.field, Link) or (typed and typed not in parameter.field.targets):
            raise unsupported(f"{head[:60]!r} of {with_article(kind.name)} refers to nothing that could be searched by")
        ways: list[Node] = []
        for target in [typed] if typed else parameter.field.targets:
            node = self.condition(self._kinds[target], rest, value, depth + 1) if target in self._kinds else None
            if node is not None:
                ways.append(Refers(base, target, None, All((self.narrowed(target, "s"), node))))
        if not ways and parameter.field.targets:
            raise unsupported(f"what {head} refers to has no search parameter {rest[:60]!r}")
        return Either(tuple(ways))

    def _own(self, kind: Kind, name: str, value: str) -> Node | None:
        base, _, modifier = name.partition(":")
        parameter = kind.parameter(base)
        if parameter is None:
            return None
        if modifier == "missing":
            if value not in ("true", "false"):
                raise bad(f"{name} is true or false")
            return Missing(base) if value == "true" else Not(Missing(base))
        if isinstance(parameter.field, Link):
            return self._reference(kind, parameter, parameter.field, modifier, value)
        if modifier and modifier not in parameter.field.modifiers:
            raise unsupported(f"the modifier {modifier[:40]!r} of {base} is not supported")
        node = self._values(parameter, modifier, value)
        return Not(node) if modifier == "not" else node

    def _values(self, parameter: Parameter, modifier: str, value: str) -> Node:
        each = alternatives(value)
        if parameter.name == "_id":
            return Among(tuple(id for one in each if (id := read_id(one)) is not None))
        if isinstance(parameter.field, Instant) and parameter.field.day and "T" in value:
            raise bad(f"{parameter.name} has no time")
        known = isinstance(parameter.field, Coded | Instant) and not any(one.startswith("ap") for one in each)
        read = _read if known else _read.__wrapped__
        return read(parameter.name, parameter.field.type, modifier, tuple(each), _ANY_TIME if known else self._now)

    def _reference(self, kind: Kind, parameter: Parameter, link: Link, modifier: str, value: str) -> Node:
        """`id`, `Type/id` or an absolute URL of ours; others refer to nothing that we have."""
        if modifier == "identifier":
            return self._chain(kind, parameter.name, "identifier", value, 0) or NEVER
        if modifier and modifier not in link.targets:
            raise unsupported(f"the modifier {modifier[:40]!r} of {parameter.name} is not supported")
        found: dict[str, list[UUID]] = {}
        for one in alternatives(value):
            kind_of, slash, id_text = plain(one).removeprefix(self._base).partition("/")
            id = read_id(id_text if slash else kind_of)
            named = kind_of if slash else modifier
            for target in [named] if named else link.targets:
                if id is not None and target in link.targets and modifier in ("", target):
                    found.setdefault(target, []).append(id)
        return Either(tuple(Refers(parameter.name, target, tuple(ids)) for target, ids in found.items()))

    @staticmethod
    def _check_depth(depth: int) -> None:
        if depth >= MOST_DEPTH:
            raise ApiError(400, "too-costly", f"a chain is at most {MOST_DEPTH} references long")

    # ---- what is told, and in which order

    def _read_count(self, found: Search, name: str, value: str) -> bool:
        if not (value.isascii() and value.isdigit()):
            raise bad("_count is a number")
        found.count = min(int(value[:9]), MOST_COUNT)
        if not found.count:
            found.summary = Summary.COUNT
        return True

    def _read_sort(self, found: Search, name: str, value: str) -> bool:
        sorts = self._kinds[found.kind].sorts
        keys = [(one.strip().removeprefix("-"), one.strip().startswith("-")) for one in value.split(",")]
        names = [one for one, _ in keys]
        if any(one not in sorts and one != "_id" for one in names):
            raise unsupported(f"{with_article(found.kind)} can be sorted by {', '.join(('_id', *sorts))}")
        if twice := next((one for one in names if names.count(one) > 1), ""):
            raise bad(f"_sort names {twice} twice")
        if len(keys) > MOST_SORTS:
            raise ApiError(400, "too-costly", f"a search is sorted by at most {MOST_SORTS} parameters")
        last = names.index("_id") if "_id" in names else None  # no two are equal in it: what follows decides nothing
        found.order = Order(tuple(keys[:last]), None if last is None else keys[last][1])
        return True

    def _read_total(self, found: Search, name: str, value: str) -> bool:
        if value not in ("none", "estimate", "accurate"):
            raise bad("_total is none, estimate or accurate")
        found.total = value != "none"
        return True

    def _read_summary(self, found: Search, name: str, value: str) -> bool:
        if value not in frozenset(Summary):
            raise bad(f"_summary is one of {', '.join(Summary)}")
        found.summary = Summary(value)
        return True

    def _read_elements(self, found: Search, name: str, value: str) -> bool:
        found.elements = frozenset(one.strip().removeprefix(f"{found.kind}.") for one in value.split(",")) - {""}
        return True

    def _read_include(self, found: Search, name: str, value: str) -> bool:
        """`_include=type:parameter[:target]`, `type:*` and `*`; `_revinclude` likewise."""
        base, _, modifier = name.partition(":")
        if modifier not in ("", "iterate"):
            raise unsupported(f"the modifier {modifier[:40]!r} of {base} is not supported")
        each = list(self._included(found, base == "_revinclude", value, modifier == "iterate"))
        found.includes += each
        if len({(one.kind, one.parameter, one.reverse) for one in found.includes}) > MOST_INCLUDES and "*" not in value:
            raise ApiError(400, "too-costly", f"a search has at most {MOST_INCLUDES} includes")
        return bool(each)

    def _included(self, found: Search, reverse: bool, value: str, iterate: bool) -> Iterator[Include]:
        kind, _, rest = value.partition(":")
        named, _, target = rest.partition(":")
        wild = value == "*" or named == "*"
        sources = list(self._kinds) if value == "*" and reverse else [found.kind if value == "*" else kind]
        for source in sources:
            known = self._kinds.get(source)
            for parameter in known.parameters if known is not None else ():
                if not isinstance(parameter.field, Link) or (not wild and parameter.name != named):
                    continue
                if wild and parameter.name == "subject" and known is not None and known.parameter("patient"):
                    continue  # the same as `patient`
                for to in parameter.field.targets:
                    reaches = iterate or (to if reverse else source) == found.kind
                    if target in ("", to) and reaches and self._may_come(found, source if reverse else to, wild):
                        yield Include(source, parameter.name, to, reverse, iterate)

    def _may_come(self, found: Search, kind: str, wild: bool) -> bool:
        """Whether a type may come along; what is asked for by name and may not is refused."""
        if kind not in self._kinds:
            return False
        try:
            found.included[kind] = self.narrowed(kind, "r")
        except ApiError:
            if not wild:
                raise
            return False
        return True


_CONTROLS: dict[str, Callable[[Reader, Search, str, str], bool]] = {
    "_count": Reader._read_count,
    "_sort": Reader._read_sort,
    "_total": Reader._read_total,
    "_summary": Reader._read_summary,
    "_elements": Reader._read_elements,
    "_include": Reader._read_include,
    "_revinclude": Reader._read_include,
}


@lru_cache(maxsize=1024)  # codes and dates are the same over and over
def _read(name: str, type: str, modifier: str, each: tuple[str, ...], now: datetime) -> Is:
    read = READERS[(type, modifier)]
    return Is(name, tuple(read(one, name, now) for one in each))


def _check_cost(given: Sequence[tuple[str, str]]) -> None:
    characters = sum(len(name.encode()) + len(value.encode()) for name, value in given)
    values = max((value.count(",") + 1 for _, value in given), default=0)
    for asked, most, what in (
        (len(given), MOST_PARAMETERS, "parameters"),
        (values, MOST_VALUES, "values of one parameter"),
        (characters, MOST_CHARACTERS, "characters"),
    ):
        if asked > most:
            raise ApiError(400, "too-costly", f"a search has at most {most} {what}, this one has {asked}")
