"""Two links finish one patient at the same moment: who comes second sees what the first one wrote, in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.driver import registry
from interface.flow import results
from interface.flow.around import surroundings
from interface.flow.context import register
from interface.flow.intake import LinkIntake
from interface.flow.outcome import Surroundings
from interface.flow.results import ResultWorker
from interface.flow.work import Work
from interface.settings import LimitSettings
from interface.store.db import Connection
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent

WAITING = """
select count(*) from pg_sleep(0.01), pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""
BOTH_ORDERS = pytest.mark.parametrize("first", [0, 1])


@dataclass(slots=True)
class Gate:
    """Stops the deciding of one message when it has its locks, until the other waits for them."""

    control_id: str
    locked: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, connection: Connection, works: Sequence[Work]) -> Surroundings:
        at = await surroundings(connection, works)
        if any(work.decoded.control_id == self.control_id for work in works):
            self.locked.set()
            await self.go_on.wait()
        return at


async def second_link(lab: Laboratory) -> Laboratory:
    """Another analyzer of the same laboratory, with a worker of its own."""
    settings = replace(lab.context.settings, id="bench-2")
    async with lab.database.transaction(lab.organization_id) as connection:
        context = await register(connection, lab.organization_id, settings, registry.load("generic_lis2"))
    lab.contexts[context.link_id] = context
    worker = ResultWorker(lab.database, lab.contexts.get, LimitSettings())
    return replace(lab, context=context, intake=LinkIntake(context, lab.journal), worker=worker)


async def waits_for_a_lock(lab: Laboratory) -> None:
    """Until a statement waits for the locks that another transaction has."""
    async with asyncio.timeout(20):
        while not await lab.owner.fetchval(WAITING):  # nothing tells that a statement has begun to wait
            pass


async def at_once(lab: Laboratory, monkeypatch: pytest.MonkeyPatch, messages: Sequence[list[str]], first: int) -> None:
    """Decide both messages, each by its own link and worker: the first has its locks when the second wants them."""
    links = [lab, await second_link(lab)]
    gate = Gate(f"C{first}")
    monkeypatch.setattr(results, "surroundings", gate.read)
    await links[first].send(messages[first])
    working = asyncio.create_task(links[first].worker.work())
    await gate.locked.wait()
    await links[1 - first].send(messages[1 - first])
    other = asyncio.create_task(links[1 - first].worker.work())
    await waits_for_a_lock(lab)
    gate.go_on.set()
    assert list(await asyncio.gather(working, other)) == [1, 1]


@BOTH_ORDERS
async def test_a_delta_between_two_specimens_is_found_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CREA")
        await lab.order("S2", "CREA")
        await lab.owner.execute("update lab.specimen set collected_at = '2026-01-03Z' where barcode = 'S2'")
        messages = [sent("S1", {"CREA": "1.0"}, control="C0"), sent("S2", {"CREA": "2.0"}, control="C1")]
        await at_once(lab, monkeypatch, messages, first)
        decided = {view.barcode: (view.status, view.held) for view in await lab.results()}
        assert decided[("S1", "S2")[first]] == (ResultStatus.FINAL, ())
        assert decided[("S2", "S1")[first]] == (ResultStatus.REGISTERED, (HoldReason.DELTA,))


@BOTH_ORDERS
async def test_what_is_calculated_of_both_is_calculated_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        messages = [sent("S1", {"NA": "140", "CL": "102"}, control="C0"), sent("S1", {"HCO3": "24"}, control="C1")]
        await at_once(lab, monkeypatch, messages, first)
        gaps = [view for view in await lab.results() if view.test_code == "AGAP"]
        assert [(gap.value, gap.version, gap.status) for gap in gaps] == [("14.0", 1, ResultStatus.FINAL)]


@BOTH_ORDERS
async def test_a_reflex_that_both_ask_for_is_ordered_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "K")
        messages = [sent("S1", {"K": "2.0"}, control="C0"), sent("S1", {"K": "2.1"}, control="C1")]
        await at_once(lab, monkeypatch, messages, first)
        ordered = await lab.owner.fetch(
            "select t.code from lab.order_item i join lab.test t on t.id = i.test_id order by 1"
        )
        assert [row["code"] for row in ordered] == ["K", "MG"]
        assert sorted(view.reportable for view in await lab.results()) == [False, True]
