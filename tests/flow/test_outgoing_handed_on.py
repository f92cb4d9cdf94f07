"""What one connection could not say is said on another, and what is said is still what there is to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from interface.driver import registry
from interface.flow.context import register
from interface.flow.dispatch_watch import LinkSeen, look
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_outgoing import Line, line, orders


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_lis2") as made:
        yield made


def beside(at: Line) -> Line:
    """Another connection of the same link."""
    other = replace(at, peer="127.0.0.1:2")
    other.sender, other.intake = at.sender, at.intake
    other.connect()
    return other


@pytest.mark.parametrize("reason", ["lost", "silent"])
async def test_what_a_connection_could_not_say_the_others_are_woken_for(lab: Laboratory, reason: str) -> None:
    """An analyzer that was switched off does not hang up: its order waits on the connection of before."""
    async with line(lab, download=True) as at:
        await lab.order("S-1", "GLU")
        first = await at.take()
        other = beside(at)
        await other.nothing()
        woken = other.woken
        await at.out.told(first, False, None, reason)
        if reason == "lost":
            at.out.close()
        assert other.woken > woken
        assert await other.deliver() == first


@pytest.mark.parametrize("known", [True, False], ids=["not taken", "not known"])
async def test_what_a_link_had_to_say_that_is_not_there_any_more_is_said_by_another(
    lab: Laboratory, known: bool
) -> None:
    """An analyzer that answers nothing is cabled anew, and its link gets another name."""
    async with line(lab, download=True) as at:
        await lab.order("S-1", "GLU")
        first = await at.take()
        if known:
            await at.out.told(first, False, None, "silent")
        at.out.close()
    analyzer = await lab.owner.fetchval("select name from lab.analyzer where id = $1", at.link.analyzer_id)
    settings = replace(at.link.settings, id="bench-tcp", analyzer=analyzer)
    async with lab.database.transaction(lab.organization_id) as connection:
        link = await register(connection, lab.organization_id, settings, registry.load("generic_lis2"))
    assert link.analyzer_id == at.link.analyzer_id
    other = Line(lab, link)
    await look(lab.database, [LinkSeen(at.link, True, None), LinkSeen(link, True, None)], at.now)
    await other.nothing()  # while the first is there it is that one's
    await look(lab.database, [LinkSeen(link, True, None)], at.now)
    assert orders(await other.deliver()) == orders(first)
    await other.nothing()
