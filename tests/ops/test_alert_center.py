"""The daemon's alerts with a real database that is stopped and started: told once, stored once, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from interface.config.alerts import _url_problem
from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.hours import read_hours
from interface.domain.roster import Contact, NoticeKind, Person, Roster, Shift, Wish
from interface.errors import StoreAmbiguous, StoreUnavailable
from interface.flow import alerting, qc_plans
from interface.ops import alert_center
from interface.ops.alert_center import AlertCenter
from interface.ops.alert_desk import FILE
from interface.ops.alert_watch import LinkHeard
from interface.settings import AlertSettings, ChannelType, Content
from interface.store import alert_conditions
from interface.store import alerts as store
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.ops.receivers import MailServer, WebServer
from tests.ops.telling import ROSTER
from tests.records import found, user

DISK, SMS = Subject("disk", "/var/lib"), Contact("sms", "+49 1")


class Center:
    """A center over a database that can be taken away: what it then says is what a server that is gone says."""

    def __init__(self, url: str, organization: Organization, post: MailServer, web: WebServer, folder: Path) -> None:
        self.url, self.organization, self.post, self.web, self.folder = url, organization, post, web, folder
        self.links: list[LinkHeard] = []
        self.now = datetime.now(UTC)
        self.settings = AlertSettings((post.channel(), web.channel(ChannelType.SMS, "sms", body="{text}")))
        self.roster = ROSTER
        self.database = Database(url)
        self.start()

    def start(self) -> None:
        """A daemon's, which knows nothing but what is stored."""
        self.center = AlertCenter(
            self.database, self.folder, lambda: {self.organization.id: "main"},
            lambda: {self.organization.id: self.links}, now=lambda: self.now,
        )  # fmt: skip
        self.center.configure(self.settings, self.roster)

    async def take_away(self) -> None:
        await self.database.close()  # every use of it raises StoreUnavailable

    async def give_back(self) -> None:
        self.database._closed = False  # its pools are made anew

    async def round(self, after_s: float = 10.0) -> list[str]:
        """A look and what is sent by it: the titles."""
        self.now += timedelta(seconds=after_s)
        before = len(self.post.got)
        await self.center.look()
        await self.center.send()
        return [str(one["Subject"]).strip().removeprefix("[main] ") for one in self.post.got[before:]]

    async def rows(self) -> list[store.AlertView]:
        async with self.database.transaction(self.organization.id) as connection:
            return await alerting.listed(connection, user(self.organization.id), standing=False)


@pytest.fixture
async def center(
    shared_database_url: str, organization: Organization, post: MailServer, web: WebServer, tmp_path: Path
) -> AsyncIterator[Center]:
    made = Center(shared_database_url, organization, post, web, tmp_path)
    yield made
    await made.database.close()


async def test_the_database_gone_is_told_once_and_its_return_once(center: Center) -> None:
    assert await center.round() == []
    await center.take_away()
    assert [await center.round() for _ in range(3)] == [[], [], []], "not before it is gone for half a minute"
    assert await center.round() == ["URGENT: The database does not serve"]
    assert "refused until it does" in center.post.got[-1].get_content()
    assert [await center.round() for _ in range(5)] == [[]] * 5
    center.start()  # killed and started anew meanwhile
    assert [await center.round(30) for _ in range(3)] == [[]] * 3
    await center.give_back()
    assert await center.round() == []
    assert await center.round() == ["Over: the database does not serve"]
    assert [await center.round(60) for _ in range(3)] == [[]] * 3
    (row,) = await center.rows()
    assert row.kind == AlertKind.DATABASE and row.recovered_at is not None and row.told_at is not None
    assert (row.recovered_at - row.entered_at).total_seconds() == pytest.approx(190, abs=11)
    assert len(center.web.got) == 2, "who was told by SMS is told so that it is over"
    async with center.database.transaction(center.organization.id) as connection:
        _, events = await alerting.shown(connection, user(center.organization.id), row.id)
    assert [event.what for event in events].count("told") == 4, "mail and SMS; the recovery goes to whom the entry went"


@pytest.mark.parametrize("broken", ["controls", "order"])
async def test_a_fault_of_ours_keeps_no_other_alert_from_being_told(
    center: Center, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    if broken == "controls":
        monkeypatch.setattr(qc_plans, "status", fails)
    else:
        monkeypatch.setattr(alert_center, "tell_of_orders", fails)
    async with center.database.transaction(center.organization.id) as connection:
        await alerting.enter(connection, center.organization.id, AlertKind.DISK, DISK)
    told = [title for _ in range(3) for title in await center.round(61)]
    assert told == ["URGENT: Disk space is short: /var/lib"]


async def test_nor_does_one_look_that_the_database_does_not_answer_in_time(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs much to look at, on a large database: it serves all else."""

    async def slow(*_: object, **__: object) -> None:
        raise StoreAmbiguous("the database did not answer in time")

    monkeypatch.setattr(alert_conditions, "backlog", slow)
    async with center.database.transaction(center.organization.id) as connection:
        await alerting.enter(connection, center.organization.id, AlertKind.DISK, DISK)
    told = [title for _ in range(3) for title in await center.round(61)]
    assert told == ["URGENT: Disk space is short: /var/lib"]


async def test_where_it_answers_a_second_look_no_more_it_does_not_serve(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its write-ahead log has no room: each look would wait its time, and nobody be told meanwhile."""

    async def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database refused the work (DiskFullError, 53100)")

    monkeypatch.setattr(alert_conditions, "backlog", full)
    monkeypatch.setattr(alert_conditions, "untold_criticals", full)
    told = [title for _ in range(2) for title in await center.round(61)]
    assert told == ["URGENT: The database does not serve"]


async def test_twenty_outages_are_twenty_alerts_each_told_once(center: Center) -> None:
    titles: list[str] = []
    for number in range(20):
        await center.take_away()
        looks = 2 if number % 2 else 1  # every other one is too short for anybody to be told
        titles += [title for _ in range(looks) for title in await center.round(31)]
        await center.give_back()
        titles += [title for _ in range(looks) for title in await center.round(61)]
    assert titles == ["URGENT: The database does not serve", "Over: the database does not serve"] * 10
    assert len(await center.rows()) == 20
    assert all(row.recovered_at for row in await center.rows())
    assert not (center.folder / FILE).exists()


async def test_what_is_found_while_it_is_gone_is_told_with_it_and_stored_after(center: Center) -> None:
    await center.round()
    await center.take_away()
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "200 MB are free"})
    for _ in range(3):
        assert await center.round() == []
    (title,) = await center.round()
    assert title == "URGENT: Disk space is short: /var/lib, the database does not serve"
    await center.center.settle(center.organization.id, AlertKind.DISK, {})
    assert await center.round() == ["Over: disk space is short: /var/lib"]
    await center.give_back()
    await center.center.settle(center.organization.id, AlertKind.DISK, {})
    assert [title for _ in range(3) for title in await center.round(61)] == ["Over: the database does not serve"]
    rows = {row.kind: row for row in await center.rows()}
    assert rows.keys() == {"database", "disk"}
    assert all(row.recovered_at is not None for row in rows.values())
    assert [str(one["Subject"]).strip() for one in center.post.got].count(
        "[main] Over: disk space is short: /var/lib"
    ) == 1


async def test_what_was_stored_and_not_told_yet_is_told_without_it(center: Center) -> None:
    """A disk that fills up at once: the alert is stored yet, and the message about it is not."""
    await center.round()
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
    await center.take_away()
    for _ in range(3):
        await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
        assert await center.round() == []
    assert await center.round() == ["URGENT: Disk space is short: /var/lib, the database does not serve"]
    await center.give_back()
    await center.center.settle(center.organization.id, AlertKind.DISK, {})
    told = [title for _ in range(3) for title in await center.round(61)]
    assert told == ["Over: disk space is short: /var/lib, the database does not serve"]
    rows = {row.kind: row for row in await center.rows()}
    assert len(await center.rows()) == 2 and rows.keys() == {"database", "disk"}
    assert all(row.recovered_at is not None and row.told_at is not None for row in rows.values())


async def test_while_only_messages_are_not_stored_nothing_is_told_both_ways(center: Center) -> None:
    """The disk is full: what analyzers send is refused, and some of what is written here is not."""
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
    center.center._available = lambda: False
    titles = await center.round(1)
    for _ in range(5):
        await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
        titles += await center.round()
    assert titles == ["URGENT: The database does not serve, disk space is short: /var/lib"]
    center.center._available = lambda: True
    await center.center.settle(center.organization.id, AlertKind.DISK, {})
    over = [title for _ in range(3) for title in await center.round(61)]
    assert [sorted(title.removeprefix("Over: ").split(", ")) for title in over] == [
        ["disk space is short: /var/lib", "the database does not serve"]
    ]
    assert len(await center.rows()) == 2 and all(row.recovered_at for row in await center.rows())


async def test_what_was_told_before_it_went_is_not_told_again_without_it(center: Center) -> None:
    await center.round()
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
    assert await center.round() == ["URGENT: Disk space is short: /var/lib"]
    await center.take_away()
    titles = []
    for _ in range(5):
        await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
        titles += await center.round()
    assert titles == ["URGENT: The database does not serve"]


async def test_a_mail_that_did_not_go_out_without_it_goes_out_after_under_the_same_key(center: Center) -> None:
    center.post.refuse = {"DATA": "451 later"}
    await center.take_away()
    for _ in range(5):
        await center.round()
    center.post.refuse = {}
    center.start()
    await center.give_back()
    assert await center.round(1) == ["URGENT: The database does not serve"]
    async with center.database.transaction(center.organization.id) as connection:
        rows = await connection.fetch("select id, state, channel from lab.alert_message where about = 'entered'")
    assert {row["state"] for row in rows} == {"sent"}
    assert center.post.got[0]["Message-ID"] in {f"<{row['id']}@lab.example>" for row in rows}


@pytest.mark.parametrize("said", [None, "no certificate"])
async def test_a_channel_whose_authorities_cannot_be_read_any_more_keeps_no_other_from_telling(
    center: Center, said: str | None
) -> None:
    """The file was there when the configuration was read, and somebody has renewed it since, or taken it away."""
    authorities = center.folder / "authorities.pem"
    if said is not None:
        authorities.write_text(said)
    mail, sms = center.settings.channels
    center.settings = AlertSettings((replace(sms, ca=authorities), mail))
    center.start()
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
    titles = [title for after_s in (1, 10, 15, 45, 60) for title in await center.round(after_s)]
    assert titles == ["URGENT: Disk space is short: /var/lib", "Alerts cannot be sent by sms"]
    await center.take_away()
    assert [title for _ in range(5) for title in await center.round()] == ["URGENT: The database does not serve"]
    center.settings = AlertSettings((mail, sms))
    center.center.configure(center.settings, center.roster)
    await center.round(600)
    assert [asked.body.decode().partition("] ")[2] for asked in center.web.got] == [
        "URGENT: The database does not serve"
    ]


async def test_an_address_that_only_its_use_shows_to_be_none_keeps_no_other_from_telling(center: Center) -> None:
    """The configuration takes a host with an empty label: that nothing can be sent there was told nobody, and once the
    database was gone it ended all alerts until the next start."""
    assert _url_problem("https://labör..example.org/hook") == ""
    mail, sms = center.settings.channels
    center.settings = AlertSettings((replace(sms, url="{secret}", secret="https://labör..example.org/hook"), mail))
    center.start()
    await center.center.settle(center.organization.id, AlertKind.DISK, {DISK: "0 MB are free"})
    titles = [title for after_s in (1, 10, 15, 45, 60) for title in await center.round(after_s)]
    assert titles == ["URGENT: Disk space is short: /var/lib", "Alerts cannot be sent by sms"]
    assert "Its address cannot be read" in center.post.got[-1].get_content()
    await center.take_away()
    assert [title for _ in range(5) for title in await center.round()] == ["URGENT: The database does not serve"]


async def test_a_fault_of_ours_while_the_database_is_gone_ends_nothing(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    await center.take_away()
    with monkeypatch.context() as broken:
        broken.setattr(center.center._desk, "tell", fails)
        assert [title for _ in range(5) for title in await center.round()] == []
    assert await center.round() == ["URGENT: The database does not serve"]


async def test_a_folder_that_takes_no_file_leaves_it_in_memory(center: Center) -> None:
    center.folder = Path("/proc/nowhere")
    center.start()
    await center.take_away()
    titles = [title for _ in range(6) for title in await center.round()]
    assert titles == ["URGENT: The database does not serve"]


async def test_the_unstored_file_is_the_services_own_and_a_broken_one_is_no_hindrance(center: Center) -> None:
    await center.take_away()
    await center.round()
    path = center.folder / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    center.start()
    assert [title for _ in range(5) for title in await center.round()] == ["URGENT: The database does not serve"]


async def test_silence_is_counted_in_the_links_working_hours(center: Center) -> None:
    """Heard last on Friday at 17:00; an hour of silence is over on Monday at 08:00, not in the night."""
    friday = datetime(2026, 11, 27, 17, 0, tzinfo=UTC)
    link = LinkHeard(uuid7(), "hema-1", 3600.0, ("mon-fri 08:00-18:00",), friday, friday)
    center.roster = Roster(people=ROSTER.people, shifts=ROSTER.shifts)
    center.center.configure(replace(center.settings, gather_s=0.0), center.roster)
    center.links = [link]
    center.now = friday + timedelta(minutes=59)
    assert await center.round() == []
    center.links = [replace(link, heard_at=friday + timedelta(minutes=30))]
    for at in (friday + timedelta(days=1), datetime(2026, 11, 30, 8, 29, tzinfo=UTC)):
        center.now = at
        assert await center.round() == []
    center.now = datetime(2026, 11, 30, 8, 30, tzinfo=UTC)
    assert await center.round() == ["Nothing is heard from link hema-1"]
    assert "Heard last 2026-11-27 17:30 UTC" in center.post.got[-1].get_content()
    center.links = [replace(link, heard_at=center.now)]
    assert await center.round(61) == ["Over: nothing is heard from link hema-1"]
    assert read_hours("mon-fri 08:00-18:00").end == 18 * 60


async def test_a_link_that_was_heard_while_the_clock_was_ahead_is_watched(center: Center) -> None:
    now = center.now
    center.center.configure(replace(center.settings, gather_s=0.0), Roster(people=ROSTER.people, shifts=ROSTER.shifts))
    center.links = [LinkHeard(uuid7(), "hema-1", 3600.0, (), now + timedelta(days=300), now)]
    assert await center.round() == []
    center.now = now + timedelta(hours=1)
    assert await center.round() == ["Nothing is heard from link hema-1"]


async def test_what_waits_in_a_laboratory_is_found(center: Center) -> None:
    """Each condition is entered when it is there and recovered when it is not."""
    laboratory = await found(center.database, center.organization.id)
    result_id = await laboratory.result(await laboratory.order())
    message = uuid7(int((center.now - timedelta(minutes=10)).timestamp() * 1000))
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute("update lab.result set held = '{unmapped_code}', created_at = now() - interval '2 d'")
        await connection.execute(
            "insert into lab.queue (message_id, organization_id, lane) values ($1, $2, $3)",
            message, center.organization.id, laboratory.link_id,
        )  # fmt: skip
    await center.round()
    standing = {(row.kind, row.thing, row.subject, row.note) for row in await center.rows()}
    assert {(kind, note) for kind, _, _, note in standing} == {
        ("held_age", "1 for more than 4 h"), ("unmapped", "1 results wait"),
        ("backlog", "the oldest for 10 min"),
    }  # fmt: skip
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute("update lab.result set held = '{}' where id = $1", result_id)
        await connection.execute("delete from lab.queue where message_id = $1", message)
    await center.round(61)
    assert all(row.recovered_at for row in await center.rows())


async def test_what_waits_since_the_clock_was_ahead_is_found(center: Center) -> None:
    """Ids go on after those of then, for a day at most; what was held or came then is of a time that is to come."""
    laboratory = await found(center.database, center.organization.id)
    await laboratory.result(await laboratory.order())
    message = uuid7(int((center.now + timedelta(hours=12)).timestamp() * 1000))
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute("update lab.result set held = '{unmapped_code}', created_at = now() + interval '1 y'")
        await connection.execute(
            "insert into lab.message (id, organization_id, link_id, protocol, state, reply, received_at)"
            " values ($1, $2, $3, 'lis2', 'complete', 'sent', $4)",
            message, center.organization.id, laboratory.link_id, center.now - timedelta(minutes=10),
        )  # fmt: skip
        await connection.execute(
            "insert into lab.queue (message_id, organization_id, lane) values ($1, $2, $3)",
            message, center.organization.id, laboratory.link_id,
        )  # fmt: skip
    await center.round()
    assert {(row.kind, row.note) for row in await center.rows()} == {
        ("held_age", "1 for more than 4 h"), ("unmapped", "1 results wait"), ("backlog", "the oldest for 10 min"),
    }  # fmt: skip
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute("update lab.message set received_at = now() + interval '1 y'")
    await center.round(61)
    assert all(row.recovered_at is None for row in await center.rows())


CANARIES = ("Kanarienvogel", "Zwitscher", "CANARY-PID-77", "1913-12-24", "KANARI-BARCODE", "987654.3")


@pytest.mark.parametrize(
    ("content", "number", "test"),
    [(Content.NONE, False, False), (Content.ORDER_NUMBER, True, False), (Content.TEST, True, True)],
)
async def test_a_critical_result_is_called_for_with_no_more_of_the_patient_than_the_policy_allows(
    center: Center, content: Content, number: bool, test: bool
) -> None:
    """Unmistakable names and values are planted in all that is stored; nothing but the policy's leaves."""
    laboratory = await found(center.database, center.organization.id)
    order = await laboratory.order()
    result_id = await laboratory.result(order, CANARIES[5])
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute(
            "update lab.patient set family = $1, given = $2, birth_date = $3::text::date", *CANARIES[:2], CANARIES[3]
        )
        await connection.execute("update lab.patient_identifier set value = $1", CANARIES[2])
        await connection.execute("update lab.specimen set barcode = $1", CANARIES[4])
        version: UUID = await connection.fetchval("select version_id from lab.result where id = $1", result_id)
        from interface.flow import criticals
        from interface.store.criticals import Judged

        await criticals.open_for(connection, laboratory.technologist, [Judged(result_id, version, True, fresh=True)])
    center.center.configure(replace(center.settings, critical_content=content), center.roster)
    await center.round()
    assert await center.round() == ["URGENT: A critical result is to be told"]
    said = "\n".join([*(one.as_string() for one in center.post.got), *(one.body.decode() for one in center.web.got)])
    assert not [canary for canary in CANARIES if canary in said]
    assert (order.number in said, "Haemoglobin" in said) == (number, test)
    assert "labora critical list" in said
    (row,) = await center.rows()
    assert row.severity is Severity.URGENT
    async with center.database.transaction(center.organization.id) as connection:
        task = row.subject
        told = criticals.Told("ward 3, nurse Meier", read_back=True)
        await criticals.notify(connection, laboratory.technologist, UUID(task), told)
    assert [title for _ in range(2) for title in await center.round(61)] == ["Over: a critical result is to be told"]


async def test_a_critical_result_is_called_for_however_many_nobody_has_ever_told(center: Center) -> None:
    laboratory = await found(center.database, center.organization.id)
    from interface.flow import criticals
    from interface.store.criticals import Judged

    async def critical() -> None:
        result_id = await laboratory.result(await laboratory.order())
        async with center.database.transaction(center.organization.id) as connection:
            version = await connection.fetchval("select version_id from lab.result where id = $1", result_id)
            judged = Judged(result_id, version, critical=True, fresh=True)
            await criticals.open_for(connection, laboratory.technologist, [judged])

    await critical()
    async with center.database.transaction(center.organization.id) as connection:
        await connection.execute(
            """insert into lab.critical_notification
                   (id, organization_id, result_id, subject_id, result_version_id, state, created_at)
               select gen_random_uuid(), organization_id, result_id, gen_random_uuid(), result_version_id, state,
                      now() - interval '1 month' from lab.critical_notification, generate_series(1, 500)"""
        )

    async def alerts() -> tuple[int, int]:
        """How many stand, and how many are over."""
        await center.round()
        async with center.database.transaction(center.organization.id) as connection:
            over = "select count(*) from lab.alert where (recovered_at is not null) = $1"
            return await connection.fetchval(over, False), await connection.fetchval(over, True)

    standing, _ = await alerts()
    for more in (1, 2):
        await critical()
        assert await alerts() == (standing + more, 0)
    assert await alerts() == (standing + 2, 0)


async def test_that_nothing_reaches_somebody_is_over_once_they_are_no_contact_any_more(center: Center) -> None:
    """Their address was put right by another channel, or they went: nothing could reach them there, the alert stood for
    ever, and nobody would have been told when it is so again."""
    gone = Person("gone", (Contact("mail", "gone@lab.example"),))
    ward = Wish((Contact("mail", "w@lab.example"),), frozenset(NoticeKind), ward="3  A")
    shift = Shift("day", ("anna", "gone"))
    center.roster = replace(ROSTER, people={**ROSTER.people, "gone": gone}, shifts=(shift,), wishes=(ward,))
    center.start()
    center.post.refuse = {"RCPT gone@lab.example": "550 5.1.1 no such mailbox"}
    async with center.database.transaction(center.organization.id) as connection:
        await alerting.enter(connection, center.organization.id, AlertKind.DISK, DISK)
        of_ward = Subject("receiver", "mail to 3  A")
        await alerting.enter(connection, center.organization.id, AlertKind.CHANNEL, of_ward)

    async def standing() -> set[str]:
        return {one.subject for one in await center.rows() if one.kind == "channel" and one.recovered_at is None}

    for _ in range(5):
        await center.round(60)
    assert await standing() == {"mail to 3 A", "mail to gone"}
    center.roster = replace(center.roster, people={**ROSTER.people, "gone": replace(gone, contacts=(SMS,))})
    center.start()
    await center.round()
    assert await standing() == {"mail to 3 A"}, "who is a contact is told of"
