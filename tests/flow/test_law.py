"""What becomes of the answers to LAB-28, over real PostgreSQL; the whole conversation is in tests/e2e/law."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.model import HoldReason
from interface.driver import registry
from interface.driver.law_analyzer import Result, Voice, hear
from interface.flow import law, order_book
from interface.flow.intake import LinkIntake
from interface.flow.law import PLACE_S, LawSpeech
from interface.flow.outgoing import LinkOutgoing
from interface.flow.queries import MOST_ASKED
from interface.flow.requests import Refused, Request, request_row
from interface.flow.speech import Sent, Word
from interface.settings import Address, BarcodeRules, Transport, TransportType
from interface.store import law as store
from interface.store.ids import uuid7
from interface.store.journal import Append, FrameRow, append_within
from interface.store.law import LawAsked, LawParties
from interface.wire import hl7, hl7_reply
from tests.flow.laboratory import Laboratory, laboratory

NOW = datetime(2026, 1, 2, 8, tzinfo=UTC)
VOICE = Voice("A1")
ADDRESS = Address("127.0.0.1", 1)


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "ihe_law") as made:
        for code in ("GLU", "CREA"):
            await made.owner.execute(
                """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
                   select $1, $2, 'ihe_law', $3, id, 'site' from lab.test where organization_id = $2 and code = $3""",
                uuid7(), made.organization_id, code,
            )  # fmt: skip
        yield made


async def ask(lab: Laboratory, *asked: LawAsked) -> None:
    """As if a LAB-27 had come."""
    async with lab.database.transaction(lab.organization_id) as connection:
        block = VOICE.asks(NOW, "T1", "S-1")
        row = request_row(lab.context, block, NOW, "127.0.0.1:1", "C1", "QBP^Q11")
        frame = FrameRow(row.id, 0, 0, None, block, NOW)
        await append_within(connection, lab.organization_id, Append((row,), (frame,)))
        await store.add(
            connection, lab.organization_id, lab.context.analyzer_id, lab.context.link_id, row.id, asked,
            LawParties("H", "", "A1", ""),
        )  # fmt: skip


async def say(lab: Laboratory, now: datetime = NOW) -> Sent | None:
    """The next LAB-28, recorded as `flow.outgoing` does it."""
    sending_id = uuid7()
    async with lab.database.transaction(lab.organization_id) as connection:
        said = await LawSpeech().next(connection, lab.context, sending_id, now)
        if said is None:
            return None
        await order_book.record_sent(
            connection, lab.context, sending_id, said.dispatches, said.data, said.query_id, NOW
        )
    return Sent(sending_id, said.data, said.dispatches, said.query_id)


async def hear_of(lab: Laboratory, sent: Sent, reply: bytes) -> Word:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await LawSpeech().replied(connection, lab.context, sent, reply, NOW)


async def states(lab: Laboratory) -> list[tuple[str, str]]:
    rows = await lab.owner.fetch("select state, answer from lab.dispatch order by work_id")
    return [(row["state"], row["answer"]) for row in rows]


async def owed(lab: Laboratory) -> int:
    return int(await lab.owner.fetchval("select count(*) from lab.law_query where told_at is null"))


async def test_an_analyzer_that_is_busy_is_told_again(lab: Laboratory) -> None:
    """AE with ERR-3 207 alone refuses the moment, not the work."""
    await lab.order("S-1", "GLU")
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    (order,) = hear(sent.data)
    busy = VOICE.refuses(NOW, order.control_id, "AE", "ERR|||207^busy^HL70357|E")
    assert await hear_of(lab, sent, busy) == Word(delivered=False)
    assert await states(lab) == [("sent", "")] and await owed(lab) == 1
    assert await hear_of(lab, sent, VOICE.answers(NOW, order, ("OK",))) == Word()
    assert await states(lab) == [("accepted", "ORC-1 OK, ORC-5 SC")] and await owed(lab) == 0


async def test_a_message_that_is_refused_as_a_whole_refuses_its_work(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU", "CREA")
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    (order,) = hear(sent.data)
    await hear_of(lab, sent, VOICE.refuses(NOW, order.control_id, "AR", "ERR||SPM^1^4|103^type^HL70357|E"))
    words = "MSA-1 AR; SPM^1^4, 103 type"
    assert await states(lab) == [("refused", words), ("refused", words)]


async def test_hostile_words_of_a_refusal_neither_undo_nor_swell_it(lab: Laboratory) -> None:
    """Text of PostgreSQL holds no NUL; the words are kept with every step and every event."""
    await lab.order("S-1", "GLU", "CREA")
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    (order,) = hear(sent.data)
    words = "\0" + "x" * 100_000
    assert await hear_of(lab, sent, VOICE.refuses(NOW, order.control_id, "AR", f"ERR|||103^{words}|E")) == Word()
    assert [(state, len(answer)) for state, answer in await states(lab)] == [("refused", order_book.MOST_WORDS)] * 2


async def test_an_answer_that_cannot_be_read_is_kept_and_says_nothing(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    assert await hear_of(lab, sent, b"MSH|^~\\&|A1||H||20260102||ORL^O34^ORL_O42|7|P|2.5.1\rMSA\r") == Word()
    assert await states(lab) == [("sent", "segment: the answer has no MSA-1")]
    assert await owed(lab) == 0


async def test_an_answer_without_end_is_kept_and_not_read(lab: Laboratory) -> None:
    """Of 10 MB in short segments it takes half a minute, in which no other link would be served."""
    await lab.order("S-1", "GLU")
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    (order,) = hear(sent.data)
    answer = VOICE.answers(NOW, order, ("OK",))
    for swollen in (answer + b"NTE|1\r" * hl7_reply.MOST_LINES, answer + b"NTE|" + b"x~" * hl7_reply.MOST_BYTES):
        assert await hear_of(lab, sent, swollen) == Word()
        assert await states(lab) == [("sent", "segment: the answer is too long to be read")]
    assert await owed(lab) == 0


async def test_what_is_asked_twice_before_it_is_answered_is_answered_once(lab: Laboratory) -> None:
    one, other = LawAsked("specimen", "S-1"), LawAsked("specimen", "S-1", "R1", "3")
    await ask(lab, one)
    await ask(lab, one, other)
    first = await say(lab)
    assert first is not None and await owed(lab) == 2
    await ask(lab, one)  # what is on the line answers what came before it
    assert await owed(lab) == 3


async def test_a_query_that_could_not_be_answered_is_given_up(lab: Laboratory) -> None:
    await ask(lab, LawAsked("specimen", "S-1"))
    sent = await say(lab)
    assert sent is not None
    for given_up, left in ((False, 1), (True, 0)):
        async with lab.database.transaction(lab.organization_id) as connection:
            await LawSpeech().undelivered(connection, lab.context, sent, "timeout", given_up, NOW)
        assert await owed(lab) == left


async def test_a_place_where_two_specimens_stand_has_no_work(lab: Laboratory) -> None:
    """Which of them it is, nobody knows."""
    lab.context = replace(lab.context, settings=replace(lab.context.settings, racks=True))
    for barcode in ("S-1", "S-2"):
        await lab.order(barcode, "GLU", patient_id=barcode)
    await lab.owner.execute("update lab.specimen set rack = 'R1', position = '3'")
    await ask(lab, LawAsked("rack", rack="R1", rack_position="3"))
    sent = await say(lab)
    assert sent is not None and sent.dispatches == () and b"\rORC|DC|" in sent.data


@pytest.mark.parametrize(
    ("driver", "kind", "speaks"),
    [
        ("ihe_law", TransportType.MLLP_DIAL, True),
        ("ihe_law", TransportType.MLLP_LISTEN, False),
        ("generic_hl7", TransportType.MLLP_DIAL, False),
    ],
)
async def test_the_link_that_dials_says_it(driver: str, kind: TransportType, speaks: bool, lab: Laboratory) -> None:
    transport = Transport(kind, Address("127.0.0.1", 1))
    link = replace(
        lab.context, settings=replace(lab.context.settings, transport=transport), driver=registry.load(driver)
    )
    assert (law.speech(link) is not None) is speaks
    assert (law.handler(link) is not None) is (driver == "ihe_law")


async def test_a_query_for_specimens_without_end_is_refused(lab: Laboratory) -> None:
    """Each would be told by a message of its own, and nothing else meanwhile."""
    block = VOICE.asks(NOW, "T1", "~".join(f"S-{at}" for at in range(MOST_ASKED + 1)))
    block = block.replace(b"\\R\\", b"~")  # as an analyzer repeats a field
    handler = law.handler(lab.context)
    assert handler is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        request = Request(connection, lab.context, uuid7(), hl7.parse(block), block, "L1", NOW)
        with pytest.raises(Refused, match=f"more than {MOST_ASKED}"):
            await handler(request)
    assert await owed(lab) == 0


async def test_a_query_is_not_acknowledged_where_no_link_leads_back(lab: Laboratory) -> None:
    """RSP^K11 would promise a LAB-28 that could never come."""
    block = VOICE.asks(NOW, "T1", "S-1")
    handler = law.handler(lab.context)
    assert handler is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        request = Request(connection, lab.context, uuid7(), hl7.parse(block), block, "L1", NOW)
        with pytest.raises(Refused) as caught:
            await handler(request)
    reply = hl7.parse(caught.value.reply.text)
    assert [one.id for one in reply.segments] == ["MSH", "MSA", "ERR", "QAK", "QPD"]
    assert [one.value(3) for one in reply.all("ERR")] == ["207"]
    assert await owed(lab) == 0


@pytest.mark.parametrize("asking", ["rack", "tray"])
async def test_a_place_is_not_answered_once_another_rack_may_stand_there(asking: str, lab: Laboratory) -> None:
    """The line was down: a specimen that is put there since is another, and its work would be done on the first."""
    lab.context = replace(lab.context, settings=replace(lab.context.settings, racks=True))
    await lab.order("S-2", "GLU")
    await lab.owner.execute("update lab.specimen set rack = 'R1', position = '3'")
    place = {asking: "R1", f"{asking}_position": "3"}
    await ask(lab, LawAsked(asking, **place))
    sent = await say(lab, NOW + timedelta(seconds=PLACE_S + 1))
    assert sent is not None and sent.dispatches == () and b"\rORC|DC|" in sent.data
    await hear_of(lab, sent, VOICE.refuses(NOW, "X", "AA"))
    await ask(lab, LawAsked(asking, **place))
    sent = await say(lab, NOW + timedelta(seconds=PLACE_S))
    assert sent is not None and len(sent.dispatches) == 1


async def test_an_answer_for_a_place_does_not_go_again_after_its_time(lab: Laboratory) -> None:
    settings = replace(lab.context.settings, racks=True, transport=Transport(TransportType.MLLP_DIAL, ADDRESS))
    link = replace(lab.context, settings=settings)
    await lab.order("S-2", "GLU")
    await lab.owner.execute("update lab.specimen set rack = 'R1', position = '3'")
    await ask(lab, LawAsked("rack", rack="R1", rack_position="3"))
    now = [NOW]
    out = LinkOutgoing(link, lab.database, None, LawSpeech(), lambda: now[0]).of("analyzer", lambda: None)
    assert out is not None
    for wait_s in (0, PLACE_S):
        now[0] = NOW + timedelta(seconds=wait_s)
        sending = await out.take()
        assert sending is not None and b"|S-2|" in sending.data
        await out.told(sending, False, None, "lost")
    now[0] += timedelta(seconds=1)
    assert await out.take() is None
    assert await owed(lab) == 0


async def test_who_asks_for_all_is_told_of_each_tube_what_is_ordered_on_it(lab: Laboratory) -> None:
    """What is spread is our own barcode: a rule that takes a reader's prefix off made another patient's tube of it."""
    for barcode, test in (("91", "GLU"), ("1", "CREA")):
        await lab.order(barcode, test, patient_id=barcode)
    lab.context = replace(lab.context, settings=replace(lab.context.settings, barcode=BarcodeRules(strip_prefix="9")))
    await ask(lab, LawAsked("all"))
    told = []
    while (sent := await say(lab)) is not None:
        (heard,) = hear(sent.data)
        told.append((heard.specimen_id, [each.code for each in heard.steps]))
        await hear_of(lab, sent, VOICE.answers(NOW, heard, ["OK"] * len(heard.steps)))
    assert sorted(told) == [("1", ["CREA"]), ("91", ["GLU"])]
    await ask(lab, LawAsked("specimen", "991"))
    sent = await say(lab)
    assert sent is not None
    assert hear(sent.data)[0].specimen_id == "991", "as it was read"


async def test_what_was_told_by_the_printed_barcode_is_of_that_tube(lab: Laboratory) -> None:
    """The rule that takes a reader's prefix off was taken for one of what we had told too: each result of such a tube
    was held as another's."""
    ordered = await lab.order("91", "GLU")
    lab.context = replace(lab.context, settings=replace(lab.context.settings, barcode=BarcodeRules(strip_prefix="9")))
    lab.contexts[lab.context.link_id] = lab.context
    await ask(lab, LawAsked("all"))
    sent = await say(lab)
    assert sent is not None
    [step] = hear(sent.data)[0].steps
    result = Result(step.step_id, "GLU", "90", "mg/dL")
    await LinkIntake(lab.context, lab.journal).block(VOICE.reports(NOW, "991", [result]), "127.0.0.1:1")
    await lab.settle()
    [found] = await lab.results()
    assert (found.specimen_id, found.held) == (ordered.items[0].specimen_id, ())
    await lab.order("92", "GLU", patient_id="P-2")
    other = Result(step.step_id, "GLU", "91", "mg/dL")
    await LinkIntake(lab.context, lab.journal).block(VOICE.reports(NOW, "992", [other]), "127.0.0.1:1")
    await lab.settle()
    [_, found] = await lab.results()
    assert HoldReason.AMBIGUOUS_SPECIMEN in found.held, "the step was told of another tube"
