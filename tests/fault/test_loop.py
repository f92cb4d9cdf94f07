"""The daemon and its database broken under load, and everything acknowledged looked for after each break: F1 to F5 in
their short form, and as often as PERFORMANCE's soak column has them (`scripts/test --long`, or `scripts/soak`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fault.disk import obstacle
from tests.fault.loop import Outcome, run
from tests.fault.rig import Fault, Where

pytestmark = pytest.mark.timeout(300)  # whole daemons
SEED = int(os.environ.get("LABORA_FAULT_SEED", "20261126"))
LONG = {  # cycles; LABORA_SOAK_CYCLES has as many of each
    Fault.KILL: 1000, Fault.POWER_CUT: 300, Fault.PG_KILL: 100, Fault.PG_RESTART: 60, Fault.PG_SESSIONS: 40,
    Fault.PG_FREEZE: 20, Fault.PG_LOCK: 20, Fault.TERM: 40, Fault.RELOAD: 20,
}  # fmt: skip
BATCH = 25


def sound(outcome: Outcome, faults: Sequence[Fault]) -> None:
    print(outcome)
    assert not outcome.findings and outcome.damaged is None, str(outcome)
    assert outcome.cycles.total() == len(faults)
    assert outcome.acknowledged.total() > len(faults), "there was hardly any load"


async def test_processes_of_the_daemon_and_of_its_own_database_are_ended_in_every_way(started_once: Path) -> None:
    faults = (Fault.KILL, Fault.PG_KILL, Fault.TERM, Fault.PG_RESTART, Fault.RELOAD, Fault.PG_SESSIONS)
    sound(await run(Where.EMBEDDED, faults, SEED, state=started_once), faults)


async def test_a_server_that_the_daemon_finds_is_ended_frozen_and_locked() -> None:
    faults = (Fault.PG_KILL, Fault.PG_FREEZE, Fault.PG_RESTART, Fault.PG_LOCK, Fault.PG_SESSIONS)
    sound(await run(Where.EXTERNAL, faults, SEED), faults)


@pytest.mark.skipif(obstacle() is not None, reason=f"no power can be cut: {obstacle()}")
@pytest.mark.parametrize("where", Where)
async def test_the_power_is_cut(where: Where, started_once: Path) -> None:
    faults = (Fault.POWER_CUT, Fault.POWER_CUT)
    state = started_once if where is Where.EMBEDDED else None
    sound(await run(where, faults, SEED, state=state), faults)


@pytest.mark.long
@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize("where", Where)
@pytest.mark.parametrize("fault", Fault)
async def test_one_fault_as_often_as_it_takes(fault: Fault, where: Where) -> None:
    if fault is Fault.POWER_CUT and (why := obstacle()):
        pytest.skip(f"no power can be cut: {why}")
    left, seed = int(os.environ.get("LABORA_SOAK_CYCLES", LONG[fault])), SEED
    while left > 0:
        faults = [fault] * min(BATCH, left)
        sound(await run(where, faults, seed), faults)
        left, seed = left - BATCH, seed + 1
