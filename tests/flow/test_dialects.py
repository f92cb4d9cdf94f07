"""Every driver that answers queries, over its own link: what the host says is its vector's, with work and without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest

from interface.driver.manifest import LinkFraming
from interface.driver.proof import host_messages
from interface.flow.context import LinkContext
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.outgoing import LinkOutgoing
from interface.flow.requests import Requests
from interface.flow.speech import control_id
from interface.flow.speeches import answer_of
from interface.link.base import LinkSpec
from interface.link.clock import LoopClock
from interface.link.listening import ListeningLink
from interface.link.stream import MemoryStream, null_modem
from interface.settings import Address
from interface.wire import hl7, mllp
from tests.flow.askers import Asking, askings, link_of, place
from tests.flow.laboratory import Laboratory, laboratory
from tests.link.bench import ACK, EOT, PATIENCE_S

ASKINGS = askings()
DRIVERS = {one.driver.id: one.driver for one in ASKINGS}


@dataclass(slots=True)
class Hall:
    """All analyzers of all drivers in one laboratory, with the orders of their vectors."""

    lab: Laboratory
    links: Mapping[str, LinkContext]


@pytest.fixture
async def hall(database_url: str) -> AsyncIterator[Hall]:
    async with laboratory(database_url) as lab:
        links = {}
        async with lab.database.transaction(lab.organization_id) as connection:
            for driver in DRIVERS.values():
                codes = [code for one in ASKINGS if one.driver.id == driver.id for code in one.codes]
                links[driver.id] = await link_of(lab, driver, codes, connection)
            for one in ASKINGS:
                await place(lab, one, connection)
        yield Hall(lab, links)


def test_every_driver_with_a_dialect_shows_work_and_none() -> None:
    names = {driver: {one.name for one in ASKINGS if one.driver.id == driver} for driver in DRIVERS}
    assert len(names) >= 32
    lacking = {driver: found for driver, found in names.items() if len(found) < 2}
    assert not lacking


async def test_each_driver_is_answered_as_its_vector_has_it(hall: Hall) -> None:
    differ = []
    for asking in ASKINGS:
        try:
            said = await _said(hall, asking)
        except TimeoutError:
            said = []
        expected = [_without_own_ids(asking, one) for one in asking.said]
        if said != expected:
            differ.append(f"{asking}:\n  said     {said}\n  expected {expected}")
    assert not differ, "\n".join(differ)


def _without_own_ids(asking: Asking, text: bytes) -> bytes:
    """A vector's answer without the host's control id, and without the work ids that the vector has made up."""
    own = asking.work.get("control_id", "")
    if own and own != hl7.control_id(asking.query):
        text = text.replace(own.encode(), b"ID")
    for one in asking.work.get("specimens", ()):
        for test in one["tests"]:
            if not isinstance(test, str):
                text = text.replace(f"OBR||{test['item_id']}|".encode(), b"OBR||WORK|")
    return text


async def _said(hall: Hall, asking: Asking) -> list[bytes]:
    """What the host says over a null modem."""
    link, now = hall.links[asking.driver.id], asking.now
    intake = LinkIntake(
        link,
        hall.lab.journal,
        lambda: now,
        Requests(link, hall.lab.database, HANDLERS, 5.0),
        LinkOutgoing(link, hall.lab.database, answer_of(link), None, lambda: now),
    )
    listening = ListeningLink(LinkSpec(link.settings, intake, link.driver), LoopClock(), Address("127.0.0.1", 0))
    analyzer, host = null_modem()
    served = asyncio.create_task(listening.serve(host))
    async with asyncio.timeout(PATIENCE_S):
        asks = _by_blocks if asking.driver.link is LinkFraming.MLLP else _by_frames
        said = host_messages(asking.driver, await asks(asking, analyzer))
        await analyzer.close()
        await served
    own = [row["id"] for row in await hall.lab.owner.fetch("select id from lab.sending order by id desc limit 3")]
    ids = {control_id(one) for one in own} | {hl7.control_id(one) for one in said[:1] if one.startswith(b"MSH")}
    for one in ids - {hl7.control_id(asking.query)}:  # which Mindray has back
        said = [text.replace(one.encode(), b"ID") for text in said]
    return [re.sub(rb"OBR\|\|[0-9]+\|", b"OBR||WORK|", one) for one in said]


async def _by_blocks(asking: Asking, line: MemoryStream) -> bytes:
    await line.write(mllp.encode(asking.query))
    said = b""
    while said.count(b"\x1c\r") < len(asking.said):
        said += await line.read()
    return said


async def _by_frames(asking: Asking, line: MemoryStream) -> bytes:
    """As the vector has it: the analyzer's session, then its ACK to all that the host says."""
    for step in asking.session:
        await line.write(step)
        if step != EOT:
            assert await line.read() == ACK
    said, sessions = b"", 0
    while sessions < len(asking.said):
        heard = await line.read()
        said += heard
        if heard.endswith(EOT):
            sessions += 1
        else:
            await line.write(ACK)
    return said
