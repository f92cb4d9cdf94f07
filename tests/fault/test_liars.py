"""Planted before the harness: daemons that do not keep the promise. It finds them out, or it would find nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.disk import obstacle
from tests.fault.loop import Outcome, run
from tests.fault.rig import Fault, Where
from tests.fault.test_loop import SEED

pytestmark = pytest.mark.timeout(300)  # whole daemons


def lost(outcome: Outcome) -> bool:
    return any(one.kind == "lost" for _, one in outcome.findings)


async def caught(lie: str, fault: Fault, state: Path) -> None:
    outcome = await run(Where.EMBEDDED, [fault] * 4, SEED, lie=lie, state=state, enough=lost)
    print(outcome)
    assert lost(outcome), f"{lie} was not found out: {outcome}"


async def test_who_acknowledges_before_the_commit_is_found_out(started_once: Path) -> None:
    await caught("hasty", Fault.KILL, started_once)


@pytest.mark.skipif(obstacle() is not None, reason=f"no power can be cut: {obstacle()}")
async def test_who_commits_without_waiting_for_the_disk_is_found_out(started_once: Path) -> None:
    await caught("lazy", Fault.POWER_CUT, started_once)
