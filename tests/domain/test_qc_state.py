"""The state of a stream of quality control, now and at any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from interface.domain.facts import QcState
from interface.domain.qc import QcVerdict
from interface.domain.qc_gate import GateStream, StreamGate
from interface.domain.qc_state import (
    MOST_SPANS,
    Acted,
    History,
    Meanwhile,
    Measured,
    Plan,
    StreamState,
    fold,
    history_of,
    remembered_since,
    step,
)

DAY = datetime(2026, 11, 2, tzinfo=UTC)
OK, WARN, FAIL, EXPIRED, UNKNOWN = QcState.OK, QcState.WARN, QcState.FAIL, QcState.EXPIRED, QcState.UNKNOWN
VERDICTS = {"+": QcVerdict.ACCEPT, "!": QcVerdict.WARN, "-": QcVerdict.REJECT, "?": QcVerdict.UNKNOWN}
PLAN = Plan(interval_minutes=None)
STANDS, AGAIN = Meanwhile.STANDS, Meanwhile.AGAIN


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def point(
    hour: float, said: str, level: int = 1, run: str = "", wanted: tuple[int, ...] = (1,), known: float | None = None,
    lot: str = "", excluded: bool = False, until: datetime | None = None, count: int = 0,
) -> Measured:  # fmt: skip
    """`said`: its verdict by `VERDICTS`. Its id is its time, verdict and level."""
    return Measured(
        f"{hour}{said}{level}", at(hour), at(hour if known is None else known), level, run or str(hour), VERDICTS[said],
        frozenset(wanted), count, excluded, lot, until,
    )  # fmt: skip


def action(hour: float, about: str, meanwhile: Meanwhile = STANDS) -> Acted:
    return Acted(f"act{hour}", at(hour), meanwhile, about)


def history(*events: Measured | Acted, plan: Plan = PLAN) -> History:
    points = [one for one in events if isinstance(one, Measured)]
    return history_of(fold(points, [one for one in events if isinstance(one, Acted)]), plan, points)


TWO = (1, 2)
WHOLE = (point(8, "+", 1, "a", TWO), point(8, "+", 2, "a", TWO))
CASES: dict[str, tuple[list[Measured | Acted], dict[float, QcState]]] = {
    "nothing": ([], {8: UNKNOWN}),
    "acceptable": ([point(8, "+")], {7.9: UNKNOWN, 8: OK, 99: OK}),
    "a warning is acceptable and visible": ([point(8, "!")], {8: WARN}),
    "not judged": ([point(8, "?")], {9: UNKNOWN}),
    "excluded vouches for nothing": ([point(8, "+", excluded=True)], {9: UNKNOWN}),
    "failed: suspect since the last acceptable one": (
        [point(8, "+"), point(12, "-")], {7: UNKNOWN, 8.1: FAIL, 13: FAIL},
    ),
    "what was bracketed before stays good": (
        [point(8, "+"), point(10, "+"), point(12, "-")], {9: OK, 10.1: FAIL, 13: FAIL},
    ),
    "failed at first": ([point(12, "-")], {7: FAIL, 13: FAIL}),
    "failed and excluded": ([point(8, "+"), point(12, "-", excluded=True)], {9: FAIL, 13: FAIL}),
    "a lot that had expired vouches for nothing": ([point(9, "+", until=at(1))], {9.5: EXPIRED}),
    "what failed then is suspect since what vouched before": (
        [point(8, "+"), point(9, "+", until=at(1)), point(10, "-")], {8.5: FAIL, 9.5: FAIL},
    ),
    "nor does it end what vouched before": ([point(8, "+"), point(9, "+", until=at(1))], {9.5: OK}),
    "a lot that had expired makes nothing good": (
        [point(8, "+"), point(12, "-"), point(13, "+", until=at(1)), action(14, "12-1")], {9: FAIL, 15: FAIL},
    ),
    "nor does what it showed before": (
        [point(11, "+", 2, "a", TWO, until=at(1)), point(12, "-", 1, "a", TWO), action(13, "12-1"),
         point(14, "+", 1, "b", TWO)],
        {15: UNKNOWN},
    ),
    "acceptable again, nothing said": ([point(8, "+"), point(12, "-"), point(13, "+")], {9: FAIL, 14: FAIL}),
    "something said, not acceptable again": ([point(8, "+"), point(12, "-"), action(13, "12-1")], {9: FAIL, 14: FAIL}),
    "acceptable again, and it stands": (
        [point(8, "+"), point(12, "-"), point(13, "+"), action(14, "12-1")], {9: OK, 12.5: OK, 13.5: OK, 15: OK},
    ),
    "the other order": (
        [point(8, "+"), point(12, "-"), action(12.5, "12-1"), point(13, "+")], {9: OK, 12.5: OK, 15: OK},
    ),
    "acceptable again, and it is measured again": (
        [point(8, "+"), point(12, "-"), point(13, "+"), action(14, "12-1", AGAIN)],
        {7: UNKNOWN, 8.5: FAIL, 12.5: FAIL, 13: OK, 15: OK},
    ),
    "what was said of an earlier failure": (
        [point(8, "+"), point(12, "-"), action(12.2, "12-1"), point(12.5, "-"), point(13, "+")], {9: FAIL, 14: FAIL},
    ),
    "what was said before it was known": (
        [point(8, "+"), point(12, "-", known=15), point(13, "+"), action(14, "12-1")], {9: FAIL, 14: FAIL},
    ),
    "an instrument whose clock is ahead": (
        [point(8, "+"), point(12.05, "-", known=12), action(12.01, "12.05-1"), point(12.1, "+")], {9: OK, 13: OK},
    ),
    "excluding what failed does not help": (
        [point(8, "+"), point(12, "-", excluded=True), point(13, "+")], {9: FAIL, 14: FAIL},
    ),
    "the level that failed must be acceptable": (
        [*WHOLE, point(12, "-", 1, "b", TWO), point(12, "+", 2, "b", TWO),
         action(13, "12-1")], {9: FAIL, 14: FAIL},
    ),
    "and then is enough": (
        [*WHOLE, point(12, "-", 1, "b", TWO), point(12, "+", 2, "b", TWO),
         action(13, "12-1"), point(13.5, "+", 1, "c", TWO)], {9: OK, 14: OK},
    ),
    "every level that failed": (
        [*WHOLE, point(12, "-", 1, "b", TWO), point(12.1, "-", 2, "b", TWO),
         action(13, "12.1-2"), point(13.5, "+", 2, "c", TWO)], {9: FAIL, 14: FAIL},
    ),
    "a run that is not whole": ([point(8, "+", 1, "a", TWO)], {9: UNKNOWN}),
    "a run is of one time": ([point(8, "+", 1, "a", TWO), point(12, "+", 2, "b", TWO)], {13: UNKNOWN}),
    "so many levels, whichever": (
        [point(8, "+", 1, "a", (), count=2), point(8.1, "+", 3, "a", (), count=2)], {8.05: UNKNOWN, 9: OK},
    ),
    "a warning before its run is whole": (
        [*WHOLE, point(12, "!", 1, "b", TWO)], {9: OK, 13: WARN},
    ),
    "the first control fails, and what was measured before stands by a person's word alone": (
        [point(12, "-"), point(13, "+"), action(14, "12-1")], {9: UNKNOWN, 15: OK},
    ),
    "two failures, of which only the second stands": (
        [point(8, "+"), point(9, "-"), point(10, "+"), action(11, "9-1", AGAIN), point(12, "-"), point(13, "+"),
         action(14, "12-1")], {8.5: FAIL, 9.5: FAIL, 10.5: OK, 12.5: OK, 15: OK},
    ),
    "of runs that are not whole too": (
        [*WHOLE, point(9, "-", 1, "b", TWO), point(10, "+", 1, "c", TWO),
         action(11, "9-1", AGAIN), point(12, "-", 1, "d", TWO), point(13, "+", 1, "e", TWO), action(14, "12-1")],
        {8.5: FAIL, 9.5: FAIL, 10.5: OK, 12.5: OK, 15: OK},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=list(CASES))
def test_the_state_at_a_time(events: list[Measured | Acted], expected: dict[float, QcState]) -> None:
    """In whatever order it became known."""
    for some in list(permutations(events))[:24]:
        made = history(*some)
        assert {hour: made.at(at(hour)).state for hour in expected} == expected


def test_nothing_but_a_failure_has_to_do_with_actions() -> None:
    state = step(StreamState(), point(8, "+"))
    assert step(state, action(9, "8+1")) is state


def test_what_vouches_is_said_and_what_a_person_made_good() -> None:
    made = history(point(8, "+"), point(12, "-"), point(13, "+"), action(14, "12-1"))
    assert (made.at(at(9)).point, made.at(at(9)).action, made.at(at(9)).opens) == ("13+1", "act14", True)
    first = history(point(12, "-"), point(13, "+"), action(14, "12-1"))
    assert (first.at(at(9)).state, first.at(at(9)).opens) == (UNKNOWN, True)
    late = history(point(12, "+"))  # nobody knows what was before; where there is no control at all none holds it
    assert (late.at(at(9)).state, late.at(at(9)).opens, history().at(at(9)).opens) == (UNKNOWN, False, True)


def test_time_expires_a_state_until_a_later_run_vouches() -> None:
    plan = Plan(interval_minutes=60)
    assert [history(point(8, "+"), plan=plan).at(at(hour)).state for hour in (8.9, 9, 20)] == [OK, EXPIRED, EXPIRED]
    later = history(point(8, "+"), point(12, "+"), plan=plan)
    assert [later.at(at(hour)).state for hour in (10, 12.5, 13)] == [OK, OK, EXPIRED]
    failed = history(point(8, "+"), point(12, "-"), plan=plan)
    assert [failed.at(at(hour)).state for hour in (10, 20)] == [FAIL, FAIL]


def test_a_failure_is_kept_as_long_as_what_was_measured_in_it_may_come() -> None:
    days = 24.0
    begun: list[Measured | Acted] = [
        point(0, "+"),
        point(8, "+"),
        point(10, "-"),
        point(11, "+"),
        action(11.5, "10-1", AGAIN),
    ]
    runs = [point(12 + hour, "+") for hour in range(89 * 24)]
    of = history(*begun, *runs)
    assert [of.at(at(hour)).state for hour in (1, 7.9, 8, 10.5, 11, 11.5, 500, 2000)] == [
        OK,
        OK,
        *[FAIL] * 2,
        *[OK] * 4,
    ]
    assert of.at(at(10.5)).action and len(of.spans) == MOST_SPANS + 4
    later = history(*begun, *runs, *(point(89 * days + hour, "+") for hour in range(12, 72)))
    assert [later.at(at(hour)).state for hour in (10.5, 500)] == [UNKNOWN, OK] and len(later.spans) == MOST_SPANS + 1


def test_points_are_wanted_since_the_oldest_failure_that_may_be_asked_of() -> None:
    twice: list[Measured | Acted] = [
        point(8, "+"), point(10, "-"), point(11, "+"), action(11.5, "10-1", AGAIN),
        point(12, "-"), point(13, "+"), action(13.5, "12-1"), *(point(14 + hour, "+") for hour in range(100)),
    ]  # fmt: skip
    spans = history(*twice).spans
    assert remembered_since(spans, at(200)) == at(8)
    assert remembered_since(spans, at(12 + 90 * 24)) == at(8), "where one ended the next began"
    assert remembered_since(spans, at(15 + 90 * 24)) is None
    assert remembered_since((), at(8)) is None


def test_the_first_patient_of_a_day_comes_after_a_control_of_that_day() -> None:
    made = history(point(8, "+"), plan=Plan(interval_minutes=None, before_first=True, timezone="Asia/Jakarta"))
    assert [made.at(at(hour)).state for hour in (16.9, 17.1)] == [OK, EXPIRED]  # midnight there is 17:00 UTC


def test_a_lot_that_ends_vouches_no_more() -> None:
    made = history(point(8, "+", until=at(10)), plan=PLAN)
    assert [made.at(at(hour)).state for hour in (9.9, 10)] == [OK, EXPIRED]


def test_the_patients_own_results_can_only_make_it_worse() -> None:
    good = history(point(8, "+"))
    for alarm, expected in ((WARN, [OK, WARN]), (FAIL, [OK, FAIL])):
        made = History(good.spans, alarm=alarm, alarm_since=at(10))
        assert [made.at(at(hour)).state for hour in (9, 10)] == expected
    bad = history(point(8, "-"))
    assert History(bad.spans, alarm=WARN, alarm_since=at(9)).at(at(10)).state is FAIL


GOOD, BAD = history(point(8, "+", lot="A")), history(point(8, "-"))
ALARM = History(alarm=FAIL, alarm_since=at(9))


@pytest.mark.parametrize(
    ("streams", "module", "lot", "expected"),
    [
        ({"": GOOD}, "", "", OK),
        ({"": GOOD}, "1", "", UNKNOWN),  # nobody controlled that module
        ({"1": GOOD, "2": BAD}, "1", "", OK),
        ({"1": GOOD, "2": BAD}, "2", "", FAIL),
        ({"1": GOOD, "2": BAD}, "3", "", UNKNOWN),
        ({"1": GOOD, "2": BAD}, "", "", FAIL),  # it may have been that one
        ({"1": GOOD, "2": History()}, "", "", OK),
        ({"1": GOOD, "": BAD}, "1", "", FAIL),
        ({"": GOOD}, "", "A", OK),
        ({"": GOOD}, "", "B", UNKNOWN),
        ({"": BAD}, "", "B", FAIL),
        ({"1": GOOD, "": ALARM}, "1", "A", FAIL),
        ({"1": GOOD, "": History(alarm=WARN)}, "1", "A", OK),
    ],
)
def test_who_speaks_of_a_result(streams: dict[str, History], module: str, lot: str, expected: QcState) -> None:
    gate = StreamGate({("xn", "NA"): [GateStream(name, one, "all 1") for name, one in streams.items()]})
    assert gate.state("xn", "NA", at(10), module, lot) is expected
    assert gate.state("xn", "K", at(10)) is gate.state("other", "NA", at(10)) is gate.state("xn", "NA", None) is UNKNOWN


def test_the_same_words_are_one_object() -> None:
    """What is said of thousands of results is put into words once."""
    gate = StreamGate({("xn", "NA"): [GateStream("", GOOD, "xn NA 2")]})
    said = gate.says("xn", "NA", at(10))
    assert said is gate.says("xn", "NA", at(11)) and said.step is not None
    assert (said.step.version, said.step.inputs) == ("xn NA 2", {"state": "ok", "point": "8+1"})


def test_of_two_modules_that_are_unknown_one_that_opens_nothing_counts() -> None:
    """A person's word ended the failure of the one; of the other nothing vouched at that time, and nobody said so."""
    opened = history(point(9, "-"), action(10, "9-1"), point(11, "+"))
    never = history(point(10, "+"))
    assert (opened.at(at(8)).opens, never.at(at(8)).opens) == (True, False)
    for streams in ([opened, never], [never, opened]):
        gate = StreamGate({("xn", "NA"): [GateStream(str(n), one, "all 1") for n, one in enumerate(streams)]})
        said = gate.says("xn", "NA", at(8))
        assert (said.state, said.opens) == (UNKNOWN, False)
