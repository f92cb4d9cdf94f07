"""What an analyzer says and how, from its driver's vectors: the shapes that `compose` writes new messages in. Pure.

The manifest says where things stand; what else a message consists of (headers, sequence numbers, racks, comments below
a result) only an example shows, and every driver has examples: its vectors. From them come the codes with their names,
units, reference texts and values. What is taken from one is checked by decoding it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from interface.domain.model import DecodedMessage, Observed, ObservedSpecimen, Protocol, SpecimenRole, ValueKind
from interface.driver.leaves import Lines, line_id, lines_of
from interface.driver.manifest import Driver
from interface.driver.registry import decode
from interface.driver.rows import Rows, rows_of
from interface.errors import RecordError, SegmentError

_MEASURED = frozenset(
    {ValueKind.NUMERIC, ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO, ValueKind.RANGE, ValueKind.TIME}
)
_STARTS = {Protocol.LIS2: ("O",), Protocol.HL7: ("ORC", "OBR")}
_PATIENT = {Protocol.LIS2: "P", Protocol.HL7: "PID"}
_BELOW = {Protocol.LIS2: ("C", "M"), Protocol.HL7: ("NTE",)}
_RESULT = {Protocol.LIS2: "R", Protocol.HL7: "OBX"}


@dataclass(frozen=True, slots=True)
class Saying:
    """One result as the analyzer has sent it. `lines`: its record with what hangs below it."""

    seen: Observed
    lines: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return self.seen.code

    @property
    def usable(self) -> bool:
        """A measurement that nothing is said against."""
        seen = self.seen
        return bool(seen.code) and not seen.holds and not seen.detail and seen.value.kind in _MEASURED


@dataclass(frozen=True, slots=True)
class OrderShape:
    """An order's lines before its results, the results, and what stands behind them."""

    lead: tuple[str, ...]
    sayings: tuple[Saying, ...]
    trail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """One message about one specimen."""

    source: Lines
    head: tuple[str, ...]
    orders: tuple[OrderShape, ...]
    tail: tuple[str, ...]
    specimen: ObservedSpecimen
    problems: frozenset[str] = frozenset()  # that the decoder has with it whatever it says

    @property
    def sayings(self) -> tuple[Saying, ...]:
        return tuple(saying for order in self.orders for saying in order.sayings)

    @property
    def lines(self) -> tuple[str, ...]:
        every = [*self.head]
        for order in self.orders:
            every += [*order.lead, *(line for saying in order.sayings for line in saying.lines), *order.trail]
        return (*every, *self.tail)


@dataclass(frozen=True, slots=True)
class RowShape:
    """Blocks of a declared layout about one specimen."""

    rows: Rows
    specimen: ObservedSpecimen
    problems: frozenset[str] = frozenset()

    @property
    def sayings(self) -> tuple[Saying, ...]:
        return tuple(Saying(one) for one in self.specimen.results)


@dataclass(frozen=True, slots=True)
class Repertoire:
    """All that a driver's vectors show. `sayings`: by code, the first seen first; `asking`: a query as sent.

    `of_role`: those of the sayings that were of such a specimen.
    """

    driver: Driver
    shapes: Mapping[SpecimenRole, Shape | RowShape] = field(default_factory=lambda: MappingProxyType({}))
    sayings: Mapping[str, tuple[Saying, ...]] = field(default_factory=lambda: MappingProxyType({}))
    asking: bytes = b""
    of_role: frozenset[tuple[SpecimenRole, str, str]] = frozenset()  # role, code, value as sent

    def panel(self, role: SpecimenRole) -> tuple[str, ...]:
        """The codes that a specimen of this role is usually reported with, each once."""
        shape = self.shapes.get(role)
        own = [saying.code for saying in shape.sayings if saying.code in self.sayings] if shape else []
        return tuple(dict.fromkeys(own))

    def said(self, role: SpecimenRole, code: str) -> tuple[Saying, ...]:
        """The results with this code that were seen, of such a specimen if there are any; none where there are none.

        In a declared layout a result is written over the one in its own record, so there are no others.
        """
        shape = self.shapes.get(role)
        own = tuple(one for one in shape.sayings if one.code == code and one.usable) if shape else ()
        if isinstance(shape, RowShape):
            return own[:1]
        every = own + tuple(one for one in self.sayings.get(code, ()) if one not in own)
        return tuple(one for one in every if (role, code, one.seen.raw_value) in self.of_role) or every


def repertoire(driver: Driver, messages: Iterable[bytes]) -> Repertoire:
    """From the assembled messages of a driver's vectors, in the order in which they are to be preferred."""
    found: list[Shape | RowShape] = []
    asking = b""
    for text in messages:
        decoded = decode(driver, text)
        if len(decoded.queries) == 1 and not asking and decoded.queries[0].specimen_ids:
            asking = text
        for role in (SpecimenRole.PATIENT, SpecimenRole.QC):
            shape = _shape(driver, text, decoded, role)
            if shape is not None:
                found.append(shape)
    sayings: dict[str, dict[str, Saying]] = {}
    of_role: set[tuple[SpecimenRole, str, str]] = set()
    for shape in found:
        for saying in shape.sayings:
            if saying.usable:
                sayings.setdefault(saying.code, {}).setdefault(saying.seen.raw_value, saying)
                of_role.add((shape.specimen.role, saying.code, saying.seen.raw_value))
    chosen = {}
    for role in (SpecimenRole.PATIENT, SpecimenRole.QC):
        mine = [shape for shape in found if shape.specimen.role is role and any(s.usable for s in shape.sayings)]
        if mine:
            chosen[role] = min(mine, key=lambda shape: len(shape.problems))
    return Repertoire(
        driver, MappingProxyType(chosen), MappingProxyType({c: tuple(s.values()) for c, s in sayings.items()}), asking,
        frozenset(of_role),
    )  # fmt: skip


def _shape(driver: Driver, text: bytes, decoded: DecodedMessage, role: SpecimenRole) -> Shape | RowShape | None:
    specimen = next((one for one in decoded.specimens if one.role is role and one.specimen_id and one.results), None)
    if specimen is None:
        return None
    if driver.protocol is Protocol.DECLARED:
        rows = rows_of(driver, text, specimen)
        return RowShape(rows, specimen, _told(decoded)) if rows is not None else None
    try:
        source = lines_of(driver.protocol, text, driver.encoding, driver.literal_escapes)
    except (RecordError, SegmentError, UnicodeError, LookupError):
        return None
    for orders, head, tail in _variants(source, decoded, specimen):
        shape = Shape(source, head, orders, tail, specimen)
        again = decode(driver, source.encode(shape.lines))
        mine = [one for one in again.specimens if one.role is role]
        count = sum(len(one.results) for one in mine)
        alone = {one.specimen_id for one in mine} == {specimen.specimen_id} and len(mine) == len(again.specimens)
        if alone and count == len(shape.sayings):
            merged = ObservedSpecimen(
                None, specimen.specimen_id, specimen.type, role, specimen.order_code, specimen.collected,
                tuple(result for one in mine for result in one.results),
            )  # fmt: skip
            return Shape(source, head, _seen(orders, merged), tail, merged, _told(again))
    return None


def _told(decoded: DecodedMessage) -> frozenset[str]:
    return frozenset(problem.text for problem in decoded.problems)


def _seen(orders: Sequence[OrderShape], specimen: ObservedSpecimen) -> tuple[OrderShape, ...]:
    """The orders with their results as they decode in this message."""
    results: Iterator[Observed] = iter(specimen.results)
    return tuple(
        OrderShape(order.lead, tuple(Saying(next(results), one.lines) for one in order.sayings), order.trail)
        for order in orders
    )


_Variant = tuple[tuple[OrderShape, ...], tuple[str, ...], tuple[str, ...]]


def _variants(source: Lines, decoded: DecodedMessage, specimen: ObservedSpecimen) -> Iterator[_Variant]:
    """The message cut down to one specimen, the most whole first."""
    orders, head, tail = _cut(source, _located(source, decoded, specimen))
    if orders:
        yield tuple(orders), head, tail
        yield (orders[0],), head, tail
        yield (OrderShape(orders[0].lead, orders[0].sayings),), head, tail


def _located(source: Lines, decoded: DecodedMessage, specimen: ObservedSpecimen) -> dict[int, Observed]:
    """The specimen's results by the number of their line."""
    mark = "^" if source.protocol is Protocol.HL7 else " "
    places: dict[str, int] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(source.lines):
        kind = line_id(line, source.protocol)
        seen[kind] = seen.get(kind, 0) + 1
        places[f"{kind}{mark}{seen[kind]}"] = number
    return {
        places[result.location]: result
        for one in decoded.specimens
        if (one.specimen_id, one.role, one.patient) == (specimen.specimen_id, specimen.role, specimen.patient)
        for result in one.results
        if result.location in places
    }


@dataclass(slots=True)
class _Open:
    """An order while its lines are read."""

    lead: list[str]
    results: list[tuple[Observed, list[str]]] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)

    def shape(self) -> OrderShape:
        return OrderShape(
            tuple(self.lead), tuple(Saying(seen, tuple(lines)) for seen, lines in self.results), tuple(self.trail)
        )


def _cut(source: Lines, results: Mapping[int, Observed]) -> tuple[list[OrderShape], tuple[str, ...], tuple[str, ...]]:
    """Orders with the given results, what stands before the first of them and behind the last."""
    protocol = source.protocol
    begin: list[str] = []  # before any patient
    head: list[str] = []
    orders: list[_Open] = []
    tail: tuple[str, ...] = ()
    over = False  # another patient has begun
    for number, line in enumerate(source.lines):
        kind = line_id(line, protocol)
        open_ = orders[-1] if orders else None
        if protocol is Protocol.LIS2 and kind == "L":
            tail = (line,)
        elif over:
            continue
        elif kind == _PATIENT[protocol]:
            if any(one.results for one in orders):
                over = True
                continue
            begin = begin or head
            head, orders = [*begin, line], []
        elif kind in _STARTS[protocol] and (open_ is None or _closed(open_, kind, protocol)):
            orders.append(_Open([line]))
        elif open_ is None:
            head.append(line)
        elif number in results:
            open_.results.append((results[number], [line]))
        elif kind == _RESULT[protocol]:
            continue  # of another specimen, or of none
        elif open_.results and kind in _BELOW[protocol] and not open_.trail:
            open_.results[-1][1].append(line)
        else:
            (open_.trail if open_.results else open_.lead).append(line)
    return [one.shape() for one in orders if one.results], tuple(head), tail


def _closed(open_: _Open, kind: str, protocol: Protocol) -> bool:
    """Whether a line of this kind begins another order."""
    return bool(open_.results or open_.trail) or kind in {line_id(line, protocol) for line in open_.lead}
