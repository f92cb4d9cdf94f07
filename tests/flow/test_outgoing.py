"""What a link says of itself, over real PostgreSQL: recorded before it leaves, once it arrived never again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from interface.domain.model import FollowUpKind, Protocol
from interface.driver.download import STANDARD, Download
from interface.errors import StoreUnavailable
from interface.flow import dispatches, downloads, follow_ups, menus, order_book, order_changes, review
from interface.flow.context import LinkContext
from interface.flow.downloads import Downloads
from interface.flow.intake import LinkIntake
from interface.flow.outgoing import ANSWER_S, MOST_QUERIES, LinkOutgoing
from interface.flow.speech import Speech, control_id
from interface.flow.speeches import answer_of, speech_of
from interface.link.intake import Outgoing, Sending
from interface.settings import TransportType
from interface.store import results
from interface.store.ids import uuid7
from interface.wire import hl7_reply
from tests.flow.dispatching import begin
from tests.flow.laboratory import Laboratory, frames, laboratory, message

BEGIN = datetime(2026, 1, 2, 8, tzinfo=UTC)
GLU, SODIUM = "^^^2345-7", "^^^2951-2"


@dataclass
class Line:
    """A connection of a link: what its session would do, step by step."""

    lab: Laboratory
    link: LinkContext
    speech: Speech | None = None
    peer: str = "127.0.0.1:1"
    now: datetime = BEGIN
    woken: int = 0
    sender: LinkOutgoing = field(init=False)
    intake: LinkIntake = field(init=False)
    out: Outgoing = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As after a kill: nothing is known but what the database has."""
        speech = self.speech or speech_of(self.link)
        self.sender = LinkOutgoing(self.link, self.lab.database, answer_of(self.link), speech, lambda: self.now)
        self.intake = LinkIntake(self.link, self.lab.journal, lambda: self.now, outgoing=self.sender)
        self.connect()

    def connect(self) -> None:
        made = self.intake.outgoing(self.peer, self._due)
        assert made is not None
        self.out = made

    def _due(self) -> None:
        self.woken += 1

    async def ask(self, *specimens: str, more: tuple[str, ...] = ()) -> None:
        transmission = self.intake.frames(self.peer)
        asked = [f"Q|{n}|^{one}||ALL||||||||O" for n, one in enumerate(specimens, start=1)]
        for frame in frames(["H|\\^&|||Testmaker^Bench^1||||||||LIS2-A2|20260102", *asked, *more, "L|1|N"]):
            await transmission.frame(frame)
        await transmission.end("eot")

    async def take(self) -> Sending:
        sending = await self.out.take()
        assert sending is not None
        return sending

    async def nothing(self) -> None:
        assert await self.out.take() is None

    async def deliver(self, reply: bytes | None = None) -> Sending:
        sending = await self.take()
        await self.out.told(sending, True, reply, "")
        return sending

    async def fail(self, reason: str) -> Sending:
        sending = await self.take()
        await self.out.told(sending, False, None, reason)
        return sending

    async def states(self) -> list[tuple[str, str]]:
        rows = await self.lab.owner.fetch("select kind, state from lab.dispatch order by work_id")
        return [(row["kind"], row["state"]) for row in rows]

    async def sendings(self) -> list[UUID]:
        return [row["id"] for row in await self.lab.owner.fetch("select id from lab.sending order by id")]


def orders(sending: Sending) -> list[tuple[str, str, str]]:
    """Specimen, tests and action of every O record."""
    lines = [line.split("|") for line in sending.data.decode().split("\r") if line.startswith("O|")]
    return [(line[2], line[4], line[11]) for line in lines]


@asynccontextmanager
async def line(lab: Laboratory, **settings: object) -> AsyncIterator[Line]:
    link = replace(lab.context, settings=replace(lab.context.settings, **settings))  # type: ignore[arg-type]
    if link.settings.download:
        await begin(lab, link)
    yield Line(lab, link)


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "generic_lis2") as made:
        yield made


async def test_a_query_is_answered_and_settled_before_its_answer_leaves(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU", "NA")
        woken = at.woken
        await at.ask("S-1")
        assert at.woken == woken + 1
        await lab.settle()  # the worker leaves it alone
        assert await lab.messages() == [("complete", None)]
        sending = await at.take()
        assert orders(sending) == [("S-1", f"{GLU}\\{SODIUM}", "A")]
        assert await lab.messages() == [("complete", "released")]
        assert await at.states() == [("new", "sent"), ("new", "sent")]
        assert await lab.owner.fetchval("select bytes from lab.sending where id = $1", sending.id) == sending.data
        await at.out.told(sending, True, None, "")
        assert await at.states() == [("new", "accepted"), ("new", "accepted")]
        await at.nothing()
        assert await lab.owner.fetchval("select count(*) from lab.queue") == 0
        audited = await lab.owner.fetch(
            "select actor_kind, outcome from lab.audit_event where action = 'message.settle'"
        )
        assert [tuple(row) for row in audited] == [("link", "released")]


async def test_queries_are_answered_in_their_order_each_on_its_connection(lab: Laboratory) -> None:
    async with line(lab) as at:
        other = replace(at, peer="127.0.0.1:2")
        other.sender, other.intake = at.sender, at.intake
        other.connect()
        for n in (1, 2, 3):
            await lab.order(f"S-{n}", "GLU", patient_id=f"P-{n}")
        await at.ask("S-2")
        await other.ask("S-3")
        await at.ask("S-1")
        assert [orders(await other.deliver())[0][0]] == ["S-3"]
        assert [orders(await at.deliver())[0][0] for _ in range(2)] == ["S-2", "S-1"]
        await other.nothing()


async def test_a_query_that_nobody_answered_is_settled_so_after_a_restart(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await at.ask("S-1")
        async with lab.database.system() as system:
            await results.free_all(system, [lab.organization_id])
        at.start()
        await at.nothing()
        await lab.settle()
        assert await lab.messages() == [("complete", "rejected")]
        assert await lab.owner.fetchval("select reason from lab.message") == "query_not_answered"


async def test_a_query_of_a_connection_that_went_or_that_waits_too_long_is_not_answered(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await at.ask("S-1")
        at.out.close()
        at.connect()
        await at.nothing()
        await at.ask("S-1")
        at.now += timedelta(seconds=ANSWER_S + 1)
        await at.nothing()
        assert await at.sendings() == []


async def test_more_queries_than_are_kept_forget_the_oldest(lab: Laboratory) -> None:
    async with line(lab) as at:
        connection = at.sender._connections[at.peer]
        for n in range(MOST_QUERIES + 1):
            at.sender.asked(at.peer, UUID(int=n), None)
        assert [asked.message_id.int for asked in connection.queries] == list(range(1, MOST_QUERIES + 1))


async def test_an_answer_that_did_not_arrive_goes_again_byte_for_byte_and_then_never(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await at.ask("S-1")
        first = await at.fail("contention")
        assert await at.fail("busy") == first
        assert await at.fail("timeout") == first
        assert await at.deliver() == first
        assert await at.states() == [("new", "accepted")]
        await at.nothing()
        at.start()
        await at.nothing()


async def test_an_answer_that_is_lost_with_its_line_is_asked_for_again_with_the_same_work(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await at.ask("S-1")
        first = await at.fail("lost")
        at.out.close()
        at.connect()
        await at.nothing()
        assert await at.states() == [("new", "queued")]
        await at.ask("S-1")
        second = await at.deliver()
        assert orders(second) == orders(first)
        assert await at.states() == [("new", "accepted")], "one piece of work, one work id"


@pytest.mark.parametrize("unasked", [False, True])
async def test_a_message_that_is_not_taken_fails_at_the_limit_and_a_silent_line_never_does(
    lab: Laboratory, unasked: bool
) -> None:
    async with line(lab, send_attempts=3, download=unasked) as at:
        await lab.order("S-1", "GLU")
        if not unasked:
            await at.ask("S-1")
        for _ in range(10):
            await at.fail("silent")
        for _ in range(3):
            await at.fail("refused")
        assert await at.states() == [("new", "failed")]
        await at.nothing()


async def test_a_query_with_results_beside_it_is_answered_and_its_results_decided(lab: Laboratory) -> None:
    async with line(lab) as at:
        await lab.order("S-1", "GLU")
        await lab.order("S-2", "GLU", patient_id="P-2")
        await at.ask("S-1", more=("P|1", "O|1|S-2||^^^2345-7", "R|1|^^^2345-7|5.1|mmol/L||N||F"))
        assert orders(await at.deliver()) == [("S-1", GLU, "A")]
        assert await lab.messages() == [("complete", None)]
        async with lab.database.system() as system:
            await results.free_all(system, [lab.organization_id])
        await lab.settle()
        assert len(await lab.results()) == 1


# ---- without being asked --------------------------------------------------------------------------------------------


async def test_work_is_told_once_in_order_and_what_is_taken_back_too(lab: Laboratory) -> None:
    async with line(lab, download=True) as at:
        await lab.order("S-1", "GLU")
        await lab.order("S-2", "GLU", patient_id="P-2")
        assert orders(await at.deliver()) == [("S-1", GLU, "N")]
        assert await at.states() == [("new", "accepted"), ("new", "queued")]
        assert orders(await at.deliver()) == [("S-2", GLU, "N")]
        await at.nothing()
        async with lab.database.transaction(lab.organization_id) as connection:
            number = await connection.fetchval("select number from lab.lab_order order by id limit 1")
            order_id = await connection.fetchval("select id from lab.lab_order where number = $1", number)
            await order_changes.cancel(connection, lab.director, order_id, "not wanted")
        assert orders(await at.deliver()) == [("S-1", GLU, "C")]
        assert await at.states() == [("cancel", "cancelled"), ("new", "accepted")]
        await at.nothing()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_was_recorded_and_not_sent_when_the_daemon_was_killed_goes_out_after_it(
    lab: Laboratory, cancelled: bool
) -> None:
    async with line(lab, download=True) as at:
        await lab.order("S-1", "GLU", "NA")
        killed = await at.take()  # committed; whether the bytes left nobody knows
        at.start()
        if cancelled:
            async with lab.database.transaction(lab.organization_id) as connection:
                items = await connection.fetch("select id from lab.order_item order by id")
                order_id = await connection.fetchval("select id from lab.lab_order")
                await order_changes.cancel(connection, lab.director, order_id, "not wanted", item_ids=[items[0]["id"]])
            said = [orders(await at.deliver()) for _ in range(2)]
            assert sorted(said) == [[("S-1", GLU, "C")], [("S-1", SODIUM, "N")]]
        else:
            assert await at.take() == killed, "the same bytes under the same id"
            at.start()
            assert await at.deliver() == killed
            assert await at.states() == [("new", "accepted"), ("new", "accepted")]
            assert await at.sendings() == [killed.id]
        await at.nothing()
        at.start()
        await at.nothing()


async def test_what_arrived_is_not_said_again_though_it_could_not_be_stored_at_once(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(lab, download=True) as at:
        await lab.order("S-1", "GLU")
        sending = await at.take()

        async def away(*args: object, **more: object) -> None:
            raise StoreUnavailable("the database is away")

        with monkeypatch.context() as broken:
            broken.setattr(order_book, "taken_at_once", away)
            assert await at.out.told(sending, True, None, "") is None
            with pytest.raises(StoreUnavailable):
                await at.out.take()
        await at.nothing()
        assert await at.states() == [("new", "accepted")]


async def test_two_connections_of_a_link_never_say_the_same(lab: Laboratory) -> None:
    async with line(lab, download=True) as at:
        other = replace(at, peer="127.0.0.1:2")
        other.sender, other.intake = at.sender, at.intake
        other.connect()
        await lab.order("S-1", "GLU")
        first = await at.take()
        await other.nothing()
        await at.out.told(first, False, None, "lost")
        assert await other.deliver() == first


def ack(sending: Sending, code: str, error: str = "") -> bytes:
    tail = f"ERR||OBR^1|{error}^Unknown key^HL70357|E||||Muster Maria\r" if error else ""
    return f"MSH|^~\\&|AN||Labora||2026||ORR^O02|1|P|2.5.1\rMSA|{code}|{control_id(sending.id)}\r{tail}".encode()


ORM = Download(
    new=(
        r"MSH|^~\&|Labora||AN||{now}||ORM^O01|{control_id}|P|2.3.1",
        "PID|1||{patient_id}",
        "ORC|NW|{item_id}",
        "OBR|1|{specimen_id}||{tests}",
    )
)


async def test_an_hl7_analyzer_says_of_each_message_what_becomes_of_it(lab: Laboratory) -> None:
    driver = replace(lab.context.driver, protocol=Protocol.HL7, answer=None, download=ORM)
    settings = lab.context.settings
    dialled = replace(settings.transport, type=TransportType.MLLP_DIAL)
    link = replace(
        lab.context, driver=driver, settings=replace(settings, download=True, send_attempts=2, transport=dialled)
    )
    await begin(lab, link)
    at = Line(lab, link, Downloads(ORM))
    for n in (1, 2, 3, 4):
        await lab.order(f"S-{n}", "GLU", patient_id=f"P-{n}")
    accepted = await at.take()
    assert accepted.expects_reply
    assert control_id(accepted.id).encode() in accepted.data
    await at.out.told(accepted, True, ack(accepted, "AA"), "")
    refused = await at.take()
    await at.out.told(refused, True, ack(refused, "AE", "204"), "")
    long = await at.take()
    swollen = ack(long, "AE", "204") + b"ERR|||204\r" * hl7_reply.MOST_LINES
    await at.out.told(long, True, swollen, "")
    later = await at.take()
    await at.out.told(later, True, ack(later, "CE"), "")
    assert await at.take() == later, "it could not be kept, so it goes again"
    await at.out.told(later, False, None, "timeout")
    assert [state for _, state in await at.states()] == ["accepted", "refused", "refused", "failed"]
    answers = [row["answer"] for row in await lab.owner.fetch("select answer from lab.dispatch order by work_id")]
    assert answers[:2] == ["", "AE 204"], "its codes, and nothing that names a patient"
    assert answers[2] == "AE", "what is too long is not read to its end"
    kept = await lab.owner.fetch("select bytes from lab.frame order by id")
    said = [ack(accepted, "AA"), ack(refused, "AE", "204"), swollen, ack(later, "CE")]
    assert [row["bytes"] for row in kept] == said, "as it came, before it could be acknowledged"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda link: link, False),  # it is not to be told
        (lambda link: replace(link, settings=replace(link.settings, download=True)), True),
        (lambda link: replace(link, driver=replace(link.driver, download=STANDARD)), True),  # what is taken back
        (lambda link: replace(link, driver=replace(link.driver, generic=False)), False),
    ],
)
async def test_who_is_told_without_asking(
    lab: Laboratory, change: Callable[[LinkContext], LinkContext], says: bool
) -> None:
    assert (speech_of(change(lab.context)) is not None) is says


async def test_what_is_taken_back_while_the_line_is_busy_is_not_said(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    await lab.order("S-2", "NA", patient_id="P-2")
    async with line(lab) as at:
        await at.ask("S-1")
        await at.ask(more=("Q|1|^S-1||ALL||||||||A",))
        await at.ask("S-2")
        assert b"|S-2|" in (await at.deliver()).data
        await at.nothing()
        assert await at.states() == [("new", "accepted")]


async def test_an_answer_that_waits_is_taken_back_too(lab: Laboratory) -> None:
    for number in (1, 2):
        await lab.order(f"S-{number}", "GLU", patient_id=f"P-{number}")
    async with line(lab) as at:
        await at.ask("S-1", "S-2")  # each has an answer of its own
        await at.fail("busy")
        await at.ask(more=("Q|1|^S-1||ALL||||||||A",))
        await at.nothing()
        assert await at.states() == [("new", "queued"), ("new", "queued")]


async def test_an_answer_that_waits_is_not_said_once_part_of_its_work_is_off(lab: Laboratory) -> None:
    """Else the analyzer would be ordered what was cancelled, and its taking that pass for taking the cancellation."""
    order = await lab.order("S-1", "GLU", "NA")
    async with line(lab) as at:
        await at.ask("S-1")
        await at.fail("timeout")
        glucose = [item.id for item in order.items if item.test_code == "GLU"]
        async with lab.database.transaction(lab.organization_id) as connection:
            await order_changes.cancel(connection, lab.director, order.id, "not needed", item_ids=glucose)
        await at.nothing()
        assert sorted(await at.states()) == [("cancel", "queued"), ("new", "queued")]
        await at.ask("S-1")
        assert [tests for _, tests, _ in orders(await at.deliver())] == [SODIUM]


async def test_the_second_of_two_answers_is_not_said_once_its_work_is_off(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    second = await lab.order("S-2", "GLU", patient_id="P-2")
    async with line(lab) as at:
        await at.ask("S-1", "S-2")
        assert b"|S-1|" in (await at.deliver()).data
        async with lab.database.transaction(lab.organization_id) as connection:
            await order_changes.cancel(connection, lab.director, second.id, "not needed")
        await at.nothing()


@pytest.mark.parametrize(
    ("asked", "between"),
    [(("S-1",), "tell_at_once"), (("S-1", "S-2"), "record_sent")],
    ids=["at once", "two questions"],
)
async def test_work_that_ends_in_the_moment_in_which_it_is_told_is_not_said(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], between: str
) -> None:
    """A person takes it from the analyzer between the look into the order book and the record of the message."""
    await lab.order("S-1", "GLU")
    async with line(lab) as at:
        await at.ask("S-1")
        await at.fail("lost")
        [work] = [row["id"] for row in await lab.owner.fetch("select id from lab.dispatch")]
        record = getattr(order_book, between)

        async def recorded(*given: object) -> object:
            monkeypatch.setattr(order_book, between, record)
            async with lab.database.transaction(lab.organization_id) as connection:
                await dispatches.cancel(connection, lab.director, work, "its reagent is empty")
            return await record(*given)

        monkeypatch.setattr(order_book, between, recorded)
        await at.ask(*asked)
        if between == "record_sent":
            with pytest.raises(StoreUnavailable):
                await at.out.take()
        assert orders(await at.deliver()) == []
        assert await at.states() == [("cancel", "queued")]


async def test_what_is_urgent_is_told_before_all_that_waits(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ITEMS_AT_ONCE", 2)
    for number in range(1, 8):
        await lab.order(f"S-{number}", "GLU", patient_id=f"P-{number}")
    async with line(lab, download=True) as at:
        await at.deliver()
        await at.deliver()
        urgent = await lab.order("S-9", "GLU", patient_id="P-9")
        await lab.owner.execute("update lab.lab_order set priority = 'stat' where id = $1", urgent.id)
        assert orders(await at.deliver())[0][0] == "S-9"


async def _measured(lab: Laboratory, status: str) -> UUID:
    """The analyzer has measured glucose, with this R-9; the result."""
    await lab.send(
        message("P|1", "O|1|S-1||^^^2345-7|R", f"R|1|^^^2345-7|90|mg/dL||N||{status}||||20260102080000"), end="eot"
    )
    await lab.settle()
    [view] = await lab.results()
    return view.id


@pytest.mark.parametrize("status", ["F", "X", "P"])  # final, a failed run, preliminary: the last two are held
async def test_an_analyzer_with_a_worklist_is_told_of_another_run_whatever_became_of_the_first(
    status: str, lab: Laboratory
) -> None:
    await lab.order("S-1", "GLU")
    async with line(lab, download=True) as at:
        await at.deliver()
        result_id = await _measured(lab, status)
        await at.nothing()
        async with lab.database.transaction(lab.organization_id) as connection:
            await follow_ups.request(connection, lab.director, result_id, FollowUpKind.RERUN, reason="look again")
        assert orders(await at.deliver())[0][:2] == ("S-1", GLU)
        await at.nothing()


async def test_what_a_person_discards_is_to_be_measured_and_told_again(lab: Laboratory) -> None:
    await lab.order("S-1", "GLU")
    async with line(lab, download=True) as at:
        await at.deliver()
        result_id = await _measured(lab, "P")
        await at.nothing()
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.reject(connection, lab.director, result_id, "of a tube that had clotted")
        assert orders(await at.deliver())[0][:2] == ("S-1", GLU)


async def test_a_test_that_the_code_map_names_later_is_told_then(lab: Laboratory) -> None:
    """Else what was ordered before would never be measured, and nobody be told why."""
    glucose = "select id from lab.test where code = 'GLU'"
    mapped = await lab.owner.fetchrow(f"select * from lab.code_map where test_id = ({glucose})")  # noqa: S608
    assert mapped is not None
    await lab.owner.execute("update lab.code_map set ended_at = now() where id = $1", mapped["id"])
    await lab.order("S-1", "GLU")
    async with line(lab, download=True) as at:
        await at.nothing()
        await lab.owner.execute(
            """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
               values ($1, $2, $3, $4, $5, 'site')""",
            uuid7(), lab.organization_id, mapped["driver"], mapped["code"], mapped["test_id"],
        )  # fmt: skip
        at.now += 2 * menus.KEPT
        assert orders(await at.deliver())[0][:2] == ("S-1", GLU)
