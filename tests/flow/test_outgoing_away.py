"""What a link has to say is not forgotten, and results beside a query keep their turn, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

import pytest

from interface.driver.dialogue import Answer
from interface.errors import StoreUnavailable
from interface.flow import order_changes
from interface.flow.blocks import BlockJournal
from interface.flow.frames import Hl7Transmission
from interface.link.intake import ReceivedBlock, ReceivedFrame
from interface.store import dispatch
from interface.wire.frames import build_frame, parse_frame
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.flow.test_outgoing import line, orders


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_lis2") as made:
        yield made


async def away(*_: object) -> None:
    raise StoreUnavailable("the database is away")


async def test_an_answer_waits_while_the_database_is_away(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await lab.order("S-2", "GLU", patient_id="P-2")
        await at.ask("S-1", "S-2")
        assert [one[0] for one in orders(await at.deliver())] == ["S-1"]
        with monkeypatch.context() as broken:
            broken.setattr(dispatch, "lock", away)
            with pytest.raises(StoreUnavailable):
                await at.out.take()
        assert [one[0] for one in orders(await at.take())] == ["S-2"]


async def test_so_does_one_that_met_contention(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await at.ask("S-1")
        first = await at.fail("contention")
        with monkeypatch.context() as broken:
            broken.setattr(dispatch, "lock", away)
            with pytest.raises(StoreUnavailable):
                await at.out.take()
        assert await at.take() == first


OLD, NEW = "R|1|^^^2345-7|5.1|mmol/L||N||F", "R|1|^^^2345-7|7.9|mmol/L||N||F"


async def test_results_beside_a_query_are_decided_before_what_comes_after_them(lab: Laboratory) -> None:
    """The query alone is left to who answers it (`QUERY_HELD_S`)."""
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await lab.order("S-2", "GLU", patient_id="P-2")
        await at.ask("S-1", more=("P|1", "O|1|S-2||^^^2345-7", OLD))
        await lab.settle()
        assert await lab.owner.fetchval("select count(*) from lab.result") == 1
        assert [one[0] for one in orders(await at.deliver())] == ["S-1"]
        await lab.send(message("P|1", "O|1|S-2||^^^2345-7", NEW))
        await lab.settle()
        rows = await lab.owner.fetch("select raw_value from lab.result_version order by id")
        assert [row["raw_value"] for row in rows] == ["5.1", "7.9"]
        assert await lab.owner.fetchval("select count(*) from lab.queue") == 0


async def test_a_query_of_hl7_in_frames_is_left_to_who_answers_it(database_url: str) -> None:
    """Its RCP is no result."""
    asked = b"MSH|^~\\&|GX|LAB|||20260102030405||QBP^Z03|Q1|P|2.5\rQPD|Z03^HOST QUERY|T1|S-1\rRCP|I\r"
    async with laboratory(database_url, "cepheid_genexpert_hl7") as lab:
        transmission = Hl7Transmission(lab.context, lab.journal, "", lambda: datetime.now(UTC), lambda *_: None)
        raw = build_frame(1, asked, True)
        fn, body, last = parse_frame(raw)
        await transmission.frame(ReceivedFrame(fn, raw, body, last))
        await transmission.end("eot")
        assert await lab.owner.fetchval("select not_before > now() + interval '1 minute' from lab.queue")


@pytest.mark.parametrize("beside", ["", "P|1\rO|1|S-2||^^^2345-7\r" + OLD + "\r"], ids=["alone", "beside-results"])
async def test_a_query_in_a_block_is_left_to_who_answers_it_where_it_reports_nothing(
    lab: Laboratory, beside: str
) -> None:
    told: list[UUID] = []
    text = f"H|\\^&|||Testmaker\rQ|1|^S-1||ALL\r{beside}L|1|N\r".encode()
    blocks = BlockJournal(lab.context, lab.journal, "", lambda: datetime.now(UTC), lambda id, _: told.append(id))
    receipt = await blocks.block(ReceivedBlock(text, 0, len(text)))
    waits = await lab.owner.fetchval("select not_before > now() + interval '1 minute' from lab.queue")
    assert (waits, told) == (not beside, [receipt.message_id])


async def test_a_fault_of_ours_with_one_answer_keeps_no_other(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("ours")

    async with line(lab) as at:
        for number in (1, 2, 3):
            await lab.order(f"S-{number}", "GLU", patient_id=f"P-{number}")
        await at.ask("S-1", "S-2", "S-3")
        await at.deliver()
        with monkeypatch.context() as fault:
            fault.setattr(dispatch, "lock", broken)
            with pytest.raises(RuntimeError):
                await at.out.take()
        assert [one[0] for one in orders(await at.take())] == ["S-3"]


GROUP = Answer(test="^^^{code}", orders=MappingProxyType({"2345-7": "CHEM", "2951-2": "CHEM"}))


async def test_what_another_test_is_ordered_by_is_not_taken_back(lab: Laboratory) -> None:
    """A profile, or a code whose results are several: the analyzer would drop what is still to be measured."""
    order = await lab.order("S-1", "GLU", "NA")
    lab.context = replace(lab.context, driver=replace(lab.context.driver, answer=GROUP))

    async def cancel(test: str) -> None:
        items = [item.id for item in order.items if item.test_code == test]
        async with lab.database.transaction(lab.organization_id) as connection:
            await order_changes.cancel(connection, lab.director, order.id, "not needed", item_ids=items)

    async with line(lab, download=True) as at:
        assert orders(await at.deliver()) == [("S-1", "^^^CHEM", "N")]
        await cancel("GLU")
        await at.nothing()
        assert sorted(await at.states()) == [("cancel", "cancelled"), ("new", "accepted")]
        await cancel("NA")
        assert orders(await at.deliver()) == [("S-1", "^^^CHEM", "C")]
        await at.nothing()
