"""What a FHIR search asks, as a tree of values: read by `api.fhir`, made SQL by `store.search`. Pure.

One vocabulary for a search's own parameters, chained ones, `_has`, and the restrictions of scopes. Names of types and
parameters are those of FHIR; which there are, and what of a row each looks at, is said by `store.search`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID


class Prefix(StrEnum):
    """R4 search.html#prefix. `ap` is read into a wider `eq`."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"


class Match(StrEnum):
    """How a text is compared: STARTS and CONTAINS without regard to case and accents."""

    STARTS = "starts"
    CONTAINS = "contains"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Token:
    """`system|code`. System None: any; "": none. Code None: any. `type`: of an identifier, with `:of-type`."""

    system: str | None
    code: str | None
    type: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A date of its precision as instants: `low` inclusive, `high` exclusive."""

    prefix: Prefix
    low: datetime
    high: datetime


@dataclass(frozen=True, slots=True)
class Amount:
    """A number; `low` and `high` (exclusive) are what its digits mean. `system`, `unit` None: any."""

    prefix: Prefix
    number: Decimal
    low: Decimal
    high: Decimal
    system: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Phrase:
    text: str
    how: Match = Match.STARTS


@dataclass(frozen=True, slots=True)
class Label:
    """`:text` of a token: the words that stand beside a code."""

    text: str


Value: TypeAlias = Token | Moment | Amount | Phrase | Label


@dataclass(frozen=True, slots=True)
class All:
    """Every one holds; without any it is true."""

    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """Some one holds; without any it is false."""

    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """Does not hold, or cannot be told because the element is missing."""

    node: Node


@dataclass(frozen=True, slots=True)
class Is:
    """A parameter has one of the values."""

    parameter: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Among:
    """It is one of these resources (`_id`)."""

    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """The element that the parameter looks at is not there."""

    parameter: str


@dataclass(frozen=True, slots=True)
class Refers:
    """A reference to one of these, or (`ids` None) to a resource of `target` for which `where` holds."""

    parameter: str
    target: str
    ids: tuple[UUID, ...] | None = None
    where: Node | None = None


@dataclass(frozen=True, slots=True)
class Referred:
    """`_has`: a resource of `kind` for which `where` holds refers to it by `parameter`."""

    kind: str
    parameter: str
    where: Node


Node: TypeAlias = All | Either | Not | Is | Among | Missing | Refers | Referred
NEVER = Either()
