"""Retention deletes what was kept long enough, and nothing that somebody still waits for, holds or was not told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.review import ReviewError
from interface.domain.views import Actor, ActorKind
from interface.flow import alerting, holds
from interface.ops.retention import Proven, deleted, months_before
from interface.settings import RetentionSettings
from interface.store import alert_messages, audit, audit_chain, changes, partitions, retention
from interface.store.alert_messages import NewMessage, Receiver
from interface.store.audit_chain import Tampering, Verdict
from interface.store.holds import HoldKind, standing
from interface.store.ids import uuid7, uuid7_floor
from interface.store.retention import Deleted, Kind
from tests.cluster import owner_of
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.store import sealing
from tests.store.lived import every_day

pytestmark = pytest.mark.usefixtures("lived")
LATER = datetime.now(UTC) + timedelta(days=5 * 366)  # everything that a test stores is old then
EVERYTHING = RetentionSettings(1, 1, 1, 1, 1, 1)
NOTHING = RetentionSettings(0, 0, 0, 0, 0, 0)


@pytest.fixture
def lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something was stored on every day until LATER."""
    monkeypatch.setattr(retention, "lived_days", every_day)


@pytest.fixture
async def lab(founded_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(founded_url) as made:
        yield made


async def swept(
    lab: Laboratory, settings: RetentionSettings, *, dry_run: bool = False, now: datetime = LATER
) -> list[Deleted]:
    url = owner_of(lab.database.url)
    return [one async for one in deleted(url, settings, now, dry_run=dry_run)]


async def result(lab: Laboratory, barcode: str, *, ordered: tuple[str, ...] = ("WBC",), patient: str = "P-1") -> UUID:
    """A released result of a specimen; the id of its message."""
    if ordered:
        await lab.order(barcode, *ordered, patient_id=patient)
    text = (f"P|1||{patient}", f"O|1|{barcode}||^^^WBC", "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030405")
    receipt = await lab.send(message(*text, control=barcode))
    await lab.settle()
    assert receipt.message_id is not None
    return receipt.message_id


async def release(lab: Laboratory, message_id: UUID) -> None:
    await lab.release(
        await lab.owner.fetchval("select result_id from lab.result_version where message_id = $1", message_id)
    )


async def frames(lab: Laboratory) -> set[UUID]:
    """The messages that have frames."""
    return {row["message_id"] for row in await lab.owner.fetch("select distinct message_id from lab.frame")}


async def hold(lab: Laboratory, kind: HoldKind, name: str) -> UUID:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await holds.add(connection, lab.director, kind, name, "a lawsuit")


async def test_open_and_held_messages_keep_their_frames_until_they_are_neither(lab: Laboratory) -> None:
    done, waits, ward, of_held, order_held = [
        await result(lab, barcode, ordered=ordered, patient=patient)
        for barcode, ordered, patient in (
            ("A", ("WBC",), "P-1"), ("B", ("WBC",), "P-1"), ("C", ("WBC", "NA"), "P-1"), ("D", ("WBC",), "P-2"),
            ("E", ("WBC",), "P-3"),
        )
    ]  # fmt: skip
    for each in (done, ward, of_held, order_held):
        await release(lab, each)
    parked = await result(lab, "F")
    await release(lab, parked)
    await lab.owner.execute("update lab.message set settled = 'parked' where id = $1", parked)
    unordered = await result(lab, "X", ordered=())  # held: no order
    empty = (await lab.send(message("C|1|L|a comment alone", control="G"))).message_id
    await lab.settle()
    queued = (await lab.send(message("P|1", "O|1|Q||^^^WBC", "R|1|^^^WBC|1|10*3/uL||N||F", control="Q"))).message_id
    cut = await lab.send(message("P|1", "O|1|R||^^^WBC", control="R")[:-1], end="timeout")
    assert empty is not None and queued is not None
    assert cut is not None
    patient = await lab.owner.fetchval("select patient_id from lab.specimen where barcode = 'D'")
    number = await lab.owner.fetchval(
        "select number from lab.lab_order o join lab.specimen s on s.order_id = o.id where s.barcode = 'E'"
    )
    held = [await hold(lab, HoldKind.PATIENT, str(patient)), await hold(lab, HoldKind.ORDER, number)]

    before = await frames(lab)
    said = await swept(lab, RetentionSettings(1, 0, 0, 0, 0, 0), dry_run=True)
    assert await frames(lab) == before and [one.kind for one in said] == [Kind.FRAMES]
    assert await swept(lab, RetentionSettings(1, 0, 0, 0, 0, 0)) == said
    gone = before - await frames(lab)
    assert done in gone
    assert not gone & {waits, ward, of_held, order_held, parked, unordered, queued}
    assert await lab.owner.fetchval("select count(*) from lab.message where id = $1", done) == 1  # what it came to
    homes = await lab.owner.fetch("select distinct tableoid::regclass::text as name from lab.frame")
    assert [row["name"] for row in homes] == ["lab.frame_default"]
    told = await lab.owner.fetchval(
        "select detail from lab.audit_event where action = 'delete' and entity_kind = 'frame'"
    )
    assert (int(told["rows"]), int(told["kept"])) == (said[0].rows, said[0].kept)

    async with lab.database.transaction(lab.organization_id) as connection:
        assert [one.subject for one in await standing(connection)] == [str(patient), number]
        for each in held:
            await holds.remove(connection, lab.director, each, "settled out of court")
    await release(lab, waits)
    await lab.owner.execute(
        "update lab.order_item set status = 'cancelled' where status not in ('completed', 'verified')"
    )
    await swept(lab, RetentionSettings(1, 0, 0, 0, 0, 0))
    gone = before - await frames(lab)
    assert {done, waits, of_held, order_held, ward} <= gone and not gone & {parked, unordered, queued}


async def test_a_month_is_there_or_gone(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed in the middle is rolled back: the month is attached, and whole."""
    await release(lab, await result(lab, "A"))
    before = await frames(lab)

    async def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_told", killed)
        with pytest.raises(KeyboardInterrupt):
            await swept(lab, EVERYTHING)
    assert await frames(lab) == before
    await swept(lab, RetentionSettings(1, 0, 0, 0, 0, 0))
    assert await frames(lab) == set()


async def test_a_month_of_which_all_must_stay_is_left_where_it_is(lab: Laboratory) -> None:
    """Each night one was moved, row by row, while every link waited to store what it received; and then no older one
    was looked at."""
    older, newer = await result(lab, "A"), await result(lab, "B", patient="P-2")
    for each in (older, newer):
        await release(lab, each)
    coming = months_before(datetime.now(UTC), -1) + timedelta(days=1)
    for number, row in enumerate(await lab.owner.fetch("select id from lab.frame where message_id = $1", newer)):
        id = UUID(int=uuid7_floor(coming).int + number)
        await lab.owner.execute("update lab.frame set id = $1 where id = $2", id, row["id"])
    number = await lab.owner.fetchval(
        "select number from lab.lab_order o join lab.specimen s on s.order_id = o.id where s.barcode = 'A'"
    )
    await hold(lab, HoldKind.ORDER, number)
    where = "select distinct tableoid::regclass::text from lab.frame where message_id = $1"
    at = await lab.owner.fetchval(where, older)
    only = RetentionSettings(1, 0, 0, 0, 0, 0)
    planned = await swept(lab, only, dry_run=True)
    stays, gone = await swept(lab, only)
    assert [stays, gone] == planned
    assert (stays.rows, stays.kept > 0, stays.why) == (0, True, "all of it must stay")
    assert gone.rows > 0 and await frames(lab) == {older}
    assert await lab.owner.fetchval(where, older) == at != "lab.frame_default"
    assert [one.why for one in await swept(lab, only)] == ["all of it must stay"]


async def test_a_month_of_which_much_must_stay_is_not_moved_either(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold on one laboratory, and another beside it of which the month may go: all that is held was moved, while
    every link of both waited."""
    monkeypatch.setattr(retention, "MOST_MOVED", 0)
    held, gone = await result(lab, "A"), await result(lab, "B", patient="P-2")
    for each in (held, gone):
        await release(lab, each)
    number = await lab.owner.fetchval(
        "select number from lab.lab_order o join lab.specimen s on s.order_id = o.id where s.barcode = 'A'"
    )
    kept = await hold(lab, HoldKind.ORDER, number)
    where = "select distinct tableoid::regclass::text from lab.frame where message_id = $1"
    at = await lab.owner.fetchval(where, held)
    only = RetentionSettings(1, 0, 0, 0, 0, 0)
    planned = await swept(lab, only, dry_run=True)
    assert await swept(lab, only) == planned
    assert [(one.rows > 0, one.kept > 0, one.why) for one in planned] == [(True, True, "")]
    assert await frames(lab) == {held} and await lab.owner.fetchval(where, held) == at
    told = await lab.owner.fetchval("select detail from lab.audit_event where action = 'delete'")
    assert (int(told["rows"]), int(told["kept"])) == (planned[0].rows, planned[0].kept)
    assert [one.why for one in await swept(lab, only)] == ["all of it must stay"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await holds.remove(connection, lab.director, kept, "settled out of court")
    await swept(lab, only)
    assert await frames(lab) == set()
    assert await lab.owner.fetchval("select to_regclass($1) is null", at)


async def test_a_run_takes_one_month_however_far_the_clock_is_ahead(lab: Laboratory) -> None:
    older, newer = await result(lab, "A"), await result(lab, "B", patient="P-2")
    for each in (older, newer):
        await release(lab, each)
    coming = months_before(datetime.now(UTC), -1) + timedelta(days=1)
    for number, row in enumerate(await lab.owner.fetch("select id from lab.frame where message_id = $1", newer)):
        id = UUID(int=uuid7_floor(coming).int + number)
        await lab.owner.execute("update lab.frame set id = $1 where id = $2", id, row["id"])
    only = RetentionSettings(1, 0, 0, 0, 0, 0)
    assert len(await swept(lab, only, dry_run=True)) == 2
    for left in ({newer}, set[UUID]()):
        assert len(await swept(lab, only)) == 1
        assert await frames(lab) == left


async def test_nothing_is_deleted_that_is_young_or_kept_for_ever(lab: Laboratory) -> None:
    await release(lab, await result(lab, "A"))
    before = await frames(lab)
    assert await swept(lab, EVERYTHING, now=datetime.now(UTC)) == []
    assert await swept(lab, NOTHING) == []
    assert await frames(lab) == before
    assert months_before(datetime(2026, 3, 31, 23, tzinfo=UTC), 4) == datetime(2025, 11, 1, tzinfo=UTC)


# ---- how old something is -------------------------------------------------------------------------------------------


DAY = timedelta(days=1)


async def since(now: datetime, wanted: datetime, *days: datetime) -> datetime:
    async def drawn() -> AsyncIterator[datetime]:
        for day in days:
            yield day

    return await Proven(now, drawn()).since(wanted)


async def test_a_silence_makes_nothing_older_than_a_week_does() -> None:
    now = datetime(2026, 11, 26, 14, tzinfo=UTC)
    today = retention.day_of(now)
    weekdays = [day for day in (today - DAY * number for number in range(1000)) if day.weekday() < 5]
    wanted = now - 90 * DAY
    assert await since(now, wanted, *weekdays) == wanted, "weekends are no silence"
    assert await since(now, now - 7 * DAY) == now - 7 * DAY, "nothing was ever stored: a week is believed"
    assert (await since(now, now - 8 * DAY)).year == 1970
    ahead = now + 365 * DAY
    assert await since(ahead, ahead - 90 * DAY, ahead - 14 * timedelta(hours=1), *weekdays) > now - 90 * DAY
    assert await since(ahead, ahead - 90 * DAY, *weekdays) == today - 83 * DAY, "a year of silence is a week"
    closed = [today, today - DAY, *(day - 20 * DAY for day in weekdays)]
    assert await since(now, now - 90 * DAY, *closed) < now - 100 * DAY


async def test_a_clock_that_is_a_year_ahead_deletes_nothing(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once something was stored by that clock."""
    monkeypatch.undo()
    await release(lab, await result(lab, "A"))
    await sealed(lab, 3)
    client = await lab.owner.fetchval(
        "insert into lab.client (id, organization_id, name) values ($1, $2, 'emr') returning id",
        uuid4(), lab.organization_id,
    )  # fmt: skip
    ended = datetime.now(UTC)
    await lab.owner.execute(
        "insert into lab.access_token (token_hash, organization_id, expires_at) values ('t', $1, $2)",
        lab.organization_id, ended,
    )  # fmt: skip
    await lab.owner.execute(
        """insert into lab.export_job (id, organization_id, client_id, state, request, level, files, ended_at)
           values ($1, $2, $3, 'completed', '', 'system', '[]', $4)""",
        uuid4(), lab.organization_id, client, ended,
    )  # fmt: skip
    ahead = ended + 400 * DAY
    await lab.owner.execute(
        "insert into lab.audit_event (id, organization_id, at, actor_kind, actor_name, action, entity_kind)"
        " values ($1, $2, $3, 'setup', 'x', 'x', 'x')",
        uuid7(int(ahead.timestamp() * 1000) - 1000), lab.organization_id, ahead,
    )  # fmt: skip
    assert await swept(lab, RetentionSettings(2, 2, 2, 30, 30, 30), now=ahead) == []
    lived = [ahead + DAY * number for number in range(0, 120, 5)]  # the clock was right: time goes on
    for at in lived:
        await lab.owner.execute(
            "insert into lab.audit_event (id, organization_id, at, actor_kind, actor_name, action, entity_kind)"
            " values ($1, $2, $3, 'setup', 'x', 'x', 'x')",
            uuid7(int(at.timestamp() * 1000)), lab.organization_id, at,
        )  # fmt: skip
    said = await swept(lab, RetentionSettings(2, 2, 2, 30, 30, 30), now=lived[-1])
    assert {one.kind for one in said} >= {Kind.FRAMES, Kind.EXPORTS, Kind.TOKENS}


# ---- the audit trail ------------------------------------------------------------------------------------------------


async def sealed(lab: Laboratory, rows: int) -> audit_chain.Head:
    async with lab.database.transaction(lab.organization_id) as connection:
        actor = Actor(ActorKind.USER, uuid4(), "vera", lab.organization_id)
        for _ in range(rows):
            await audit.record(connection, actor, "release", "result", uuid4())
    head = (await sealing.sealed(lab.database, lab.organization_id)).head
    assert head is not None
    return head


async def verified(lab: Laboratory, *kept: audit_chain.Head) -> Verdict:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await audit_chain.verify(connection, lab.organization_id, kept)


AUDIT = RetentionSettings(0, 1, 0, 0, 0, 0)


async def test_what_is_left_of_an_audit_trail_can_be_verified(lab: Laboratory) -> None:
    [unsealed] = await swept(lab, AUDIT)
    assert (unsealed.rows, unsealed.why) == (0, "it is not sealed")
    early, middle, last = await sealed(lab, 5), await sealed(lab, 3), await sealed(lab, 2)
    held = await hold(lab, HoldKind.ORGANIZATION, "")
    [stays] = await swept(lab, AUDIT)
    assert (stays.rows, stays.why) == (0, "a legal hold stands")
    async with lab.database.transaction(lab.organization_id) as connection:
        await holds.remove(connection, lab.director, held, "over")
    newest = await sealed(lab, 1)
    before = (await verified(lab)).rows
    [done] = await swept(lab, AUDIT)
    assert done.rows > 0 and done.kept > 0
    verdict = await verified(lab, early, middle, last, newest)
    assert verdict.findings == () and verdict.anchor is not None
    assert verdict.rows < before and verdict.anchor.number < newest.number
    assert (await sealed(lab, 2)).number > newest.number  # and it goes on
    assert (await verified(lab, newest)).findings == ()

    assert [one.what for one in (await verified(lab, early)).findings] == [Tampering.HEAD], "it proves nothing any more"

    # Who deletes, and puts an anchor there for it, is found: no row of the trail says so.
    head = (await verified(lab)).head
    assert head is not None
    await lab.owner.execute(
        "delete from lab.audit_event where position < (select max(ended_position) from lab.audit_segment)"
    )
    await lab.owner.execute(
        """insert into lab.audit_anchor (organization_id, number, digest, ended_position, ended_id, sealed_at, rows)
           select organization_id, number, digest, ended_position, ended_id, sealed_at, 0 from lab.audit_segment
           order by number desc limit 1"""
    )
    await lab.owner.execute("delete from lab.audit_segment where number <= (select max(number) from lab.audit_anchor)")
    assert [each.what for each in (await verified(lab)).findings] == [Tampering.MISSING]


async def test_a_trail_that_is_made_anew_behind_a_forged_beginning_does_not_pass_an_old_head(lab: Laboratory) -> None:
    """Whoever can do everything in the database also writes the row that tells of a deletion."""
    kept, forged = await sealed(lab, 3), audit_chain.Head(1_000_000, b"x" * 32)
    for text in ("delete from lab.audit_event", "delete from lab.audit_segment"):
        await lab.owner.execute(text)
    await lab.owner.execute(
        """insert into lab.audit_anchor (organization_id, number, digest, ended_position, ended_id, sealed_at, rows)
           values ($1, $2, $3, 0, '00000000-0000-0000-0000-000000000000', now(), 0)""",
        lab.organization_id, forged.number, forged.digest,
    )  # fmt: skip
    async with lab.database.transaction(lab.organization_id) as connection:
        actor = Actor(ActorKind.USER, uuid4(), "eve", lab.organization_id)
        await audit.record(connection, actor, "delete", "audit_event", None, {"anchor": str(forged)})
    assert [one.what for one in (await verified(lab, kept)).findings] == [Tampering.HEAD]


async def test_an_anchor_alone_hides_nothing(lab: Laboratory) -> None:
    await sealed(lab, 3)
    await sealed(lab, 3)
    await lab.owner.execute(
        """insert into lab.audit_anchor (organization_id, number, digest, ended_position, ended_id, sealed_at, rows)
           select organization_id, number, digest, ended_position, ended_id, sealed_at, 0 from lab.audit_segment
           order by number limit 1"""
    )
    found = {each.what for each in (await verified(lab)).findings}
    assert {Tampering.MISSING, Tampering.INSERTED, Tampering.BROKEN} <= found


async def clock_says(lab: Laboratory, at: datetime) -> None:
    """What the server's clock says is the time for whoever looks where `by_that_clock` does."""
    await lab.owner.execute("create schema if not exists wrong; grant usage on schema wrong to public")
    await lab.owner.execute(
        "create or replace function wrong.clock_timestamp() returns timestamptz language sql"
        f" as $$select '{at.isoformat()}'::timestamptz$$"
    )


BY_THAT_CLOCK = "set local search_path = wrong, pg_catalog"


async def sealed_at(lab: Laboratory, at: datetime) -> audit_chain.Head:
    """A row of a moment, sealed then, as the server's clock has it."""
    await lab.owner.execute(
        "insert into lab.audit_event (id, organization_id, at, actor_kind, actor_name, action, entity_kind)"
        " values ($1, $2, $3, 'setup', 'x', 'x', 'x')",
        uuid7(int(at.timestamp() * 1000)), lab.organization_id, at,
    )  # fmt: skip
    await clock_says(lab, at)
    head = (await sealing.sealed(lab.database, lab.organization_id, first=BY_THAT_CLOCK)).head
    assert head is not None
    return head


async def test_a_clock_that_was_wrong_for_a_while_takes_no_young_audit_rows_and_keeps_no_old_ones(
    lab: Laboratory,
) -> None:
    """It was behind after a start without a battery, until a time server answered; and once it was years ahead."""
    now = datetime.now(UTC)
    await partitions.ensure(lab.owner, now - DAY * 400, ahead=0)
    await sealed_at(lab, now - DAY * 400)
    await sealed_at(lab, now + DAY * 10_000)
    old = await sealed_at(lab, now - DAY * 399)
    young = [await sealed_at(lab, now - DAY * 10) for _ in range(2)]
    await sealed_at(lab, datetime(2020, 1, 1, tzinfo=UTC))
    young.append(await sealed_at(lab, now - DAY))
    [done] = await swept(lab, AUDIT, now=now)
    assert done.rows > 0
    verdict = await verified(lab, old, *young)
    assert {one.what for one in verdict.findings} <= {Tampering.BACKDATED} and verdict.anchor == old


# ---- what goes row by row -------------------------------------------------------------------------------------------


async def test_a_clock_that_was_behind_for_a_while_makes_no_hole_in_the_feed(lab: Laboratory) -> None:
    """Who follows it would go on behind the hole and never know."""
    now = datetime.now(UTC)
    ends: list[int] = []
    wrong = (now + DAY * 10_000, datetime(2020, 1, 1, tzinfo=UTC))
    for at in (now - DAY * 400, wrong[0], now - DAY * 399, now - DAY * 2, wrong[1], now - DAY):
        await release(lab, await result(lab, str(len(ends))))
        await clock_says(lab, at)
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute(BY_THAT_CLOCK)
            await changes.seal(connection, lab.organization_id)
            ends.append(await changes.last_position(connection))
    await swept(lab, RetentionSettings(0, 0, 1, 0, 0, 0), now=now)
    left = [row["seq"] for row in await lab.owner.fetch("select seq from lab.outbox order by seq")]
    assert left == list(range(ends[2] + 1, ends[-1] + 1))


async def test_a_clock_that_is_behind_deletes_nothing_of_the_feed(lab: Laboratory) -> None:
    """A machine without a battery looks a quarter of an hour after its start, perhaps before a time server answers."""
    for number in range(3):
        await release(lab, await result(lab, str(number)))
    await clock_says(lab, datetime.now(UTC) + DAY * 400)
    async with lab.database.transaction(lab.organization_id) as connection:
        await connection.execute(BY_THAT_CLOCK)
        await changes.seal(connection, lab.organization_id)
    assert await swept(lab, RetentionSettings(0, 0, 1, 0, 0, 0), now=datetime.now(UTC)) == []


async def test_the_feed_keeps_what_a_subscription_was_not_told_and_its_end(lab: Laboratory) -> None:
    for barcode in ("A", "B", "C"):
        await release(lab, await result(lab, barcode))
    async with lab.database.transaction(lab.organization_id) as connection:
        await changes.seal(connection, lab.organization_id)
        last = await changes.last_position(connection)
    client = await lab.owner.fetchval(
        "insert into lab.client (id, organization_id, name) values ($1, $2, 'emr') returning id",
        uuid4(), lab.organization_id,
    )  # fmt: skip
    subscription = await lab.owner.fetchval(
        """insert into lab.subscription (id, organization_id, client_id, status, resource, criteria, endpoint, position)
           values ($1, $2, $3, 'off', 'Observation', '', '', 2) returning id""",
        uuid4(), lab.organization_id, client,
    )  # fmt: skip
    feed = RetentionSettings(0, 0, 1, 0, 0, 0)
    assert [(one.name, one.rows) for one in await swept(lab, feed)] == [("outbox", 2)]
    await lab.owner.execute("update lab.subscription set ended_at = now() where id = $1", subscription)
    assert [one.rows for one in await swept(lab, feed)] == [last - 3]
    async with lab.database.transaction(lab.organization_id) as connection:
        assert await changes.last_position(connection) == last and await changes.has(connection, last)
        assert not await changes.has(connection, 1)
        # What was under way then is not known any more: so much earlier is read, rather than something missed.
        since = datetime.now(UTC) - timedelta(days=1)
        assert await changes.changed_since(connection, since) == since - changes.LONGEST


async def test_what_has_ended_goes_row_by_row_and_is_told(lab: Laboratory) -> None:
    client = await lab.owner.fetchval(
        "insert into lab.client (id, organization_id, name) values ($1, $2, 'emr') returning id",
        uuid4(), lab.organization_id,
    )  # fmt: skip
    ended = datetime.now(UTC) - timedelta(hours=2)
    for at in (ended, LATER + timedelta(days=1)):
        await lab.owner.execute(
            "insert into lab.client_assertion (organization_id, client_id, jti_digest, expires_at)"
            " values ($1, $2, $3, $4)",
            lab.organization_id, client, str(at).encode(), at,
        )  # fmt: skip
        await lab.owner.execute(
            "insert into lab.access_token (token_hash, organization_id, expires_at) values ($1, $2, $3)",
            str(at).encode(), lab.organization_id, at,
        )  # fmt: skip
    for files, removed in (("[]", None), ('["a"]', None), ('["a"]', ended)):
        await lab.owner.execute(
            """insert into lab.export_job (id, organization_id, client_id, state, request, level, files, ended_at,
                   removed_at) values ($1, $2, $3, 'completed', '', 'system', $4, $5, $6)""",
            uuid4(), lab.organization_id, client, json.loads(files), ended, removed,
        )  # fmt: skip
    said = {one.name: one.rows for one in await swept(lab, RetentionSettings(0, 0, 0, 1, 1, 1))}
    assert said == {"export_job": 2, "access_token": 1}
    assert await lab.owner.fetchval("select count(*) from lab.client_assertion") == 1
    told = await lab.owner.fetch("select entity_kind from lab.audit_event where action = 'delete' order by 1")
    assert [row["entity_kind"] for row in told] == ["access_token", "export_job"]


async def test_alerts_go_when_they_are_over_and_were_told_to_be(lab: Laboratory) -> None:
    over, untold, stands, waits = [Subject("disk", name) for name in ("over", "untold", "stands", "waits")]
    own, now = lab.organization_id, datetime.now(UTC)
    ids = {}
    async with lab.database.transaction(own) as connection:
        for each in (over, untold, stands, waits):
            id = await alerting.enter(connection, own, AlertKind.DISK, each)
            assert id is not None
            ids[each] = id
            sent = None if each is waits else now
            message = NewMessage(
                Receiver("mail", "anna", "a@lab.example"), "entered", Severity.URGENT, "t", "b", ((id, "entered"),),
                sent_at=sent,
            )  # fmt: skip
            await alert_messages.insert(connection, alerting.watch_actor(own), [message], now)
        await alert_messages.note_told(connection, dict.fromkeys(ids.values(), 0), now)
        for each in (over, untold, waits):
            await alerting.recover(connection, own, AlertKind.DISK, each)
        await alert_messages.note_recovery_told(connection, [ids[over], ids[waits]], now)
    alerts = RetentionSettings(0, 0, 0, 0, 0, 0, 1)
    foreseen = await swept(lab, alerts, dry_run=True)
    assert [(one.kind, one.name) for one in foreseen] == [(Kind.ALERTS, "alert_event")]
    said = [(one.name, one.rows) for one in await swept(lab, alerts)]
    # Of what a message tells that waits yet, the rows stay that say what it tells of.
    assert said == [("alert_event", 5), ("alert_message", 1), ("alert", 1)]
    left = await lab.owner.fetch("select subject from lab.alert order by entered_at, id")
    assert [row["subject"] for row in left] == ["untold", "stands", "waits"]


async def test_only_who_may_says_what_is_kept(lab: Laboratory) -> None:
    viewer = Actor(ActorKind.USER, uuid4(), "viewer", lab.organization_id)
    async with lab.database.transaction(lab.organization_id) as connection:
        for actor, kind, name, reason in (
            (viewer, HoldKind.ORGANIZATION, "", "why"), (lab.director, HoldKind.ORGANIZATION, "", " "),
            (lab.director, HoldKind.PATIENT, "nobody", "why"), (lab.director, HoldKind.ORDER, "2026-000000", "why"),
        ):  # fmt: skip
            with pytest.raises(ReviewError):
                await holds.add(connection, actor, kind, name, reason)
        with pytest.raises(ReviewError):
            await holds.remove(connection, lab.director, uuid4(), "why")
        assert await standing(connection) == []
