"""What an HL7 analyzer refuses of a message that it has understood (HL7 v2.5.1 4.5.1.1), over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from interface.domain.model import Protocol
from interface.driver.dialogue import Each, Over
from interface.driver.download import Download
from interface.flow.downloads import Downloads
from interface.settings import TransportType
from interface.store.ids import uuid7
from tests.flow.dispatching import begin
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_outgoing import Line, ack

ORM = Download(
    new=(
        r"MSH|^~\&|Labora||AN||{now}||ORM^O01|{control_id}|P|2.3.1",
        Each(Over.TEST, ("ORC|NW|{item_id}", "OBR|1|{item_id}||{code}")),
    )
)


@pytest.fixture
async def at(database_url: str) -> AsyncIterator[Line]:
    async with laboratory(database_url, "generic_lis2") as lab:
        driver = replace(lab.context.driver, protocol=Protocol.HL7, answer=None, download=ORM)
        transport = replace(lab.context.settings.transport, type=TransportType.MLLP_DIAL)
        settings = replace(lab.context.settings, download=True, transport=transport)
        link = replace(lab.context, driver=driver, settings=settings)
        await begin(lab, link)
        await lab.order("S-1", "GLU", "NA")
        yield Line(lab, link, Downloads(ORM))


async def works(lab: Laboratory) -> list[str]:
    return [str(row["work_id"]) for row in await lab.owner.fetch("select work_id from lab.dispatch order by work_id")]


@pytest.mark.parametrize(
    ("orders", "states"),
    [
        ("ORC|OK|{0}\rORC|UA|{1}\r", ["accepted", "refused"]),
        ("ORC|UA\rOBR|1|{0}\rORC|OK\rOBR|1|{1}\r", ["refused", "accepted"]),
        ("ORC|UA|{0}\rORC|UA|{1}\r", ["refused", "refused"]),
        ("ORC|UA|S-1\r", ["refused", "refused"]),  # of which, nobody knows
        ("ORC|OK|{0}\rORC|OK|{1}\r", ["accepted", "accepted"]),
        ("", ["accepted", "accepted"]),
    ],
)
async def test_what_it_is_unable_to_do_is_refused(at: Line, orders: str, states: list[str]) -> None:
    sending = await at.take()
    reply = ack(sending, "AA") + orders.format(*await works(at.lab)).encode()
    await at.out.told(sending, True, reply, "")
    assert [state for _, state in await at.states()] == states
    answers = await at.lab.owner.fetch("select answer from lab.dispatch order by work_id")
    assert [row["answer"] for row in answers] == ["AA UA" if state == "refused" else "" for state in states]


async def test_a_test_that_several_codes_would_measure_is_not_told_without_a_word(at: Line) -> None:
    """Nobody asks, so that no query shows it: it waited, and nothing said why."""
    for code in ("A", "B"):
        await at.lab.owner.execute(
            """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
               select $1, $2, 'generic_lis2', $3, id, 'site' from lab.test where code = 'GLU'""",
            uuid7(), at.lab.organization_id, code,
        )  # fmt: skip
    with capture_logs() as logs:
        await at.take()
    assert await at.lab.owner.fetchval("select count(*) from lab.dispatch") == 1
    [said] = [one for one in logs if one.get("action") == "dispatch.not_ordered"]
    assert (said["log_level"], said["test"]) == ("warning", "GLU")
    assert said["problem"] == "several codes would measure it: A, B; the routing can say which"
