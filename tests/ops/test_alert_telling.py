"""One message on entry and one on recovery, to whom the roster says, in order, at least once; grouped, escalated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.hours import DAYS, read_hours
from interface.domain.roster import Contact, Person, Shift
from interface.errors import StoreUnavailable
from interface.flow import alerting
from interface.settings import ChannelType
from interface.store import alert_messages
from tests.ops.telling import ANNA, CHIEF, HEMA, ROSTER, Telling
from tests.records import user

DOWN = AlertKind.LINK_DOWN


async def test_one_message_on_entry_and_one_on_recovery(telling: Telling) -> None:
    id = await telling.enter(DOWN, note="no carrier")
    assert await telling.told(59) == [], "a link that is down for less than a minute is nobody's concern"
    assert await telling.told(1) == [("anna@lab.example", "Link hema-1 is down")]
    assert await telling.told(600) == []
    await telling.recover(DOWN, note="it answers")
    assert await telling.told(9) == []
    assert await telling.told(1) == [("anna@lab.example", "Over: link hema-1 is down")]
    assert await telling.told(10**6) == []
    entry, recovery = (one.get_content().replace("\r\n", "\n") for one in telling.post.got)
    since, until = (f"{at:%Y-%m-%d %H:%M} UTC" for at in await times(telling, id))
    assert entry == (
        f"Link hema-1 is down.\nNo carrier\n\nSince {since}.\n\n"
        f"Look:      labora link status\nSee to it: labora alert ack {id} --as YOU\n"
    )
    assert recovery == f"Over: link hema-1 is down.\nIt answers\n\nFrom {since} to {until}.\n"
    _, events = await telling.alert(id)
    said = [(event.what, event.person, event.note) for event in events]
    assert said == [("entered", "", "no carrier"), ("told", "anna", "entered"), ("recovered", "", "it answers"),
                    ("told", "anna", "recovered")]  # fmt: skip


async def times(telling: Telling, id: object) -> tuple[object, object]:
    async with telling.transaction() as connection:
        row = await connection.fetchrow("select entered_at, recovered_at from lab.alert where id = $1", id)
    assert row is not None
    return row["entered_at"], row["recovered_at"]


async def test_what_is_over_before_anybody_was_told_is_told_nobody(telling: Telling) -> None:
    await telling.enter(DOWN)
    await telling.tell(30)
    await telling.recover(DOWN)
    assert await telling.told(600) == []


async def test_a_hundred_links_behind_one_switch_are_one_message(telling: Telling) -> None:
    links = [Subject("link", f"link-{number:03}") for number in range(100)]
    async with telling.transaction() as connection:
        await alerting.settle(connection, telling.organization.id, DOWN, dict.fromkeys(links, "no route"))
    assert await telling.told(70) == [("anna@lab.example", "100 links are down")]
    body = telling.post.got[0].get_content()
    assert body.count("link-0") == 20 and "* and 80 more: labora alert list" in body
    async with telling.transaction() as connection:
        await alerting.settle(connection, telling.organization.id, DOWN, {links[7]: ""})
    assert await telling.told(70) == [("anna@lab.example", "Over: 99 links are down")]


async def test_what_comes_soon_after_waits_and_is_told_in_one_but_for_what_is_urgent(telling: Telling) -> None:
    await telling.enter(AlertKind.BACKLOG, Subject("queue", ""))
    assert await telling.told(10) == [("anna@lab.example", "Messages wait to be decided")]
    await telling.enter(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    await telling.enter(AlertKind.UNMAPPED, Subject("analyzer", "xn-1"))
    await telling.recover(AlertKind.BACKLOG, Subject("queue", ""))
    assert await telling.told(30) == []
    await telling.enter(AlertKind.DISK, Subject("disk", "/var"))
    urgent = "URGENT: Disk space is short: /var, xn-1 does not take its work, xn-1 sends codes without a map"
    assert await telling.told(10) == [("anna@lab.example", urgent), ("sms", "URGENT: Disk space is short: /var")]
    assert await telling.told(60) == [("anna@lab.example", "Over: messages wait to be decided")]


async def test_nobody_having_seen_to_it_the_next_is_told_until_somebody_has(telling: Telling) -> None:
    id = await telling.enter(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    await telling.told(10)
    assert await telling.told(899) == []
    assert await telling.told(1) == [("chief@lab.example", "Nobody has seen to it: xn-1 does not take its work")]
    assert await telling.told(10**5) == []
    assert (await telling.alert(id))[0].step == 1
    other = await telling.enter(AlertKind.DISPATCH, HEMA)
    await telling.told(10)
    async with telling.transaction() as connection:
        await alerting.acknowledge(connection, user(telling.organization.id), other)
    assert await telling.told(10**5) == [], "somebody sees to it"
    await telling.recover(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    everybody = [(f"{name}@lab.example", "Over: xn-1 does not take its work") for name in ("anna", "chief")]
    assert await telling.told(10) == everybody, "who was told is told that it is over"


async def test_a_clock_that_is_put_back_keeps_nothing_from_being_told(telling: Telling) -> None:
    """What was noted by the clock that was an hour ahead is not waited for until the right one is there."""
    await telling.enter(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    assert len(await telling.told(10)) == 1
    telling.post.refuse = {"DATA": "451 4.3.0 later"}
    await telling.enter(AlertKind.UNMAPPED, Subject("analyzer", "xn-1"))
    await telling.told(70)
    telling.post.refuse = {}
    await telling.enter(DOWN)
    telling.now -= timedelta(hours=1)
    await telling.enter(AlertKind.BACKLOG, Subject("queue", ""))
    said = [title for _, title in await telling.told()]
    assert said == ["Messages wait to be decided, link hema-1 is down", "Xn-1 sends codes without a map"]
    assert await telling.told(899) == []
    assert [to for to, _ in await telling.told(1)] == ["chief@lab.example"], "counted from when the clock was put back"


async def test_nobody_on_shift_is_the_next_at_once_and_nobody_at_all_is_told_when_there_is_somebody(
    telling: Telling,
) -> None:
    roster = telling.roster
    telling.roster = type(roster)()
    await telling.enter(DOWN)
    assert await telling.told(600) == []
    telling.roster = type(roster)(people={"chief": CHIEF}, steps=roster.steps)
    assert await telling.told() == [("chief@lab.example", "Link hema-1 is down")]


async def test_where_there_is_no_escalation_those_of_the_shift_are_told_out_of_its_hours(telling: Telling) -> None:
    """It was told nobody until the shift began: what could not be decided at night, in the morning. What is for today
    waits for the shift."""
    tomorrow = DAYS[(telling.now + timedelta(days=1)).weekday()]
    shifts = (Shift("day", ("anna",), (read_hours(f"{tomorrow} 12:00-13:00"),)),)
    telling.roster = type(telling.roster)(people=telling.roster.people, shifts=shifts)
    await telling.enter(AlertKind.UNMAPPED)
    assert await telling.told(600) == []
    await telling.enter(AlertKind.PARKED)
    assert [to for to, _ in await telling.told(60)] == ["anna@lab.example", "sms"]
    assert await telling.told(600) == [], "and once"


async def test_messages_to_one_address_come_in_order_and_under_one_key(telling: Telling) -> None:
    """The server is away for a while: what was first is first, and nothing is left out."""
    telling.post.refuse = {"DATA": "451 4.3.0 later"}
    await telling.enter(DOWN)
    await telling.tell(60)
    await telling.recover(DOWN)
    await telling.tell(70)
    assert await telling.send() == 0
    assert await telling.send(4) == 0, "not before it is due"
    telling.post.refuse = {}
    assert await telling.send(1) == 2
    titles = [str(one["Subject"]).partition("] ")[2] for one in telling.post.got]
    assert titles == ["Link hema-1 is down", "Over: link hema-1 is down"]
    assert await telling.send(10**6) == 0


async def test_one_that_dies_after_sending_has_it_sent_again_under_the_same_key(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling.roster = type(telling.roster)(people=telling.roster.people, shifts=telling.roster.shifts)
    await telling.enter(AlertKind.DISK)
    await telling.tell(10)

    async def dies(*_: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(alert_messages, "note_sent", dies)
        with pytest.raises(RuntimeError):
            await telling.send()
    telling.sender = telling.new_sender()
    assert await telling.send(60) == 0, "the other may live yet"
    assert await telling.send(300) == 2
    assert len({one["Message-ID"] for one in telling.post.got}) == 1 < len(telling.post.got)
    assert len({one.headers["Idempotency-Key"] for one in telling.web.got}) == 1


async def test_a_database_that_goes_between_sending_and_noting_has_nothing_sent_twice_or_late(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is remembered, and what is behind it does not wait until its claim ends."""

    async def away(*_: object) -> None:
        raise StoreUnavailable("the database cannot be reached")

    await telling.enter(DOWN)
    await telling.tell(60)
    with monkeypatch.context() as patch:
        patch.setattr(alert_messages, "note_sent", away)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await telling.send()
    await telling.recover(DOWN)
    await telling.tell(70)
    telling.post.refuse = {"DATA": "451 4.3.0 later"}
    with monkeypatch.context() as patch:
        patch.setattr(alert_messages, "note_failure", away)
        with pytest.raises(StoreUnavailable):
            await telling.send()
    telling.post.refuse = {}
    assert await telling.send() == 0, "it is tried again when it is due"
    assert await telling.send(5) == 1
    titles = [str(one["Subject"]).partition("] ")[2] for one in telling.post.got]
    assert titles == ["Link hema-1 is down", "Over: link hema-1 is down"]


async def test_a_claim_that_nobody_knows_whether_it_was_made_holds_nothing_up(telling: Telling) -> None:
    await telling.enter(DOWN)
    await telling.tell(60)
    async with telling.transaction() as connection:
        lease = telling.now + timedelta(minutes=5)
        await alert_messages.claim(connection, telling.sender.holder, telling.now, lease, timedelta(hours=1))
    assert await telling.send() == 1


async def test_two_senders_send_each_message_once(telling: Telling) -> None:
    """Two daemons on one database, as after a takeover."""
    import asyncio

    for number in range(5):
        await telling.enter(AlertKind.DISK, Subject("disk", str(number)))
        await telling.tell(61)
    other = telling.new_sender()
    for _ in range(5):
        await asyncio.gather(*(one.serve(telling.organization.id) for one in (telling.sender, other)))
    assert len(telling.post.got) == len({one["Message-ID"] for one in telling.post.got}) == 5


async def test_a_channel_that_fails_is_an_alert_until_it_takes_a_message(telling: Telling) -> None:
    telling.web.answers = [(503, "overloaded")] * 3
    await telling.enter(AlertKind.DISK, Subject("disk", "/var"))
    await telling.tell(10)
    for after_s in (0, 5, 15):
        await telling.send(after_s)
    channel = [("anna@lab.example", "Alerts cannot be sent by sms")]
    assert await telling.told(60) == [*channel, ("sms", "URGENT: Disk space is short: /var")], "tried again meanwhile"
    assert await telling.told(70) == [("anna@lab.example", "Over: alerts cannot be sent by sms")]
    assert len({asked.headers["Idempotency-Key"] for asked in telling.web.got}) == 1


async def test_an_outage_gives_up_nothing_that_is_refused_once_after_it(telling: Telling) -> None:
    await telling.enter(AlertKind.LINK_DOWN)
    await telling.tell(121)
    telling.post.refuse = {"DATA": "451 4.3.0 later"}
    for _ in range(4):
        assert await telling.send(700) == 0
    telling.post.refuse = {"DATA": "554 5.7.1 not this one"}
    assert await telling.send(700) == 0
    telling.post.refuse = {}
    assert await telling.send(700) == 1
    assert len(telling.post.got) == 1


async def test_what_is_refused_is_given_up_and_does_not_hold_up_the_next(telling: Telling) -> None:
    telling.web.answers = [(400, "no such number")] * 3
    id = await telling.enter(AlertKind.DISK, Subject("disk", "/var"))
    await telling.tell(10)
    await telling.enter(AlertKind.DISK, Subject("disk", "/srv"))
    await telling.tell(10)
    for after_s in (0, 5, 15, 45):
        await telling.send(after_s)
    assert [asked.body.decode().partition("short: ")[2] for asked in telling.web.got] == ["/var"] * 3 + ["/srv"]
    _, events = await telling.alert(id)
    failed = [(event.channel, event.note) for event in events if event.what == "failed"]
    assert len(failed) == 1 and failed[0][1].endswith("answered 400 no such number")


async def test_what_cannot_be_sent_for_a_day_is_given_up(telling: Telling) -> None:
    telling.settings = type(telling.settings)(telling.settings.channels[:1])  # the SMS gateway is configured no more
    await telling.enter(AlertKind.DISK)
    await telling.tell(10)
    await telling.send()
    await telling.send(86_400)
    async with telling.transaction() as connection:
        states = {row["channel"]: row["state"] for row in await connection.fetch("select * from lab.alert_message")}
    assert states == {"mail": "sent", "sms": "failed"}


async def test_severity_may_be_set_and_decides_the_channels(telling: Telling) -> None:
    await telling.enter(AlertKind.CERTIFICATE, Subject("certificate", "api"), severity=Severity.URGENT)
    assert [to for to, _ in await telling.told(10)] == ["anna@lab.example", "sms"]
    assert telling.post.got[0]["Importance"] == "high"
    assert telling.channels["sms"].type is ChannelType.SMS


async def test_what_is_silenced_is_told_when_the_silence_ends_if_it_still_stands(telling: Telling) -> None:
    anna = user(telling.organization.id)
    await telling.enter(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    assert await telling.told(10) != []
    async with telling.transaction() as connection:
        await alerting.silence(
            connection, anna, ends_at=telling.now + timedelta(hours=2), reason="the switch is changed",
            begins_at=telling.now - timedelta(minutes=1),
        )  # fmt: skip
    await telling.enter(DOWN)
    await telling.enter(DOWN, Subject("link", "chem-1"))
    assert await telling.told(1000) == [], "neither told nor escalated"
    await telling.recover(AlertKind.DISPATCH, Subject("analyzer", "xn-1"))
    await telling.recover(DOWN)
    over = ("anna@lab.example", "Over: xn-1 does not take its work")
    assert await telling.told(10) == [over], "who was told that it is so is told that it is over"
    assert await telling.told(7200) == [("anna@lab.example", "Link chem-1 is down")]


async def test_who_cannot_be_told_is_named_though_the_channel_tells_others(telling: Telling) -> None:
    """An address that is mistyped: the channel was well again with the next message that it took for somebody else, and
    nobody heard that the ward is told of nothing."""
    gone = Person("gone", (Contact("mail", "gone@lab.example"),))
    telling.roster = replace(ROSTER, people={"anna": ANNA, "gone": gone}, shifts=(Shift("day", ("anna", "gone")),))
    telling.post.refuse = {"RCPT gone@lab.example": "550 5.1.1 no such mailbox"}
    await telling.enter(AlertKind.DISK)
    await telling.tell(10)
    for after_s in (0, 5, 15):
        await telling.send(after_s)
    await telling.recover(AlertKind.DISK)
    await telling.tell(3600)
    await telling.send()
    told = [one.get_content() for one in telling.post.got if one["To"] == "anna@lab.example"]
    assert any("lerts cannot be sent by mail to gone" in one for one in told)
    async with telling.transaction() as connection:
        standing = await alerting.listed(connection, user(telling.organization.id))
    assert [(one.kind, one.subject) for one in standing] == [("channel", "mail to gone")]
    telling.post.refuse = {}
    await telling.enter(AlertKind.DISK)
    await telling.tell(3600)
    await telling.send()
    async with telling.transaction() as connection:
        standing = await alerting.listed(connection, user(telling.organization.id))
    assert [one.kind for one in standing] == ["disk"]
