"""What an analyzer is told when it asks, and what it is not: hostile queries, other analyzers', other laboratories'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from interface.cli.trace import _lines
from interface.domain import routing
from interface.domain.routing import DispatchState, NoWork
from interface.domain.specimens import RejectReason
from interface.driver import registry
from interface.driver.dialogue import REASONS
from interface.errors import DriverError
from interface.flow import order_book, order_changes, queries, specimens
from interface.flow.context import LinkContext, register
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.queries import Answered
from interface.flow.requests import Requests
from interface.flow.trace import trace
from interface.link.intake import Receipt
from interface.store.ids import uuid7
from interface.store.stored_messages import read_message
from interface.wire import hl7
from tests.flow.laboratory import Laboratory, frames, laboratory

NOW = datetime(2026, 1, 2, 8, tzinfo=UTC)
PEER = "127.0.0.1:1"


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_lis2") as made:
        yield made


async def told(lab: Laboratory, *records: str, link: LinkContext | None = None) -> Answered:
    """The answer to a message of these records, as the link's sender asks for it."""
    link = link or lab.context
    transmission = LinkIntake(link, lab.journal, lambda: NOW).frames(PEER)
    receipt = Receipt()
    for frame in frames(["H|\\^&|||Testmaker^Bench^1||||||||LIS2-A2|20260102", *records, "L|1|N"]):
        receipt = await transmission.frame(frame)
    assert receipt.message_id is not None
    async with lab.database.transaction(link.organization_id) as connection:
        message = await read_message(connection, receipt.message_id)
        assert message is not None
        return await queries.answer(connection, link, message, uuid7(), NOW)


def lines(answered: Answered) -> list[list[str]]:
    return [text.decode("latin-1").rstrip("\r").split("\r") for text in answered.texts]


def orders(answered: Answered) -> list[tuple[str, str]]:
    """Specimen and tests of every O record."""
    found = [line.split("|") for message in lines(answered) for line in message if line.startswith("O|")]
    return [(fields[2], fields[4]) for fields in found]


def test_every_reason_has_words() -> None:
    assert set(REASONS) == {one.value for one in NoWork}


async def test_one_several_a_range_or_everything_may_be_asked_for(lab: Laboratory) -> None:
    for at in range(1, 5):
        await lab.order(f"S-{at}", "GLU" if at != 3 else "NA", patient_id=f"P-{at}")
    assert orders(await told(lab, "Q|1|^S-2||ALL||||||||O")) == [("S-2", "^^^2345-7")]
    assert orders(await told(lab, "Q|1|^S-4\\^S-1||ALL")) == [("S-4", "^^^2345-7"), ("S-1", "^^^2345-7")]
    assert sorted(orders(await told(lab, "Q|1|^S-2|^S-3|ALL"))) == [("S-2", "^^^2345-7"), ("S-3", "^^^2951-2")]
    assert len(orders(await told(lab, "Q|1|ALL||ALL"))) == 4
    several = await told(lab, "Q|1|^S-1||ALL", "Q|2|^S-2||ALL")  # each has an answer of its own
    assert [len(message) for message in lines(several)] == [4, 4]
    assert [len(dispatches) for dispatches in several.dispatches] == [1, 1]


async def test_no_work_is_said_with_its_reason_and_kept(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    specimen_id = await lab.owner.fetchval("select id from lab.specimen where barcode = 'S-1'")
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.reject(connection, lab.director, specimen_id, RejectReason.HAEMOLYSED)
    rejected = await told(lab, "Q|1|^S-1||ALL")
    [[header, end]] = lines(rejected)
    assert (header.split("|")[10], end) == ("specimen rejected", "L|1|I")
    assert (rejected.settled, rejected.reason, rejected.dispatches) == ("released", "rejected: S-1", ((),))
    both = await told(lab, "Q|1|^S-1\\^NOBODY||ALL")
    assert lines(both)[0][0].split("|")[10] == "specimen rejected; specimen not known"
    assert both.reason == "rejected: S-1; unknown_specimen: NOBODY"


async def test_a_query_is_answered_anew_and_its_work_keeps_its_ids(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    first = await told(lab, "Q|1|^S-1||ALL")
    again = await told(lab, "Q|1|^S-1||ALL")
    assert again.dispatches == first.dispatches and orders(again) == orders(first)
    await lab.order("S-1B", "GLU")
    assert (await told(lab, "Q|1|^S-1B||ALL")).dispatches != first.dispatches


async def test_a_query_that_is_taken_back_is_not_answered(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    gone = await told(lab, "Q|1|^S-1||ALL||||||||A")
    assert (gone.texts, gone.cancels_before, gone.settled) == ((), True, "released")


async def test_what_is_no_query_is_left_to_the_worker(lab: Laboratory) -> None:
    assert await told(lab, "P|1", "O|1|S-1||^^^GLU", "R|1|^^^GLU|5.5|mmol/L||N||F") == Answered(settled="")
    beside = await told(lab, "Q|1|^S-1||ALL", "P|1", "O|1|S-1||^^^GLU", "R|1|^^^GLU|5.5|mmol/L||N||F")
    assert beside.settled == "" and lines(beside)[0][-1] == "L|1|I"


HOSTILE = [
    "Q|1|||ALL", "Q|1|^", "Q|1|^^^^||", "Q|1|^%||ALL", "Q|1|^*||ALL", "Q|1|^S-_||ALL", "Q|1|^S-1' or '1'='1||ALL",
    "Q|1|^S-1;drop table lab.result||ALL", "Q|1|^&X00&||ALL", "Q|1|^S-1&S&2||ALL", "Q|1|^S-1&X0D&O&F&1||ALL",
    "Q|1|^" + "9" * 5000 + "||ALL", "Q|1|^\xff\xfe\x80||ALL", "Q|1|^S-0|^&X00&|ALL", "Q|1|^" + "\\^".join(["A"] * 40),
    "Q|1|" + "\\" * 3000, "Q", "Q|1|^S-1;S-1||" + "|" * 500, "Q|1|^S-9|^S-0|ALL", "Q|1|^ |^z|",
]  # fmt: skip


async def test_a_hostile_query_gets_nothing_of_anybodys(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    for record in HOSTILE:
        answered = await told(lab, record)
        assert orders(answered) == [], record
        # Whatever was in it, the answer is a message of ours: its records are those of the dialect.
        assert answered.texts and all([line[:2] for line in message] == ["H|", "L|"] for message in lines(answered))
        assert len(b"".join(answered.texts)) < 400


async def test_a_query_for_more_specimens_than_any_rack_holds_is_not_looked_up(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    many = "\\".join(f"^S-{at}" for at in range(1, queries.MOST_ASKED + 2))
    answered = await told(lab, f"Q|1|{many}||ALL")
    assert orders(answered) == [] and lines(answered)[0][-1] == "L|1|I"
    assert answered.reason == "more than 500 specimens were asked for: not answered"
    hundred_thousand = "\\".join(f"^S-{at}" for at in range(100_000))
    assert (await told(lab, f"Q|1|{hundred_thousand}||ALL")).reason == answered.reason
    one_by_one = [f"Q|{at}|^S-{at}\\^T-{at}||ALL" for at in range(1, 252)]
    answered = await told(lab, *one_by_one)
    assert (len(answered.texts), orders(answered)) == (251, [])
    with pytest.raises(DriverError, match="more than 500 queries"):
        await told(lab, *(f"Q|{at}|^S-{at}||ALL" for at in range(queries.MOST_ASKED + 1)))


async def test_an_analyzer_is_told_nothing_that_is_for_another_or_for_another_laboratory(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    settings = replace(lab.context.settings, id="hema", driver="sysmex_xn")
    async with lab.database.transaction(lab.organization_id) as connection:
        hema = await register(connection, lab.organization_id, settings, registry.load("sysmex_xn"))
    for asks in ("Q|1|1^2^S-1^B", "Q|1|^^ALL^B", "Q|1|1^2^S-0^B|1^2^S-9^B"):
        assert orders(await told(lab, asks, link=hema)) == []
    elsewhere = await lab.owner.fetchval(
        "insert into lab.organization (id, name) values ($1, 'elsewhere') returning id", uuid7()
    )
    async with lab.database.transaction(elsewhere) as connection:
        theirs = await register(connection, elsewhere, lab.context.settings, lab.context.driver)
    await lab.owner.execute(
        "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
        " select gen_random_uuid(), $1, 'generic_lis2', 'GLU', id, 'site', now() from lab.test where code = 'GLU'"
        " and organization_id = $1", elsewhere,
    )  # fmt: skip
    async with lab.database.transaction(elsewhere) as connection:
        found = await order_book.work_for(connection, theirs, routing.Query(("S-1",), True), NOW)
    assert found.works == () and [one.reason for one in found.missing] == [NoWork.UNKNOWN_SPECIMEN]


# ---- HL7 ------------------------------------------------------------------------------------------------------------

QRY = (
    "MSH|^~\\&|Mindray|BS-480|||20260105141500||QRY^Q02|{id}|P|2.3.1||||||ASCII|||\r"
    "QRD|20260105141500|R|D|6|||RD|{specimen}|OTH|||T|\rQRF|BS-480|20260105141500|20260105141500|||RCT|COR|ALL||\r"
)
ACK = "MSH|^~\\&|Mindray|BS-480|||20260105141501||ACK^Q03|{id}|P|2.3.1\rMSA|{code}|{id}|words|||{number}|\r"


@pytest.fixture
async def mindray(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "mindray_bs") as made:
        await made.owner.execute(
            "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
            " select gen_random_uuid(), organization_id, 'mindray_bs', '29', id, 'site', '2020-01-01' from lab.test"
            " where code = 'GLU' and organization_id = $1", made.organization_id,
        )  # fmt: skip
        yield made


async def say(lab: Laboratory, block: str) -> Receipt:
    requests = Requests(lab.context, lab.database, HANDLERS, 5.0)
    return await LinkIntake(lab.context, lab.journal, lambda: NOW, requests).block(block.encode("latin-1"), PEER)


async def states(lab: Laboratory) -> list[tuple[str, str]]:
    rows = await lab.owner.fetch("select state, answer from lab.dispatch order by work_id")
    return [(row["state"], row["answer"]) for row in rows]


async def settled(lab: Laboratory) -> list[tuple[str, str]]:
    rows = await lab.owner.fetch("select settled, reason from lab.message order by id")
    return [(row["settled"], row["reason"]) for row in rows]


async def test_a_query_of_the_old_kind_is_acknowledged_and_then_shown(mindray: Laboratory) -> None:
    await mindray.order("S-1", "GLU")
    receipt = await say(mindray, QRY.format(id="6", specimen="S-1"))
    assert receipt.reply is not None and b"QCK^Q02|6" in receipt.reply and b"QAK|SR|OK|" in receipt.reply
    [shown] = receipt.then
    assert b"DSR^Q03" in shown and b"DSP|21||S-1|||\r" in shown and b"DSP|29||29^^^|||\rDSC||\r" in shown
    assert await states(mindray) == [("sent", "")]
    assert (await say(mindray, ACK.format(id="6", code="AA", number="0"))).reply is None
    assert await states(mindray) == [("accepted", "AA 0")]


async def test_what_an_analyzer_will_not_take_is_refused_work(mindray: Laboratory) -> None:
    await mindray.order("S-1", "GLU")
    await say(mindray, QRY.format(id="6", specimen="S-1"))
    await say(mindray, ACK.format(id="7", code="AE", number="207"))
    assert await states(mindray) == [("sent", "")], "of another message"
    await say(mindray, ACK.format(id="6", code="AE", number="207"))
    assert await states(mindray) == [("refused", "AE 207")]
    assert (await settled(mindray))[1] == ("rejected", "it acknowledges nothing that is known")


async def test_there_is_nothing_to_show(mindray: Laboratory) -> None:
    receipt = await say(mindray, QRY.format(id="6", specimen="S-9"))
    assert receipt.reply is not None and b"QAK|SR|NF|" in receipt.reply and receipt.then == ()
    assert await settled(mindray) == [("released", "unknown_specimen: S-9")]
    assert receipt.refused == ""


async def test_several_specimens_are_shown_one_by_one(mindray: Laboratory) -> None:
    for at in (1, 2):
        await mindray.order(f"S-{at}", "GLU", patient_id=f"P-{at}")
    receipt = await say(mindray, QRY.format(id="6", specimen="S-1~S-2"))
    assert [b"DSP|21||S-1|||" in receipt.then[0], b"DSP|21||S-2|||" in receipt.then[1]] == [True, True]
    assert len(await mindray.owner.fetch("select distinct sending_id from lab.dispatch")) == 2


async def test_each_of_them_has_its_own_acknowledgement(mindray: Laboratory) -> None:
    """All are of one control id, the query's: they come in the order in which the specimens were shown."""
    for at in (1, 2, 3):
        await mindray.order(f"S-{at}", "GLU", patient_id=f"P-{at}")
    await say(mindray, QRY.format(id="6", specimen="S-1~S-2~S-3"))
    found = []
    for code in ("AE", "AA", "AR", "AA"):
        await say(mindray, ACK.format(id="6", code=code, number="0"))
        found.append([one for one, _ in await states(mindray)])
    assert found[:3] == [
        ["refused", "sent", "sent"],
        ["refused", "accepted", "sent"],
        ["refused", "accepted", "refused"],
    ]
    assert found[3][:2] == ["refused", "accepted"], "one too many is of the last, if of any"


ORM = "MSH|^~\\&|BC-5380|Mindray|||20260105100600||ORM^O01|6|P|2.3.1||||||UNICODE\rORC|{control}||S-1||IP\r"


@pytest.mark.parametrize(
    ("driver", "block", "said"),
    [
        ("mindray_bc5380", ORM.format(control="RF"), "ORR^O02"),
        ("mindray_bc5380", ORM.format(control="NW"), "MSA|AR|6"),  # an analyzer orders nothing
        ("mindray_bc5380", QRY.format(id="6", specimen="S-1"), "MSA|AR|6"),  # not how it asks
        ("mindray_bs", ORM.format(control="RF"), "MSA|AR|6"),
        ("dymind_dh36", ORM.format(control="RF"), "MSA|AR|6"),  # nobody knows how it is answered
    ],
)
async def test_each_analyzer_asks_in_its_own_words(database_url: str, driver: str, block: str, said: str) -> None:
    async with laboratory(database_url, driver) as lab:
        receipt = await say(lab, block)
        assert receipt.reply is not None and said in receipt.reply.decode()
        assert (receipt.refused == "") == (said == "ORR^O02")


async def test_odd_ids_are_answered_and_kept(mindray: Laboratory) -> None:
    for at, odd in enumerate(["", "%", "A\0B", "\\X00\\", "\\.br\\", "^^^", "x" * 4000, "\xe9\xff", '""']):
        receipt = await say(mindray, QRY.format(id=str(at), specimen=odd))
        assert receipt.reply is not None and receipt.message_id is not None
        assert b"DSR" not in receipt.reply and receipt.then == ()
    assert {state for state, _ in await settled(mindray)} <= {"released", "rejected"}


async def test_a_trace_tells_what_the_analyzer_was_told_and_why_it_had_nothing(mindray: Laboratory) -> None:
    await mindray.order("S-1", "GLU")
    await say(mindray, QRY.format(id="5", specimen="S-1~S-10~S-9"))
    await say(mindray, ACK.format(id="5", code="AE", number="207"))
    async with mindray.database.transaction(mindray.organization_id) as connection:
        known, unknown, other = [await trace(connection, one) for one in ("S-1", "S-9", "S")]
    assert [(one.code, one.state, one.answer) for one in known.works] == [("29", DispatchState.REFUSED, "AE 207")]
    assert (known.queries, other.queries) == ((), ())
    assert [(one.link, one.reason) for one in unknown.queries] == [("bench", "unknown_specimen")]
    assert any(
        line.endswith("of bench, new 29: refused, told 2026-01-02T08:00:00+00:00 (AE 207)") for line in _lines(known)
    )
    assert any(line.endswith("no work, unknown_specimen") for line in _lines(unknown))


async def test_one_barcode_that_the_analyzer_cannot_read_does_not_hide_the_others(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU", patient_id="P-1")
    await lab.order("S-2", "GLU", patient_id="رقم")
    answered = await told(lab, "Q|1|ALL||ALL")
    assert orders(answered) == [("S-1", "^^^2345-7")]
    assert answered.reason == "cannot be written for this analyzer: S-2"
    assert len(answered.dispatches[0]) == 1


async def test_a_query_never_waits_behind_results(mindray: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    await mindray.order("S-1", "GLU")
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck(row: object) -> bool:
        begun.set()
        await never.wait()
        return False

    monkeypatch.setattr(mindray.journal, "append_block", stuck)
    requests = Requests(mindray.context, mindray.database, HANDLERS, 5.0)
    intake = LinkIntake(mindray.context, mindray.journal, lambda: NOW, requests)
    result = QRY.format(id="1", specimen="S-1").replace("QRY^Q02", "ORU^R01").encode()
    waiting = asyncio.create_task(intake.block(result, "127.0.0.1:2"))
    await begun.wait()
    receipt = await intake.block(QRY.format(id="2", specimen="S-1").encode(), PEER)
    assert receipt.reply is not None and b"QAK|SR|OK|" in receipt.reply and not waiting.done()
    waiting.cancel()


# ---- IHE LAW on the one connection that the analyzer makes ----------------------------------------------------------

QBP = (
    "MSH|^~\\&|X800 DM||HOST||20260102090000+0100||QBP^Q11^QBP_Q11|Q-1|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-27R^ROCHE\r"
    "QPD|WOS_ROCHE^Work Order Step Roche Extension^ROCHE|T-1|S-1|S54|14\rRCP|I||R^^HL70394\r"
)
ORL = (
    "MSH|^~\\&|X800 DM||HOST||20260102090001+0100||ORL^O34^ORL_O42|A-1|P|2.5.1||||||UNICODE UTF-8|||LAB-28^IHE\r"
    "MSA|{code}|{of}\rSPM|1|S-1&ROCHE\rSAC|||S-1\r{said}"
)


@pytest.fixture
async def x800(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "roche_cobas5800") as made:
        await made.owner.execute(
            "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
            " select gen_random_uuid(), organization_id, 'roche_cobas5800', '70241-5/HIV', id, 'site', '2020-01-01'"
            " from lab.test where code = 'GLU' and organization_id = $1", made.organization_id,
        )  # fmt: skip
        await made.order("S-1", "GLU")
        yield made


@pytest.mark.parametrize(
    ("code", "said", "state"),
    [
        ("AA", "ORC|UA|{id}|||CA\r", "refused"),
        ("AA", "ORC|UA|1|||CA\r", "refused"),  # the manual's example counts them
        ("AA", "ORC|OK|{id}|||SC\r", "accepted"),
        ("AA", "ORC|OK|1|||SC\r", "accepted"),
        ("AA", "ORC|UA|1|||CA\rORC|OK|2|||SC\r", "refused"),  # of which, nobody knows
        ("AA", "", "sent"),
        ("AE", "", "refused"),
        ("AR", "ERR|||207\r", "refused"),
    ],
)
async def test_how_an_analyzer_takes_the_orders_behind_its_query_is_heard(
    x800: Laboratory, code: str, said: str, state: str
) -> None:
    """It was refused as a message that nobody takes: an order that the analyzer could not do stood as sent."""
    receipt = await say(x800, QBP)
    [ordered] = [hl7.parse(one) for one in receipt.then]
    [named] = ordered.all("OBR")
    answer = ORL.format(code=code, of=ordered.control_id, said=said.format(id=named.value(2)))
    assert (await say(x800, answer.replace(f"|{ordered.control_id}\r", "|none\r"))).reply is None
    assert [one for one, _ in await states(x800)] == ["sent"], "an answer to nothing that is known"
    assert (await say(x800, answer)).reply is None, "an answer is not answered"
    assert [one for one, _ in await states(x800)] == [state]
    assert [one for one, _ in await settled(x800)] == ["released", "rejected", "released"]


@pytest.mark.parametrize(("code", "state"), [("AA", "sent"), ("AE", "refused"), ("AR", "refused")])
async def test_a_plain_ack_in_its_place_is_heard(x800: Laboratory, code: str, state: str) -> None:
    """HL7 v2.5.1 2.13.1: what cannot be processed is answered so. The order stood as sent, and nobody was told."""
    [ordered] = [hl7.parse(one) for one in (await say(x800, QBP)).then]
    answer = (
        "MSH|^~\\&|X800 DM||HOST||20260102090001+0100||ACK^O33^ACK|A-1|P|2.5.1||||||UNICODE UTF-8\r"
        f"MSA|{code}|{ordered.control_id}\r"
    )
    assert (await say(x800, answer)).reply is None, "an answer is not answered"
    assert [one for one, _ in await states(x800)] == [state]
    await say(x800, answer.replace(ordered.control_id, "none").replace("|A-1|", "|A-2|"))
    assert [one for one, _ in await settled(x800)] == ["released", "released", "rejected"]


@pytest.mark.parametrize(("first", "again"), [("OK", "sent"), ("UA", "refused")])
async def test_that_it_takes_no_id_twice_takes_nothing_back(x800: Laboratory, first: str, again: str) -> None:
    """A tube that is scanned once more is asked for anew, and told under the work id that the analyzer has (IHE LAW
    LAB28-006): its no was an alert, and another analyzer was given what it was measuring."""
    for at, (said, state) in enumerate(((first, "accepted" if first == "OK" else "refused"), ("UA", again))):
        [ordered] = [hl7.parse(one) for one in (await say(x800, QBP.replace("|Q-1|", f"|Q-{at}|"))).then]
        [named] = ordered.all("OBR")
        answer = ORL.format(code="AA", of=ordered.control_id, said=f"ORC|{said}|{named.value(2)}|||\r")
        await say(x800, answer.replace("|A-1|", f"|A-{at}|"))
        assert [one for one, _ in await states(x800)] == [state]
    [(_, words)] = await states(x800)
    assert words.startswith("refused when it was sent again" if again == "sent" else "ORC-1 UA")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("ORC|UA|{id}|||CA\r", "sent"),  # it says no more of what it takes
        ("ORC|UA|a|||CA\rORC|OK|b|||SC\r", "accepted"),
        ("ORC|OK|a|||SC\rORC|UA|b|||CA\r", "refused"),
    ],
)
async def test_what_it_says_of_work_that_was_cancelled_meanwhile_is_not_of_the_others(
    x800: Laboratory, said: str, state: str
) -> None:
    """What was cancelled between the order and its answer is told anew, and is no work of that message any more."""
    await x800.owner.execute(
        "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
        " select gen_random_uuid(), organization_id, 'roche_cobas5800', '70242-5/HBV', id, 'site', '2020-01-01'"
        " from lab.test where code = 'NA' and organization_id = $1", x800.organization_id,
    )  # fmt: skip
    order = await x800.order("S-2", "GLU", "NA", patient_id="P-2")
    receipt = await say(x800, QBP.replace("S-1", "S-2"))
    [ordered] = [hl7.parse(one) for one in receipt.then]
    first, second = [one.value(2) for one in ordered.all("OBR")]
    items = await x800.owner.fetch("select work_id, order_item_id from lab.dispatch")
    gone = next(row["order_item_id"] for row in items if str(row["work_id"]) == first)
    async with x800.database.transaction(x800.organization_id) as connection:
        await order_changes.cancel(connection, x800.director, order.id, "ordered twice", item_ids=[gone])
    answer = ORL.replace("S-1", "S-2").format(code="AA", of=ordered.control_id, said=said.format(id=first))
    assert (await say(x800, answer)).reply is None
    rows = await x800.owner.fetch("select work_id, kind, state from lab.dispatch")
    found = {str(row["work_id"]): (row["kind"], row["state"]) for row in rows}
    assert found[second] == ("new", state)
    assert found[first] == ("cancel", "queued"), "that it is to be taken back is still to be told"
