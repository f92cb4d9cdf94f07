"""Every driver that answers queries, over its own link: what the host says is its vector's, with work and without."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest

from interface.domain.model import Protocol
from interface.flow import queries
from interface.flow.context import LinkContext
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.requests import Requests
from interface.flow.speech import control_id
from interface.store.ids import uuid7
from interface.store.journal import read_message
from interface.wire import hl7
from tests.flow.askers import Asking, askings, link_of, place
from tests.flow.laboratory import Laboratory, frames, laboratory

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
        said = await _said(hall, asking)
        expected = [_without_own_ids(asking, one) for one in asking.said][: len(said)]
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
    """The answer over the link's own intake, with the id of what it is in the order book put aside."""
    link, now = hall.links[asking.driver.id], asking.now
    if asking.driver.protocol is Protocol.HL7:
        requests = Requests(link, hall.lab.database, HANDLERS, 5.0)
        receipt = await LinkIntake(link, hall.lab.journal, lambda: now, requests).block(asking.query, "127.0.0.1:1")
        assert receipt.reply is not None
        said = [receipt.reply, *receipt.then]
        own = hl7.control_id(receipt.reply)
    else:
        transmission = LinkIntake(link, hall.lab.journal, lambda: now).frames("127.0.0.1:1")
        for frame in frames(asking.query.decode("latin-1").rstrip("\r").split("\r")):
            receipt = await transmission.frame(frame)
        async with hall.lab.database.transaction(hall.lab.organization_id) as connection:
            assert receipt.message_id is not None
            message = await read_message(connection, receipt.message_id)
            assert message is not None
            sending_id = uuid7()
            told = await queries.answer(connection, link, message, sending_id, now)
        own, said = control_id(sending_id), list(told.texts)
    if own != hl7.control_id(asking.query):  # which Mindray has back
        said = [one.replace(own.encode(), b"ID") for one in said]
    return [re.sub(rb"OBR\|\|[0-9]+\|", b"OBR||WORK|", one) for one in said]
