"""What one connection could not say is said on another, and what is said is still what there is to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_outgoing import Line, line


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
