"""The worker and a database that comes and goes: nothing stays claimed by somebody who does not work on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from interface.domain.catalogue import Catalogue
from interface.domain.qc_lots import Used
from interface.errors import StoreAmbiguous, StoreUnavailable
from interface.flow import around, outcome, results
from interface.flow.context import LinkContext
from interface.flow.courtesy import PATIENCE_S, Courtesy
from interface.flow.intake import LinkIntake
from interface.flow.outcome import Surroundings
from interface.flow.work import Work
from interface.settings import LimitSettings
from interface.store import alert_conditions, conditions, ids
from interface.store import results as store
from interface.store.db import Connection
from interface.store.journal import Journal
from interface.store.results import Claim, Outcome
from interface.store.stored_messages import StoredMessage
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.store.journals import until

RECORDS = ("P|1||P-1", "O|1|S1||^^^CBC|R", "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000")


@pytest.mark.parametrize("broken", [1, 3])
async def test_what_was_claimed_when_the_database_went_away_is_due_again_at_once_and_not_counted(
    database_url: str, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """1: the messages cannot be read; 3: nor decided, nor given back."""
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(*RECORDS))
        used, away = 0, False

        def breaking(name: str) -> None:
            real = getattr(lab.database, name)

            @asynccontextmanager
            async def gone(*arguments: UUID) -> AsyncIterator[Connection]:
                nonlocal used, away
                used += name != "system"
                if away or (name != "system" and used == broken):
                    away = True  # from now on the claim cannot be given back either
                    raise StoreUnavailable("the database cannot be reached")
                async with real(*arguments) as connection:
                    yield connection

            monkeypatch.setattr(lab.database, name, gone)

        for name in ("by_index", "each_by_index", "system"):
            breaking(name)
        try:
            await lab.worker.work()
        except StoreUnavailable:
            pass
        assert away and (await lab.owner.fetchval("select not_before > now() from lab.queue")) is True
        away, used = False, broken
        assert await lab.worker.work() == 1
        assert await lab.messages() == [("complete", "released")]
        assert await lab.owner.fetchval("select attempts from lab.message") == 1


@pytest.mark.parametrize("lost", ["claim", "depth"])
async def test_nothing_overtakes_what_was_claimed_when_the_answer_was_lost(
    database_url: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The newer value of a specimen's result would be decided first, and the older one then take its place."""
    async with laboratory(database_url) as lab:
        await _specimens(lab, 1)
        real = getattr(store, lost)

        async def unheard(*arguments: object) -> None:
            await real(*arguments)
            raise StoreAmbiguous("the connection to the database was lost during a commit")

        with monkeypatch.context() as broken, pytest.raises(StoreAmbiguous):
            broken.setattr(store, lost, unheard)
            await lab.worker.work()
        assert await lab.owner.fetchval("select not_before > now() from lab.queue") is True
        record = "R|1|^^^WBC|8.8|10*3/uL||N||F||||20260102030000"
        await lab.send(message("P|1||P-1", "O|1|S1||^^^CBC|R", record, control="C2"))
        assert await lab.worker.work() == 2
        await lab.settle()
        assert [view.value for view in await lab.results()] == ["8.8"]
        assert await lab.owner.fetchval("select max(attempts) from lab.message") == 1


async def test_what_is_taken_alone_does_not_overtake_what_failed_while_it_waited(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second message has been tried before, so the first is waited for; whose deciding fails, and both go back."""
    real, real_claim = around.surroundings, store.claim
    claimed: list[int] = []
    begun: list[str] = []
    both = asyncio.Event()

    async def claiming(*arguments: Any) -> list[Claim]:
        claims = await real_claim(*arguments)
        claimed.extend(one.attempts for one in claims)
        if len(claimed) == 2:
            both.set()
        return claims

    async def failing(connection: Connection, works: list[Work]) -> Surroundings:
        begun.append(works[0].decoded.control_id)
        if len(begun) == 1:
            await both.wait()
            raise StoreUnavailable("the connection to the database was lost")
        return await real(connection, works)

    monkeypatch.setattr(store, "claim", claiming)
    monkeypatch.setattr(results, "surroundings", failing)
    async with laboratory(database_url) as lab:
        await _specimens(lab, 1, 1)
        await lab.owner.execute(
            "update lab.queue q set attempts = 1 from lab.message m where m.id = message_id and control_id = 'C1'"
        )
        await lab.worker.start([lab.organization_id])
        async with asyncio.timeout(30):
            await both.wait()
        await lab.worker.stop()
        await lab.settle()
        assert claimed[:2] == [1, 2]
        assert await _settled(lab) == ["C0", "C1"]
        assert await lab.messages() == [("complete", "released")] * 2
        assert await lab.owner.fetchval("select max(attempts) from lab.message") == 2


@pytest.mark.parametrize("most", [3, 4])
async def test_nothing_overtakes_what_a_driver_stumbles_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """What it speaks of is not known until it can be read, at the fourth attempt, or is parked at the third."""
    real = results.decode
    tried: list[str] = []

    def stumbling(message: StoredMessage, link: LinkContext) -> Work:
        tried.append(message.control_id)
        if message.control_id == "C1" and tried.count("C1") < 4:
            raise RuntimeError
        return real(message, link)

    monkeypatch.setattr(results, "decode", stumbling)
    async with laboratory(database_url, limits=LimitSettings(max_attempts=most)) as lab:
        await _specimens(lab, 1, 2, 2, 3)
        await lab.settle()
        assert (await _settled(lab))[:2] == ["C0", "C1"]
        ends = [end for _, end in await lab.messages()]
        assert ends == ["released", "parked" if most == 3 else "released", "released", "released"]
        attempts = await lab.owner.fetch("select attempts from lab.message order by id")
        assert [row["attempts"] for row in attempts] == [1, most, 1, 1]
        assert tried == ["C0", *["C1"] * most, "C2", "C3"], "nothing after it was looked at in vain"


async def test_nothing_overtakes_what_could_not_be_parked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = results.decode

    def stumbling(message: StoredMessage, link: LinkContext) -> Work:
        if message.control_id == "C0":
            raise RuntimeError
        return real(message, link)

    monkeypatch.setattr(results, "decode", stumbling)
    async with laboratory(database_url, limits=LimitSettings(max_attempts=1)) as lab:
        await _specimens(lab, 1, 1)

        async def lost(*_: object) -> None:
            raise StoreUnavailable("the connection to the database was lost")

        with monkeypatch.context() as broken:
            broken.setattr(store, "commit", lost)
            assert await lab.worker.work() == 2
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), ("complete", "released")]
        assert await _settled(lab) == ["C0", "C1"]


async def test_when_the_process_is_killed_again_and_again_only_what_was_alone_at_work_is_parked(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        for number in range(5):
            await lab.order(f"S{number}", "WBC", patient_id=f"P-{number}")
            records = (f"P|1||P-{number}", f"O|1|S{number}||^^^CBC|R", RECORDS[2])
            await lab.send(message(*records, control=f"C{number}"))
        taken = []
        for _ in range(3):  # claimed, and then the process is gone
            async with lab.database.system() as system:
                taken.append(len(await store.claim(system, 64)))
                await store.free_all(system, [lab.organization_id])
        assert taken == [5, 1, 1]
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), *[("complete", "released")] * 4]


async def test_a_message_that_waits_while_the_clock_is_put_back_does_not_wait_until_it_is_there_again(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC", patient_id="P-1")
        await lab.send(message("P|1||P-1", "O|1|S1||^^^CBC|R", RECORDS[2]))
        await lab.owner.execute("update lab.queue set not_before = not_before + interval '1 h'")
        async with lab.database.system() as system:
            assert len(await store.claim(system, 64)) == 1
            assert await store.claim(system, 64) == [], "claimed for as long as ever"


async def _specimens(lab: Laboratory, *numbers: int) -> None:
    """A message for each of these specimens, each of another patient; the first of a number orders it."""
    for at, number in enumerate(numbers):
        if number not in numbers[:at]:
            await lab.order(f"S{number}", "WBC", patient_id=f"P-{number}")
        record = f"R|1|^^^WBC|7.{at}|10*3/uL||N||F||||202601020300{at:02d}"
        await lab.send(message(f"P|1||P-{number}", f"O|1|S{number}||^^^CBC|R", record, control=f"C{at}"))


async def _settled(lab: Laboratory) -> list[str]:
    """The control ids of what is settled, the first first."""
    rows = await lab.owner.fetch("select control_id from lab.message where settled is not null order by settled_at")
    return [row["control_id"] for row in rows]


async def _transactions(lab: Laboratory) -> list[str]:
    """Which transaction settled each message, in the order of receipt."""
    return [row[0] for row in await lab.owner.fetch("select xmin::text from lab.message order by id")]


async def test_what_waits_is_not_overtaken_after_a_start_whose_clock_is_behind(
    founded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time server has put it back since, or another machine took the links over: what is sent then has come later."""
    async with laboratory(founded_url) as lab:
        await lab.order("S1", "WBC")
        real = time.time_ns
        monkeypatch.setattr(ids, "_last_ms", -1)  # of this test alone: ids are not ahead in those that follow
        monkeypatch.setattr(time, "time_ns", lambda: real() + 60 * 10**9)
        for value, start in (("7.0", False), ("8.0", True)):
            if start:
                monkeypatch.undo()
                monkeypatch.setattr(ids, "_last_ms", -1)  # another process
                journal = Journal(
                    lab.database, lab.organization_id, resend_window_s=60, commit_wait_s=10, wake=lab.worker.wake
                )
                await journal.start()
                lab.intake = LinkIntake(lab.context, journal)
            records = ("P|1", "O|1|S1||^^^WBC", f"R|1|^^^WBC|{value}|10*3/uL||N||F||||20260102030405")
            await lab.send(message(*records, control=value))
        await lab.settle()
        await journal.stop()
        [result] = await lab.results()
        assert result.value == "8.0"


async def test_what_is_dated_ahead_is_not_taken_for_what_has_just_come(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what comes within a day after a start that goes on after it: while links send without an end it would be
    decided in a fiftieth of the time, however long it has waited."""
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        waited: list[float] = []
        turn = Courtesy.turn

        async def noted(own: Courtesy, waited_s: float, work: Callable[[], Awaitable[object]]) -> object:
            waited.append(waited_s)
            return await turn(own, waited_s, work)

        monkeypatch.setattr(Courtesy, "turn", noted)
        with monkeypatch.context() as then:
            real = time.time_ns
            then.setattr(ids, "_last_ms", -1)
            then.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
            await lab.send(message(*RECORDS))
        await lab.owner.execute("update lab.queue set not_before = now() - interval '10 minutes'")
        async with lab.database.system() as system:
            server = await conditions.of_server(system)
        assert server.oldest_waiting_at is not None
        assert timedelta(minutes=10) <= server.now - server.oldest_waiting_at < timedelta(minutes=11)
        await lab.settle()
        assert [settled for _, settled in await lab.messages()] == ["released"]
        assert waited and min(waited) >= PATIENCE_S


async def test_messages_of_different_specimens_are_decided_in_one_transaction_and_those_of_one_in_their_order(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await _specimens(lab, 1, 2, 3, 2)
        await lab.settle()
        one, two, three, again = await _transactions(lab)
        assert one == two == three != again
        seconds = [view.value for view in await lab.results() if view.barcode == "S2"]
        assert seconds == ["7.1", "7.3"]


async def test_of_a_batch_only_the_message_that_cannot_be_decided_is_parked(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outcome.outcome_of

    def stumbling(work: Work, catalogue: Catalogue, *around: object) -> Outcome:
        if work.decoded.control_id == "C1":
            raise ZeroDivisionError
        return real(work, catalogue, *around)  # type: ignore[arg-type]

    monkeypatch.setattr(results, "outcome_of", stumbling)
    async with laboratory(database_url, limits=LimitSettings(max_attempts=2)) as lab:
        await _specimens(lab, 1, 2, 3)
        await lab.settle()
        assert await lab.messages() == [("complete", "released"), ("complete", "parked"), ("complete", "released")]
        attempts = await lab.owner.fetch("select attempts from lab.message order by id")
        assert [row["attempts"] for row in attempts] == [1, 2, 1]
        assert [view.barcode for view in await lab.results()] == ["S1", "S3"]


@pytest.mark.parametrize("code", ["XX001", "XX002", "58030"], ids=["table", "index", "disk"])
async def test_a_message_that_the_database_cannot_read_is_parked_and_the_others_are_decided(
    founded_url: str, code: str
) -> None:
    """A page of its frames is damaged. Nothing of any laboratory was decided any more, for as long as it was so."""
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=2)) as lab:
        await _specimens(lab, 1, 2, 3)
        damaged = await lab.owner.fetchval("select id from lab.message order by id offset 1 limit 1")
        await lab.owner.execute(
            f"""create function lab.damaged(id uuid) returns boolean language plpgsql as $$ begin
                if id = '{damaged}' then raise 'invalid page in block 7' using errcode = '{code}'; end if; return true;
            end $$;
            create policy damaged on lab.frame as restrictive for select using (lab.damaged(message_id))"""
        )
        await lab.worker.start([lab.organization_id])

        async def decided() -> bool:
            return await lab.messages() == [("complete", "released"), ("complete", "parked"), ("complete", "released")]

        await until(decided)
        await lab.worker.stop()
        assert [view.barcode for view in await lab.results()] == ["S1", "S3"]


async def test_nor_does_one_whose_own_page_is_damaged_keep_the_others_waiting(founded_url: str) -> None:
    """That it is parked cannot be written either. All that was claimed with it was given back, again and again."""
    async with laboratory(founded_url) as lab:
        await _specimens(lab, 1, 2, 3)
        damaged = await lab.owner.fetchval("select id from lab.message order by id offset 1 limit 1")
        await lab.owner.execute(
            f"""create function lab.damaged(id uuid) returns boolean language plpgsql as $$ begin
                if id = '{damaged}' then raise 'invalid page in block 7' using errcode = 'XX001'; end if; return true;
            end $$;
            create policy damaged on lab.message as restrictive for select using (lab.damaged(id))"""
        )
        await lab.worker.start([lab.organization_id])

        async def decided() -> bool:
            return await lab.messages() == [("complete", "released"), ("complete", None), ("complete", "released")]

        await until(decided)
        await lab.worker.stop()
        waits = await lab.owner.fetchrow("select attempts, not_before > now() as later from lab.queue")
        assert waits is not None and tuple(waits) == (0, True), "it is tried again, once its claim has ended"
        async with lab.database.organization(lab.organization_id) as connection:
            amount = await alert_conditions.backlog(connection, lab.organization_id)
        assert (amount.number, amount.oldest is not None) == (1, True), "and somebody is told that it waits"


@pytest.mark.parametrize("all_of_it", [False, True])
async def test_what_the_disk_does_not_give_of_one_result_keeps_no_other_from_being_decided(
    founded_url: str, monkeypatch: pytest.MonkeyPatch, all_of_it: bool
) -> None:
    """A page of what is read or written beside the frames. It counted for an outage: the message was given back without
    counting, with all that were claimed beside it, and nothing of any laboratory was decided any more. Where nothing is
    given it is one: no message is to blame."""
    monkeypatch.setattr(results, "RETRY_S", 0.01)
    async with laboratory(founded_url, limits=LimitSettings(max_attempts=2)) as lab:
        await _specimens(lab, 1, 2, 3)
        said = "true" if all_of_it else "new.specimen_as_sent = 'S2'"
        await lab.owner.execute(
            f"""create function lab.damaged() returns trigger language plpgsql as $$ begin
                raise 'could not read block 7' using errcode = '58030'; end $$;
            create trigger damaged before insert on lab.result_version for each row when ({said})
                execute function lab.damaged()"""
        )
        with capture_logs() as logs:
            await lab.worker.start([lab.organization_id])

            async def decided() -> bool:
                if all_of_it:
                    return len([one for one in logs if one["event"] == "batch not decided"]) > 2
                return [settled for _, settled in await lab.messages()] == ["released", "parked", "released"]

            await until(decided)
            await lab.worker.stop()
        if all_of_it:
            assert await lab.messages() == [("complete", None)] * 3
        else:
            assert [view.barcode for view in await lab.results()] == ["S1", "S3"]


async def test_nor_does_one_that_was_tried_before_this_start(founded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been tried before is taken alone: no other was decided meanwhile, by which it could have counted, and
    none was ever decided. A power cut leaves both, an attempt and a damaged page."""
    monkeypatch.setattr(results, "RETRY_S", 0.01)
    async with laboratory(founded_url) as lab:
        await _specimens(lab, 1, 2)
        await lab.owner.execute(
            "update lab.queue set attempts = 1 where message_id = (select min(message_id::text)::uuid from lab.queue)"
        )
        await lab.owner.execute(
            """create function lab.damaged() returns trigger language plpgsql as $$ begin
                raise 'could not read block 7' using errcode = '58030'; end $$;
            create trigger damaged before insert on lab.result_version for each row
                when (new.specimen_as_sent = 'S1') execute function lab.damaged()"""
        )
        await lab.worker.start([lab.organization_id])

        async def decided() -> bool:
            return [settled for _, settled in await lab.messages()] == ["parked", "released"]

        await until(decided)
        await lab.worker.stop()


async def test_of_a_batch_of_which_one_message_is_settled_meanwhile_the_others_are_decided(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = around.surroundings
    async with laboratory(database_url) as lab:

        async def overtaken(connection: Connection, works: list[Work]) -> Surroundings:
            if len(works) > 1:  # another worker, whose claim had run out, is faster
                await lab.owner.execute("delete from lab.queue where message_id = $1", works[1].message.id)
            return await real(connection, works)

        monkeypatch.setattr(results, "surroundings", overtaken)
        await _specimens(lab, 1, 2, 3)
        await lab.settle()
        assert await lab.messages() == [("complete", "released"), ("complete", None), ("complete", "released")]
        assert [view.barcode for view in await lab.results()] == ["S1", "S3"]


async def test_batches_are_decided_one_after_the_other_so_that_one_is_committed_meanwhile(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "BATCH_MESSAGES", 2)
    real, real_used = outcome.outcome_of, around.used_by
    order: list[str] = []
    arrived = 0
    both = asyncio.Event()

    async def arriving(connection: Connection, *around: object) -> Used | None:
        nonlocal arrived
        used = await real_used(connection, *around)  # type: ignore[arg-type]
        arrived += 1
        if arrived == 2:
            both.set()
        return used

    async def deciding(of: StoredMessage, work: Callable[..., object], *arguments: object) -> object:
        if work is real:
            order.append(of.control_id)
            if len(order) == 1:  # the other batch is there, and would have many chances
                async with asyncio.timeout(30):
                    await both.wait()
                for _ in range(50):
                    await asyncio.sleep(0)
        return work(*arguments)

    monkeypatch.setattr(results, "used_by", arriving)
    monkeypatch.setattr(results, "_aside", deciding)
    async with laboratory(database_url) as lab:
        await _specimens(lab, 1, 2, 3, 4)
        await lab.settle()
        assert sorted([order[:2], order[2:]]) == [["C0", "C1"], ["C2", "C3"]]
        assert len(set(await _transactions(lab))) == 2


async def test_what_was_ordered_at_once_goes_first_where_a_claim_is_more_than_one_batch(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "BATCH_MESSAGES", 1)
    async with laboratory(database_url, limits=LimitSettings(workers=1)) as lab:
        await _specimens(lab, 1, 2, 3)
        await lab.owner.execute(
            "update lab.lab_order o set priority = 'stat' from lab.specimen s"
            " where s.order_id = o.id and s.barcode = 'S3'"
        )
        await lab.settle()
        settled = await lab.owner.fetch("select control_id from lab.message order by settled_at")
        assert [row["control_id"] for row in settled] == ["C2", "C0", "C1"]


@pytest.mark.parametrize("same", [True, False])
async def test_the_next_window_is_decided_meanwhile_but_for_what_must_come_after(
    database_url: str, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """The first message's deciding stops; the second, claimed after it, is of the same specimen or of another."""
    monkeypatch.setattr(results, "CLAIM_MESSAGES", 1)
    real_decode, real = results.decode, around.surroundings
    decoded: list[str] = []
    settled: list[str] = []
    second, go_on = asyncio.Event(), asyncio.Event()

    def decoding(message: StoredMessage, link: LinkContext) -> Work:
        decoded.append(message.control_id)
        if same and len(decoded) == 2:
            second.set()
        return real_decode(message, link)

    async def stopping(connection: Connection, works: list[Work]) -> Surroundings:
        name = works[0].decoded.control_id
        if name == "C0":
            await go_on.wait()
        settled.append(name)
        if not same and name == "C1":
            second.set()
        return await real(connection, works)

    monkeypatch.setattr(results, "decode", decoding)
    monkeypatch.setattr(results, "surroundings", stopping)
    async with laboratory(database_url) as lab:
        await _specimens(lab, *((1, 1) if same else (1, 2)))
        await lab.worker.start([lab.organization_id])
        async with asyncio.timeout(30):
            await second.wait()
        assert settled == ([] if same else ["C1"])
        go_on.set()
        await lab.worker.stop()
        assert settled == (["C0", "C1"] if same else ["C1", "C0"])
        assert [settled for _, settled in await lab.messages()] == ["released"] * 2


@pytest.mark.parametrize(
    ("number", "tried", "expected"),
    [
        (5, [], [1, 4, 0]),
        (8, [], [1, 4, 3, "together", 0]),
        (15, [], [1, 4, 5, 5, 0]),
        (3, ["C0", "C1", "C2"], [1, 1, 1, 0]),  # each of them alone: that there are few says nothing
    ],
)
async def test_four_times_as_many_are_claimed_each_time_and_what_comes_after_the_queue_was_emptied_together(
    database_url: str, monkeypatch: pytest.MonkeyPatch, number: int, tried: list[str], expected: list[int | str]
) -> None:
    real, seen, done = store.claim, list[int | str](), asyncio.Event()

    async def claiming(*arguments: Any) -> list[Claim]:
        claims = await real(*arguments)
        seen.append(len(claims))
        if not claims:
            done.set()
        return claims

    async def together(self: Courtesy, since: float) -> None:
        seen.append("together")

    monkeypatch.setattr(results, "CLAIM_MESSAGES", 5)
    monkeypatch.setattr(results, "FIRST_MESSAGES", 1)
    monkeypatch.setattr(store, "claim", claiming)
    monkeypatch.setattr(Courtesy, "gather", together)
    async with laboratory(database_url) as lab:
        await _specimens(lab, *range(number))
        await lab.owner.execute(
            "update lab.queue q set attempts = 1 from lab.message m where m.id = message_id and control_id = any($1)",
            tried,
        )
        await lab.worker.start([lab.organization_id])
        async with asyncio.timeout(30):
            await done.wait()
        await lab.worker.stop()
        assert seen == expected
