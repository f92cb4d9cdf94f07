"""Which analyzer measures what: the codes an order names, who has an item that several could have, why there is no
work. Pure.

An order names a test, an analyzer its own code. The menu of an analyzer is its code map read backwards: a test can be
ordered by a code whose results would be filed under that test. Where several would do, the site says which; nothing is
chosen for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from uuid import UUID

from interface.domain.mapping import Effective
from interface.domain.model import ItemStatus
from interface.domain.record import Word
from interface.domain.states import CLOSED_ITEM, OPEN_ITEM, SpecimenState


class DispatchKind(Word):
    NEW = "new"
    RERUN = "rerun"
    DILUTION = "dilution"
    CANCEL = "cancel"  # what the analyzer was told is to be taken back


class DispatchState(Word):
    """What became of one piece of work that was meant for an analyzer."""

    QUEUED = "queued"  # to be told
    SENT = "sent"
    ACCEPTED = "accepted"  # the analyzer has said that it will do it
    REFUSED = "refused"  # or that it will not: a person decides
    FAILED = "failed"  # it could not be told in as many attempts as the link makes: a person decides
    RESULTED = "resulted"
    CANCELLED = "cancelled"


ENDED = frozenset({DispatchState.RESULTED, DispatchState.CANCELLED})
TOLD = frozenset({DispatchState.SENT, DispatchState.ACCEPTED})
ALERTS = frozenset({DispatchState.REFUSED, DispatchState.FAILED})


class NoWork(Word):
    """Why an analyzer has nothing to do on a specimen it asks about."""

    UNKNOWN_SPECIMEN = "unknown_specimen"
    NOT_RECEIVED = "not_received"
    DONE = "done"
    NOT_FOR_THIS_ANALYZER = "not_for_this_analyzer"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class WhenDown(Word):
    """What becomes of work whose analyzer is down."""

    NEXT = "next"  # the next in the order of preference has it
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Query:
    """What an analyzer asks for. `ranges`: first and last id; `places`: rack and position. A tray is a rack.

    `barcodes`: as the laboratory printed them, which no rule of the link is for.
    """

    specimen_ids: tuple[str, ...] = ()
    all_: bool = False
    ranges: tuple[tuple[str, str], ...] = ()
    racks: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    barcodes: tuple[str, ...] = ()

    @property
    def open_ended(self) -> bool:
        """Whether it asks for whatever there is, so that the answer has an upper limit."""
        return self.all_ or bool(self.ranges or self.racks)


@dataclass(frozen=True, slots=True)
class Missing:
    """A specimen that was asked for and has no work. `specimen_id` as the analyzer asked."""

    specimen_id: str
    reason: NoWork


@dataclass(frozen=True, slots=True)
class WorkStep:
    """One code to measure on one specimen, or to measure no more. `work_id`: never used for anything else."""

    dispatch_id: UUID
    work_id: str
    kind: DispatchKind
    code: str
    dilution: Decimal | None = None


def outcome(kind: DispatchKind, old: DispatchState, said: DispatchState | None) -> DispatchState:
    """What work is once something was said of it. What has ended stays so; what is taken back has ended once the
    analyzer takes that, or when it had not taken the work. None: nothing that changes it."""
    if said is None or old in ENDED:
        return old
    if kind is not DispatchKind.CANCEL:
        return said
    if old is DispatchState.QUEUED:  # it was said of the work, of which the analyzer is yet to be told that it is off
        return DispatchState.CANCELLED if said in (DispatchState.REFUSED, DispatchState.CANCELLED) else old
    return DispatchState.CANCELLED if said is DispatchState.ACCEPTED else said


# ---- codes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Codes:
    """What to order for a test. `problem`: why nothing can be, although the analyzer measures it."""

    codes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.codes or self.problem)


def menu(found: Effective, specimen_type: str) -> dict[str, dict[str, tuple[bool, bool]]]:
    """By test: the codes whose results on this specimen type are filed under it, with whether the row that says so is
    the site's and the link's own."""
    rows = {}
    for (code, of_type), row in found.items():
        if of_type == specimen_type or (not of_type and (code, specimen_type) not in found):
            rows[code] = row
    by_test: dict[str, dict[str, tuple[bool, bool]]] = {}
    for code, row in sorted(rows.items()):
        if row.span.target.test:
            by_test.setdefault(row.span.target.test, {})[code] = (row.site, bool(row.key.link))
    return by_test


def choose_codes(
    possible: Mapping[str, tuple[bool, bool]],
    marked: Sequence[str] = (),
    named: Callable[[str], str] = lambda code: code,
) -> Codes:
    """The codes to order for one test, of those that `menu` gives.

    `marked`: what the site's routing says, all of them are ordered. `named`: what an order names of a code; codes that
    it names alike are one. Else a code of the site's own row, the link's before the driver's, if there is one only.
    """
    if not possible:
        return Codes()
    if marked:
        unknown = [code for code in marked if code not in possible]
        if unknown:
            return Codes(problem=f"the routing names {', '.join(unknown)}, which the code map files under another test")
        return Codes(tuple(dict.fromkeys(map(named, marked))))
    for least in ((True, True), (True, False), (False, True), (False, False)):
        alike = dict.fromkeys(named(code) for code, strength in possible.items() if strength >= least)
        if len(alike) == 1:
            return Codes(tuple(alike))
        if alike:
            return Codes(problem=f"several codes would measure it: {', '.join(alike)}; the routing can say which")
    return Codes()


# ---- analyzers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """That an analyzer measures a test, and in which place of preference. `share`: of the specimens, beside the others'
    shares; 0 everywhere: the first has all."""

    analyzer_id: UUID
    place: int
    share: int = 0
    when_down: WhenDown = WhenDown.NEXT
    codes: tuple[str, ...] = ()


def preferred(routes: Iterable[Route], specimen_id: UUID) -> list[Route]:
    """The routes in the order in which this specimen's work is offered.

    By shares, the first is drawn by the specimen: all of its tests that are shared alike go to the same analyzer, now
    and when it is asked again.
    """
    order = sorted(routes, key=lambda route: (route.place, str(route.analyzer_id)))
    total = sum(route.share for route in order)
    if not total:
        return order
    drawn = int.from_bytes(blake2b(specimen_id.bytes, digest_size=8).digest()) % total
    for route in order:
        if drawn < route.share:
            return [route, *(other for other in order if other is not route)]
        drawn -= route.share
    return order


def assigned(routes: Iterable[Route], specimen_id: UUID, down: Collection[UUID]) -> UUID | None:
    """The analyzer that is to measure it; None without routes. Of analyzers that are all down, the preferred one."""
    order = preferred(routes, specimen_id)
    for route in order:
        if route.analyzer_id not in down or route.when_down is WhenDown.WAIT:
            return route.analyzer_id
    return order[0].analyzer_id if order else None


def may_measure(
    analyzer_id: UUID,
    routes: Sequence[Route],
    specimen_id: UUID,
    down: Collection[UUID],
    holders: Collection[UUID] = (),
    only: UUID | None = None,
) -> bool:
    """Whether an analyzer that asks, or that could be told, is to have an item.

    Without routes everybody is offered it, and the first result wins. With them one has it: who was told already and is
    not down, else who is `assigned`. An analyzer that asks is not down, whatever is known of it. `holders`: who was
    told; `only`: who measured what is to be measured again.
    """
    if only is not None:
        return only == analyzer_id
    if not routes:
        return True
    if analyzer_id not in {route.analyzer_id for route in routes}:
        return False
    away = set(down) - {analyzer_id}
    held = {holder for holder in holders if holder not in away}
    return analyzer_id in held if held else assigned(routes, specimen_id, away) == analyzer_id


# ---- why not --------------------------------------------------------------------------------------------------------

_BY_STATE = {
    SpecimenState.EXPECTED: NoWork.NOT_RECEIVED,
    SpecimenState.COLLECTED: NoWork.NOT_RECEIVED,
    SpecimenState.EXHAUSTED: NoWork.DONE,
    SpecimenState.REJECTED: NoWork.REJECTED,
    SpecimenState.DISPOSED: NoWork.DONE,
    SpecimenState.CANCELLED: NoWork.CANCELLED,
}


def by_state(state: SpecimenState) -> NoWork | None:
    """Why nothing is measured on a specimen in this state; None: it may be measured."""
    return _BY_STATE.get(state)


def why_none(mine: Sequence[tuple[ItemStatus, bool]], others: int) -> NoWork:
    """Why a specimen that may be measured has no work for an analyzer.

    `mine`: the items it could measure, each with whether it is to be measured still, though not by this analyzer;
    `others`: how many items it cannot measure.
    """
    if any(waits for _, waits in mine) or not mine:
        return NoWork.NOT_FOR_THIS_ANALYZER if mine or others else NoWork.DONE
    closed = [status for status, _ in mine if status in CLOSED_ITEM]
    if len(closed) == len(mine):
        return NoWork.REJECTED if ItemStatus.REJECTED in closed else NoWork.CANCELLED
    return NoWork.DONE


def waits(status: ItemStatus, measured: bool, again: bool) -> bool:
    """Whether an item is to be measured. `measured`: a result of it waits for a person; `again`: somebody has asked for
    another run all the same."""
    return status in OPEN_ITEM and (again or not measured)
