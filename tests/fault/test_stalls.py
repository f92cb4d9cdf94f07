"""F4: the database stands still, or one table of it. The short form looks at what was lost and at the answers; that
nobody waits too long is looked at by the long one, whose times are those of `scripts/soak F4`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.e2e import standby
from tests.fault import rig, stall
from tests.fault.plan import COUNTED
from tests.fault.rig import Fault
from tests.fault.test_loop import SEED

STALLS = int(os.environ.get("LABORA_SOAK_CYCLES", "40"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An analyzer tries for longer than the longest of them lasts."""
    for module in (standby, rig):
        monkeypatch.setattr(module, "PATIENCE_S", stall.PATIENCE_S)


@pytest.mark.timeout(300)  # whole daemons
async def test_while_the_database_or_a_table_stands_still_reads_end_and_nothing_is_lost() -> None:
    """For longer than an append may wait, so that analyzers are told no."""
    done, findings = await stall.stalls(SEED, [(Fault.PG_LOCK, 1.5), (Fault.PG_FREEZE, 2.0)], commit_wait_s=1.0)
    assert findings == []
    assert all(one.statuses <= {200, 503, 504} for one in done), done


@pytest.mark.long
@pytest.mark.timeout(8 * 3600)
async def test_nobody_waits_long_however_long_it_stands_still(record_property: Callable[[str, object], None]) -> None:
    lengths = stall.lengths(random.Random(SEED), STALLS)  # noqa: S311
    chosen = [(Fault.PG_LOCK if number % 2 else Fault.PG_FREEZE, seconds) for number, seconds in enumerate(lengths)]
    done, findings = await stall.stalls(SEED, chosen)
    record_property(COUNTED, len(done))
    assert findings == []
    assert [text for one in done for text in one.wrong()] == []
