"""The state of a stream of quality control, now and at any time: what the gate for patients' results goes by. Pure.

A stream's points in the order in which they were measured, and what persons did in the order in which they said so, are
its events; `step` takes one of them to the next state by a table. What comes late is put in its place and all is gone
through anew, so that the state at a time is what everything that is known says of it:

* A run with every level that is wanted, none of them rejected, *vouches*: for what is measured after it, and for what
  was measured since the run before it.
* A rejected point makes everything suspect since the last run that vouched (bracketing, CLSI C24: what was measured
  between a good control and a bad one cannot be told apart), and everything after it until it is made good: each lot
  that failed was acceptable again, and somebody documented what was done after the failure was known. Another lot of
  its level shows nothing of it while it has a target: two materials may have one number, and be of different levels.
* The same person says what is to become of what was measured meanwhile: it *stands*, or is to be done *again*.
* A point that was excluded vouches for nothing; one that was rejected holds all the same.

Time expires a state by itself: see `History.at`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from interface.domain.facts import QcState
from interface.domain.qc import Multirule, QcMode, QcRule, QcVerdict
from interface.domain.record import record
from interface.domain.times import CLOCK_AHEAD, CLOCK_BEHIND

BEGIN, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
MOST_SPANS = 64  # of a history that are kept one by one: with three runs a day, three weeks
MOST_BESIDE = 4  # runs that were broken off and may go on
# The worst first. What is expired or failed holds; what is not known is released by nobody but a person.
WORST = (QcState.FAIL, QcState.EXPIRED, QcState.UNKNOWN, QcState.WARN, QcState.OK)
IN_CONTROL = frozenset({QcState.OK, QcState.WARN})


def worst(states: Iterable[QcState]) -> QcState:
    """Of several; of none: not known."""
    return min(states, key=WORST.index, default=QcState.UNKNOWN)


# ---- plans -----------------------------------------------------------------------------------------------------------


@record
class Plan:
    """How streams are controlled. `levels`: that an acceptable run has, 0 for those that have a target then."""

    analyzer: str = ""  # "": of every analyzer, as `test`
    test: str = ""
    mode: QcMode = QcMode.MODERN
    rules: tuple[QcRule, ...] = ()
    levels: int = 0
    run_minutes: int = 60
    interval_minutes: int | None = 24 * 60  # 42 CFR 493.1256(d)(3): at least once each day patients are assayed
    before_first: bool = False
    timezone: str = "UTC"
    loose_r4s: bool = False
    allowable_error: Decimal | None = None
    version: int = 0  # 0: nobody has made a plan, this is what holds without one

    @property
    def name(self) -> str:
        """What an explanation calls it."""
        of = " ".join(filter(None, (self.analyzer, self.test)))
        return f"{of or 'all'} {self.version}" if self.version else "without a plan"

    @property
    def multirule(self) -> Multirule:
        return Multirule(self.rules, self.mode, self.loose_r4s)

    def expires(self, at: datetime) -> datetime | None:
        """Until when an acceptable run of that time vouches; None: it does not end by itself."""
        ends = [at + timedelta(minutes=self.interval_minutes)] if self.interval_minutes is not None else []
        if self.before_first:  # whoever comes first on the next day comes after a control of that day
            zone = ZoneInfo(self.timezone)
            day = at.astimezone(zone).date() + timedelta(days=1)
            ends.append(datetime.combine(day, time(), zone).astimezone(UTC))
        return min(ends, default=None)


DEFAULT_PLAN = Plan()


# ---- events ----------------------------------------------------------------------------------------------------------


Control: TypeAlias = tuple[int, str]  # its level's number, and the id of its lot


@record
class Measured:
    """A point. `known_at`: when the laboratory learned of it; `wanted`: the levels that a run has to have then, or
    `count`: how many, whichever; `usable_until`: the end of its lot. `lot`: its control's, which is called `name`;
    `aimed`: the lots that have a target then."""

    id: str
    at: datetime
    known_at: datetime
    level: int
    run: str
    verdict: QcVerdict
    wanted: frozenset[int] = frozenset()
    count: int = 0
    excluded: bool = False
    reagent_lot: str = ""
    usable_until: datetime | None = None
    lot: str = ""
    name: str = ""
    aimed: frozenset[str] = frozenset()

    @property
    def control(self) -> Control:
        return self.level, self.lot

    @property
    def expired(self) -> bool:
        """Whether its lot had expired when it was measured, by what is said of that now."""
        return self.usable_until is not None and self.at >= self.usable_until

    def shows(self, control: Control) -> bool:
        """Whether it says of a control that it is acceptable: it is that, or stands in its place."""
        level, lot = control
        return level == self.level and (lot == self.lot or lot not in self.aimed)

    def whole(self, levels: Collection[int]) -> bool:
        """Whether these levels are all that its run has to have."""
        return self.wanted.issubset(levels) and len(levels) >= self.count


class Meanwhile(StrEnum):
    """What is to become of what was measured from the last acceptable run until a control was acceptable again."""

    STANDS = "stands"  # it is judged anew, and released where the rules release it
    AGAIN = "again"  # it stays held: it must be measured again


@record
class Acted:
    """A person documented a corrective action. `about`: the point that was the last one to fail, as they knew."""

    id: str
    at: datetime
    meanwhile: Meanwhile
    about: str


# ---- the machine -----------------------------------------------------------------------------------------------------


@record
class Span:
    """From `begin` on, until the next span begins. `point`: which brought it about, or vouches for it; `action`: the
    person's word that ended a failure."""

    begin: datetime
    state: QcState
    point: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that is not made good. `since`: the last run that vouched before it; `first`, `last`: points."""

    since: datetime | None
    first: str
    first_at: datetime
    last: str
    known_at: datetime
    failed: frozenset[Control]
    left: frozenset[Control]  # of them those that were not acceptable since
    shown: frozenset[int] = frozenset()  # levels that were
    warned: bool = False
    good_at: datetime | None = None  # when all that failed was acceptable again
    good: str = ""
    action: Acted | None = None


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream after the events so far. `spans`: up to where it is good or bad for certain."""

    ok_at: datetime | None = None
    ok: str = ""
    ok_until: datetime | None = None  # the end of a lot that vouched
    warned: bool = False
    run: str = ""
    seen: Mapping[int, Measured] = field(default_factory=dict)  # acceptable ones of the run, by level
    beside: Mapping[str, Mapping[int, Measured]] = field(default_factory=dict)  # the same of runs that were broken off
    failure: Failure | None = None
    ended: tuple[Failure, ...] = ()  # failures that were made good
    spans: tuple[Span, ...] = ()

    @property
    def now(self) -> QcState:
        """Without regard to time: see `History.at`."""
        if self.failure is not None:
            return QcState.FAIL
        if self.ok_at is None:
            return QcState.UNKNOWN
        return QcState.WARN if self.warned else QcState.OK


Event = Measured | Acted


def _of_run(state: StreamState, point: Measured) -> tuple[Mapping[int, Measured], Mapping[str, Mapping[int, Measured]]]:
    """What was acceptable of a point's run; and of the others that it may go on with, the newest of them: two may be
    measured side by side."""
    if point.run == state.run:
        return state.seen, state.beside
    others = {**state.beside, state.run: state.seen} if state.seen else state.beside
    kept = [run for run in others if run != point.run][-MOST_BESIDE:]
    return others.get(point.run, {}), {run: others[run] for run in kept}


def _vouch(state: StreamState, point: Measured) -> StreamState:
    """An acceptable point; when it makes its run whole, the run vouches. One of a lot that had expired says only that
    there is a control, where none vouched before: what did goes on to."""
    if point.expired and state.ok_at is not None:
        return state
    seen, beside = _of_run(state, point)
    seen = {**seen, point.level: point}
    warned = any(one.verdict is QcVerdict.WARN for one in seen.values())
    state = replace(state, run=point.run, seen=seen, beside=beside)
    if not point.whole(seen.keys()):
        if point.verdict is QcVerdict.WARN and state.ok_at is not None and not state.warned:
            return replace(state, warned=True, spans=(*state.spans, Span(point.at, QcState.WARN, point.id)))
        return state
    span = Span(point.at, QcState.WARN if warned else QcState.OK, point.id)
    until = _first(one.usable_until for one in seen.values())
    return replace(state, ok_at=point.at, ok=point.id, ok_until=until, warned=warned, spans=(*state.spans, span))


def _fail(state: StreamState, point: Measured) -> StreamState:
    seen, _ = _of_run(state, point)
    shown = frozenset(level for level, one in seen.items() if not one.expired) - {point.level}
    failed = frozenset({point.control})
    failure = Failure(_good_until(state), point.id, point.at, point.id, point.known_at, failed, failed, shown)
    return replace(state, run=point.run, seen={}, beside={}, failure=failure)


def _good_until(state: StreamState) -> datetime | None:
    """The last run that vouched, or the last failure that was made good: what was said of that one stands."""
    ended = state.ended[-1].good_at if state.ended else None
    return max((at for at in (state.ok_at, ended) if at is not None), default=None)


def _fail_again(state: StreamState, point: Measured) -> StreamState:
    """Whatever was shown and done before does not count for this one."""
    was = _failure(state)
    failed = was.failed | {point.control}
    shown = was.shown - {level for level, _ in failed}
    known_at = max(was.known_at, point.known_at)
    failure = replace(
        was, last=point.id, known_at=known_at, failed=failed, left=failed, shown=shown, good_at=None, good="",
        action=None, warned=False,
    )  # fmt: skip
    return replace(state, run=point.run, seen={}, beside={}, failure=failure)


def _show(state: StreamState, point: Measured) -> StreamState:
    """What failed may be acceptable again. A lot that had expired shows nothing (42 CFR 493.1252(d))."""
    if point.expired:
        return state
    was = _failure(state)
    shown, warned = was.shown | {point.level}, was.warned or point.verdict is QcVerdict.WARN
    good_at, good = was.good_at, was.good
    left = frozenset(one for one in was.left if not point.shows(one))
    if good_at is None and not left:
        good_at, good = point.at, point.id
    failure = replace(was, left=left, shown=shown, warned=warned, good_at=good_at, good=good)
    seen, beside = _of_run(state, point)
    seen = {**seen, point.level: point}
    return _mended(replace(state, run=point.run, seen=seen, beside=beside, failure=failure), point)


def _act(state: StreamState, action: Acted) -> StreamState:
    """What was said before all of the failure was known is about something else."""
    was = _failure(state)
    if action.about != was.last or action.at < was.known_at:
        return state
    last = max(state.seen.values(), key=lambda one: one.at, default=None)
    return _mended(replace(state, failure=replace(was, action=action)), last)


def _mended(state: StreamState, point: Measured | None) -> StreamState:
    """Out of control until both are there: acceptable points, and what was done. In which order does not matter."""
    was = _failure(state)
    if was.action is None or was.good_at is None or point is None:
        return state
    stands = was.action.meanwhile is Meanwhile.STANDS
    spans = _before(state.spans, was)
    if was.since is None or state.ok_at is None:
        # Nobody vouched for anything before: what stands by a person's word alone is for a person to release.
        begun = Span(was.since or BEGIN, QcState.UNKNOWN if stands else QcState.FAIL, was.good, was.action.id)
    else:
        begun = Span(was.since, QcState.OK if stands else QcState.FAIL, was.good if stands else was.last, was.action.id)
    whole = point.whole(was.shown)
    mended = replace(state, failure=None, ended=(*state.ended, was), warned=was.warned, spans=(*spans, begun))
    if whole:
        until = _first(one.usable_until for one in state.seen.values())
        mended = replace(mended, ok_at=was.good_at, ok=was.good, ok_until=until)
    span = Span(was.good_at, mended.now, was.good, was.action.id)
    return replace(mended, spans=(*mended.spans, span))


def _before(spans: Iterable[Span], failure: Failure) -> tuple[Span, ...]:
    """What is good or bad for certain, whatever becomes of the failure."""
    return tuple(span for span in spans if failure.since is not None and span.begin < failure.since)


def _failure(state: StreamState) -> Failure:
    assert state.failure is not None  # noqa: S101 - the table leads here only then
    return state.failure


def _first(ends: Iterable[datetime | None]) -> datetime | None:
    return min((end for end in ends if end is not None), default=None)


class What(StrEnum):
    """What an event is to a stream."""

    ACCEPTABLE = "acceptable"
    REJECTED = "rejected"
    ACTION = "action"
    NOTHING = "nothing"  # not judged, or excluded: it counts nowhere


# In control or not known | failed.
_TABLE: Mapping[tuple[bool, What], Callable[[StreamState, Any], StreamState]] = {
    (False, What.ACCEPTABLE): _vouch,
    (False, What.REJECTED): _fail,
    (True, What.ACCEPTABLE): _show,
    (True, What.REJECTED): _fail_again,
    (True, What.ACTION): _act,
}
_WHAT = {
    QcVerdict.ACCEPT: What.ACCEPTABLE,
    QcVerdict.WARN: What.ACCEPTABLE,
    QcVerdict.REJECT: What.REJECTED,
    QcVerdict.UNKNOWN: What.NOTHING,
}


def what(event: Event) -> What:
    """An excluded point vouches for nothing. That it was rejected still holds: excluding opens no gate."""
    if isinstance(event, Acted):
        return What.ACTION
    found = _WHAT[event.verdict]
    return What.NOTHING if event.excluded and found is What.ACCEPTABLE else found


def passed(point: Measured) -> bool:
    """Whether it was acceptable, whatever it counts now."""
    return _WHAT[point.verdict] is What.ACCEPTABLE


def step(state: StreamState, event: Event) -> StreamState:
    """The stream after one more event. Events of no meaning for the state leave it as it is."""
    found = _TABLE.get((state.failure is not None, what(event)))
    return state if found is None else found(state, event)


def fold(points: Iterable[Measured], actions: Iterable[Acted] = ()) -> StreamState:
    """The stream after all events: points by the time of their measurement, actions by when they were documented; of
    the same instant points first, then by id. An instrument's clock may be ahead of ours: an action is after its point.
    """
    state = StreamState()
    for event in _in_order(points, actions):
        state = step(state, event)
    return state


def _in_order(points: Iterable[Measured], actions: Iterable[Acted]) -> list[Event]:
    known = {point.id: point for point in points}

    def place(event: Event) -> tuple[datetime, bool, str]:
        if isinstance(event, Measured):
            return event.at, False, event.id
        about = known.get(event.about)
        return max(event.at, about.at) if about else event.at, True, event.id

    events: list[Event] = [*known.values(), *actions]
    return sorted(events, key=place)


@record
class Unvouched:
    """A time for which a control vouched that vouches no more, and nothing else did. `point`: the first such control;
    `until`: the first run that vouches after it."""

    point: str
    since: datetime
    until: datetime | None = None


def unvouched(
    points: Sequence[Measured], actions: Iterable[Acted], plan: Plan, wrong: Collection[str]
) -> list[Unvouched]:
    """For what the points `wrong`, which count no more, were all that vouched: a run was whole with them, and none is
    without. It begins where the run before them expires by itself: they hid that. What is measured in a failure, and
    before it, is looked at because of that."""
    found: list[Unvouched] = []
    state, was = StreamState(), StreamState()  # as it is, and had they counted
    first: Measured | None = None  # of them, since something else vouched
    open_: Unvouched | None = None
    for event in _in_order(points, actions):
        before, then = state.ok, was.ok
        state = step(state, event)
        if isinstance(event, Measured) and event.id in wrong:
            first = first or event
            was = step(was, replace(event, excluded=False))
        else:
            was = step(was, event)
        if state.failure is not None:
            open_ = first = None
        elif state.ok != before and state.ok_at is not None:
            if open_ is not None and open_.since < state.ok_at:
                found.append(replace(open_, until=state.ok_at))
            open_ = first = None
        elif was.ok != then and first is not None and open_ is None:
            ends = (plan.expires(state.ok_at), state.ok_until) if state.ok_at is not None else (event.at,)
            if (since := _first(ends)) is not None:
                open_ = Unvouched(first.id, since)
    return found if open_ is None else [*found, open_]


# ---- the state at a time ---------------------------------------------------------------------------------------------


@record
class At:
    """What the controls say of a time, and which span says so. `action`: a person's word that made good what had
    failed; `silent`: no control says anything of it, so none holds it."""

    state: QcState
    point: str = ""
    action: str = ""
    silent: bool = False

    @property
    def opens(self) -> bool:
        """Whether what was held because of the controls is held for them no more."""
        return self.state in IN_CONTROL or (self.state is QcState.UNKNOWN and (bool(self.action) or self.silent))


NOT_KNOWN = At(QcState.UNKNOWN)
SILENT = At(QcState.UNKNOWN, silent=True)


@dataclass(frozen=True, slots=True)
class History:
    """A stream's spans, oldest first, and when the last of them expires if nothing more comes."""

    spans: tuple[Span, ...] = ()
    expires_at: datetime | None = None
    lots: frozenset[str] = frozenset()  # reagents with which a point was acceptable
    alarm: QcState | None = None  # what the patients' own results say
    alarm_since: datetime | None = None
    begins: tuple[datetime, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "begins", tuple(span.begin for span in self.spans))

    def at(self, when: datetime) -> At:
        """The state at a time. Where a later run vouches the state before it has not expired: both sides are good."""
        found = self._controls(when)
        if self.alarm is not None and (self.alarm_since is None or when >= self.alarm_since):
            state = worst((found.state, self.alarm))
            if state is not found.state:
                return At(state)
        return found

    def changes(self) -> tuple[datetime, ...]:
        """The instants from which on another state may be said."""
        others = (self.expires_at, self.alarm_since)
        return (*self.begins, *(at for at in others if at is not None))

    def _controls(self, when: datetime) -> At:
        index = bisect_right(self.begins, when) - 1
        if index < 0:
            return NOT_KNOWN if self.spans else SILENT
        span = self.spans[index]
        # Of what was measured before the last run that vouches nothing is later than this. A warning of a run that is
        # not whole, or a person's word, may be: it vouches for nothing.
        if span.state in IN_CONTROL and self.expires_at is not None and when >= self.expires_at:
            return At(QcState.EXPIRED, span.point)
        return At(span.state, span.point, span.action)


def state_at(history: History, when: datetime) -> QcState:
    return history.at(when).state


def history_of(state: StreamState, plan: Plan, points: Sequence[Measured]) -> History:
    """What the gate keeps of a stream."""
    spans, failure = state.spans, state.failure
    if failure is not None:
        spans = (*_before(spans, failure), Span(failure.since or BEGIN, QcState.FAIL, failure.last))
    if not spans and points:  # controlled, and never in control: not the same as of patients' results alone
        spans = (Span(BEGIN, QcState.UNKNOWN),)
    ends = (plan.expires(state.ok_at), state.ok_until) if state.ok_at is not None else ()
    lots: set[str] = set()
    for one in points:
        if what(one) is What.ACCEPTABLE:
            lots.add(one.reagent_lot)
        elif what(one) is What.REJECTED:  # another lot that is in control says nothing of this one
            lots.discard(one.reagent_lot)
    return History(_kept(spans), _first(ends), frozenset(lots - {""}))


def remembered_since(spans: Sequence[Span], now: datetime) -> datetime | None:
    """Since when points are needed for what may still be asked of failures and what was said of them; None: of none. A
    failure may begin where the one before it ended."""
    oldest = _oldest(spans, now)
    first = next((n for n in range(oldest, len(spans)) if not _mere_run(spans[n])), None)
    if first is None:
        return None
    while first > 0 and not _mere_run(spans[first - 1]):
        first -= 1
    return spans[first].begin


def _kept(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The newest, each. Of those before them an acceptable run after another says nothing more; what failed, and what
    ended it, is kept as long as something that was measured then may come."""
    older, newest = spans[:-MOST_SPANS], spans[-MOST_SPANS:]
    if not older:
        return newest
    oldest = _oldest(spans, newest[-1].begin)
    kept = older[oldest : oldest + 1]
    for before, span in pairwise(older[oldest:]):
        if not (_mere_run(before) and _mere_run(span) and before.state is span.state):
            kept = (*kept, span)
    return (*kept, *newest)


def _oldest(spans: Sequence[Span], now: datetime) -> int:
    """The index of the span that says of the oldest measurement that may come still."""
    return max(bisect_right([span.begin for span in spans], now - CLOCK_BEHIND - CLOCK_AHEAD) - 1, 0)


def _mere_run(span: Span) -> bool:
    return span.state in IN_CONTROL and not span.action
