"""The state of a stream at any time, on random streams, against the model that knows whole episodes only.

Where another run's points stand between those of a run, as late ones do, it may be worse than the model says, never
better.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.facts import QcState
from interface.domain.qc import QcVerdict
from interface.domain.qc_state import Acted, Meanwhile, Measured, Plan, fold, history_of
from tests.domain.qc_model import model

BEGIN = datetime(2026, 1, 5, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VERDICTS = (QcVerdict.ACCEPT, QcVerdict.WARN, QcVerdict.REJECT, QcVerdict.UNKNOWN)
STREAMS, ALL_STREAMS = 1_500, 60_000


def _stream(chance: random.Random) -> tuple[list[Measured], list[Acted]]:
    """Points with their runs as they are formed, some of them late, and what persons did about failures."""
    levels = chance.choice([1, 2, 3])
    wanted = frozenset(range(1, levels + 1))
    points: list[Measured] = []
    actions: list[Acted] = []
    minute, run, used = 0, 0, set[int]()
    for n in range(chance.randint(3, 25)):
        minute += chance.randint(1, 30)
        late = chance.random() < 0.08
        if late or chance.random() < 0.3 or used == wanted:
            run, used = run + 1, set()
        level = chance.choice(sorted(wanted - used))
        used.add(level)
        at = BEGIN + MINUTE * (max(0, minute - chance.randint(1, 80)) if late else minute)
        (verdict,) = chance.choices(VERDICTS, [6, 1, 2, 0.5])
        points.append(
            Measured(
                f"p{n:02}", at, BEGIN + MINUTE * minute, level, f"r{run}", verdict, wanted,
                excluded=chance.random() < 0.1,
            )
        )  # fmt: skip
        if late:
            run, used = run + 1, set()
        rejected = [one for one in points if one.verdict is QcVerdict.REJECT]
        if rejected and chance.random() < 0.35:
            last = max(rejected, key=lambda one: (one.at, one.id))
            about = last if chance.random() < 0.8 else chance.choice(rejected)
            when = BEGIN + MINUTE * minute + timedelta(seconds=1)
            actions.append(Acted(f"a{n:02}", when, chance.choice(list(Meanwhile)), about.id))
    return points, actions


def _interleaved(points: Sequence[Measured]) -> bool:
    """Whether a run goes on after a point of another one."""
    runs = [one.run for one in sorted(points, key=lambda one: (one.at, one.id))]
    changes = [run for n, run in enumerate(runs) if n == 0 or runs[n - 1] != run]
    return len(changes) > len(set(changes))


def _as_known(state: QcState) -> QcState:
    return QcState.OK if state is QcState.WARN else state


@pytest.mark.parametrize("count", [STREAMS, pytest.param(ALL_STREAMS, marks=pytest.mark.long)])
def test_the_state_at_any_time_is_what_the_episodes_say(count: int) -> None:
    plan = Plan(interval_minutes=None)
    seen, interleaved = {state: 0 for state in QcState}, 0
    for seed in range(count):
        points, actions = _stream(random.Random(seed))  # noqa: S311
        state, expected = fold(points, actions), model(points, actions)
        history = history_of(state, plan, points)
        times = [one.at + MINUTE * shift for one in points for shift in (-0.5, 0, 0.5)]
        interleaved += _interleaved(points)
        pairs = [(_as_known(history.at(at).state), expected.at(at), at) for at in times]
        pairs.append((_as_known(state.now), expected.now(), BEGIN))
        for said, wanted, at in pairs:
            seen[wanted] += 1
            assert said is wanted, f"stream {seed}: {said} at {at}, and it is {wanted}"
    assert interleaved > count // 10, "runs side by side are what is looked at too"
    assert min(seen[state] for state in (QcState.OK, QcState.FAIL, QcState.UNKNOWN)) > count, seen
