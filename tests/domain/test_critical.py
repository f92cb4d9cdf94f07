"""Who must be told what of a critical result: every case typed out, beside the function that decides it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest

from interface.domain.critical import Action, Claim, level, plan

ONE, TWO = UUID(int=1), UUID(int=2)
HIGH = Claim(ONE, True, "7.0 mmol/L", ("HH",))
HIGHER = Claim(ONE, True, "7.5 mmol/L", ("HH",))
LOW = Claim(ONE, True, "1.9 mmol/L", ("LL",))
NORMAL = Claim(ONE, False, "4.1 mmol/L", ("N",))
OTHER_HIGH = Claim(TWO, True, "7.1 mmol/L", ("HH",))
OTHER_LOW = Claim(TWO, True, "2.0 mmol/L", ("LL",))
OTHER_NORMAL = Claim(TWO, False, "4.2 mmol/L", ("N",))

CASES = [
    # now, told, live, seen → what follows
    ("the first critical value", HIGH, None, None, False, Action.OPEN),
    ("a first value that is not", NORMAL, None, None, False, Action.NOTHING),
    ("the same version once more", HIGH, None, HIGH, False, Action.KEEP),
    ("the same, told", HIGH, HIGH, None, False, Action.NOTHING),
    ("the same, told and not read back", HIGH, HIGH, HIGH, True, Action.KEEP),
    ("another critical value before anybody was told", HIGHER, None, HIGH, False, Action.AIM),
    ("another critical value after somebody was told", HIGHER, HIGH, None, False, Action.OPEN),
    ("the other side of the limits", LOW, HIGH, None, False, Action.OPEN),
    ("told and not read back, then another value", HIGHER, HIGH, HIGH, True, Action.AIM),
    ("no longer critical, nobody told, nobody saw it", NORMAL, None, HIGH, False, Action.WITHDRAW),
    ("no longer critical, nobody told, it was seen", NORMAL, None, HIGH, True, Action.AIM),
    ("no longer critical, and somebody was told", NORMAL, HIGH, None, False, Action.OPEN),
    ("no longer critical, told, not read back", NORMAL, HIGH, HIGH, False, Action.AIM),
    ("no longer critical, told already", NORMAL, NORMAL, None, False, Action.NOTHING),
    ("another value, not critical either, is being told", NORMAL, HIGH, NORMAL, True, Action.KEEP),
    ("critical again while it is told that it is not", HIGH, HIGH, NORMAL, True, Action.AIM),
    ("critical again after it was told that it is not", HIGH, NORMAL, None, False, Action.OPEN),
    ("a change that is refused: what was told stands", HIGH, HIGH, HIGHER, False, Action.WITHDRAW),
    ("a change that was seen is taken back to what was told", HIGH, HIGH, HIGHER, True, Action.AIM),
    ("a repeat that confirms, before the call", OTHER_HIGH, None, HIGH, True, Action.AIM),
    ("a repeat that confirms, after the call", OTHER_HIGH, HIGH, None, False, Action.NOTHING),
    ("a repeat that confirms, while it is read back", OTHER_HIGH, HIGH, HIGH, False, Action.KEEP),
    ("a repeat that says the opposite", OTHER_LOW, HIGH, None, False, Action.OPEN),
    ("a repeat that is normal does not speak of the first run", OTHER_NORMAL, None, HIGH, True, Action.KEEP),
    ("nor after the call", OTHER_NORMAL, HIGH, None, False, Action.NOTHING),
    ("the first run is rejected, the repeat is critical", NORMAL, None, OTHER_HIGH, True, Action.KEEP),
    ("the first run, which was told, is retracted", NORMAL, HIGH, None, False, Action.OPEN),
    ("the repeat of a run that was retracted is critical", OTHER_HIGH, HIGH, NORMAL, True, Action.AIM),
]


@pytest.mark.parametrize(("name", "now", "told", "live", "seen", "action"), CASES, ids=[case[0] for case in CASES])
def test_what_follows(
    name: str, now: Claim, told: Claim | None, live: Claim | None, seen: bool, action: Action
) -> None:
    assert plan(now, told, live, seen, settled=True) is action


# What waits for somebody to look at it: held, or nobody has released it yet.
HELD = [
    ("the first critical value", HIGH, None, None, False, Action.OPEN),
    ("a first value that is not", NORMAL, None, None, False, Action.NOTHING),
    ("a value that is not, nobody told, nobody saw the one before", NORMAL, None, HIGH, False, Action.KEEP),
    ("a value that is not, nobody told, the one before was seen", NORMAL, None, HIGH, True, Action.KEEP),
    ("a value that is not, after somebody was told", NORMAL, HIGH, None, False, Action.NOTHING),
    ("a value that is not, told and not read back", NORMAL, HIGH, HIGH, True, Action.KEEP),
    ("a value that is not, while it is told that it is not", NORMAL, HIGH, NORMAL, True, Action.KEEP),
    ("another critical value before anybody was told", HIGHER, None, HIGH, False, Action.AIM),
    ("another critical value after somebody was told", HIGHER, HIGH, None, False, Action.OPEN),
    ("the other side of the limits", LOW, HIGH, None, False, Action.OPEN),
    ("the value that was told, while another one is to be told", HIGH, HIGH, HIGHER, False, Action.AIM),
    ("critical again while it is told that it is not", HIGH, HIGH, NORMAL, True, Action.AIM),
    ("a rerun that is normal, before the call", OTHER_NORMAL, None, HIGH, False, Action.KEEP),
    ("a rerun that is normal, after the call", OTHER_NORMAL, HIGH, None, False, Action.NOTHING),
    ("a rerun that confirms, before the call", OTHER_HIGH, None, HIGH, True, Action.AIM),
    ("a rerun that confirms, after the call", OTHER_HIGH, HIGH, None, False, Action.NOTHING),
    ("a rerun that says the opposite", OTHER_LOW, HIGH, None, False, Action.OPEN),
]


@pytest.mark.parametrize(("name", "now", "told", "live", "seen", "action"), HELD, ids=[case[0] for case in HELD])
def test_what_waits_only_adds(
    name: str, now: Claim, told: Claim | None, live: Claim | None, seen: bool, action: Action
) -> None:
    assert plan(now, told, live, seen, settled=False) is action


CLAIMS = (HIGH, HIGHER, LOW, NORMAL, OTHER_HIGH, OTHER_LOW, OTHER_NORMAL)


def test_nobody_is_left_with_what_is_not_so() -> None:
    """Over all combinations: who was told that a result is critical, or something else of it, is told again."""
    for now, told, live, seen in product(CLAIMS, (None, *CLAIMS), (None, *CLAIMS), (False, True)):
        action = plan(now, told, live, seen, settled=True)
        case = (now, told, live, seen)
        open_after = action in (Action.OPEN, Action.KEEP, Action.AIM)
        assert (action is Action.OPEN) <= (live is None), case
        assert (action in (Action.KEEP, Action.AIM, Action.WITHDRAW)) <= (live is not None), case
        if now.critical and (told is None or not told.critical or told.flags != now.flags):
            assert open_after, case
        if now.critical and told is not None and told.result_id == now.result_id and told.value != now.value:
            assert open_after, case
        if not now.critical and told is not None and told.critical and told.result_id == now.result_id:
            assert open_after, case
        if seen and live is not None:
            assert open_after, case
        if action is Action.KEEP and now.critical:
            assert live in (now, told), case
        assert action is not Action.WITHDRAW or live != told, case


def test_what_waits_takes_no_call_back_and_says_of_none_that_it_is_over() -> None:
    for now, told, live, seen in product(CLAIMS, (None, *CLAIMS), (None, *CLAIMS), (False, True)):
        action = plan(now, told, live, seen, settled=False)
        case = (now, told, live, seen)
        assert action is not Action.WITHDRAW, case
        assert now.critical or action in (Action.KEEP, Action.NOTHING), case
        if now.critical and (told is None or not told.critical or told.flags != now.flags):
            assert action in (Action.OPEN, Action.KEEP, Action.AIM), case


def test_the_level_counts_the_times_that_have_passed() -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    times = [at, at + timedelta(minutes=15), at + timedelta(minutes=45)]
    assert [level(times, at + timedelta(minutes=minutes)) for minutes in (-1, 0, 14, 15, 44, 45, 999)] == [
        0, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
