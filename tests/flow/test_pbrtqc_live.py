"""Patients' results from the link to the alarm that holds the next ones, and a person who ends it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from interface import telemetry
from interface.domain.pbrtqc import ENGINE, Limits, Method, Mode, Statistic
from interface.domain.pbrtqc_plan import Stamp
from interface.errors import StoreUnavailable
from interface.flow import pbrtqc, pbrtqc_watch
from interface.flow.pbrtqc_watch import SETTLE_S, PatientWatch, follow_all, watch_patients
from interface.store import ids
from interface.store import pbrtqc as store
from interface.store.ids import uuid7
from tests.flow.controls import Bench, bench
from tests.flow.laboratory import Laboratory, laboratory, message

FINAL, FAILED = ("final", ""), ("registered", "qc_failed")
D = Decimal


async def holding(lab: Laboratory) -> None:
    """A plan for sodium that holds, as if it had been proved."""
    analyzer = await lab.owner.fetchval("select name from lab.analyzer where id = $1", lab.context.analyzer_id)
    draft = pbrtqc.Draft("na", analyzer, "NA", Method(Statistic.MEAN, 4), limits=Limits(D(137), D(143), D(140)))
    now = datetime.now(UTC)
    async with lab.database.transaction(lab.organization_id) as connection:
        made = await pbrtqc.write(connection, lab.director, draft, "made for a test")
        stamp = Stamp(made.digest, ENGINE, True)
        await store.add_validation(connection, lab.director, made, stamp, (now, now), {}, ())
        await pbrtqc.activate(connection, lab.director, "na", 1, Mode.HOLD, "made for a test")


async def counted(lab: Laboratory) -> list[str]:
    """The specimens whose results were counted."""
    rows = await lab.owner.fetch(
        """select v.specimen_as_sent from lab.pbrtqc_value c join lab.result_version v on v.id = c.result_version_id
            order by c.ordinal"""
    )
    return [row["specimen_as_sent"] for row in rows]


def later() -> datetime:
    """A daemon's clock by which what was decided just now has settled, and what comes next has not."""
    return datetime.now(UTC) + timedelta(seconds=SETTLE_S, milliseconds=2)


async def send(at: Bench, minutes: int, **values: str) -> None:
    for barcode, value in values.items():
        await at.lab.order(barcode, "NA")
        await at.send(barcode, minutes, NA=value)


async def test_an_alarm_holds_the_next_patients_until_a_person_ends_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await holding(lab)
        await at.control(300)
        for number, value in enumerate(("139", "140", "141", "140")):
            await send(at, 65 - number, **{f"A{number + 1}": value})
        watch = PatientWatch(lab.database, later)
        assert await watch.follow(lab.organization_id) == 4
        await send(at, 50, B1="150")
        await at.send("B1", 49, NA="190")  # a second run of the specimen
        await lab.send(message("O|1|CONTROL||^^^NA|||||||Q", "R|1|^^^NA|190|mmol/L||N||F", control="Q1"))
        await send(at, 45, B2="151")
        await lab.send(message("O|1|NOBODY||^^^NA", "R|1|^^^NA|190|mmol/L||N||F", control="Q2"))
        await lab.settle()
        assert await watch.follow(lab.organization_id) == 2
        assert await counted(lab) == ["A1", "A2", "A3", "A4", "B1", "B2"]
        said = await at.said()
        assert [said[one] for one in ("A1", "A4", "B2")] == [FINAL, FINAL, FINAL]
        # The mean was at its centre with A4: B1 and B2 were released since then, and are to be looked at.
        assert await at.listed() == ["B1", "B2"]
        await send(at, 30, C1="140", C2="140")
        assert [(await at.said())[one] for one in ("C1", "C2")] == [FAILED, FAILED]
        assert await watch.follow(lab.organization_id) == 0  # what is held for it is not counted
        await at.control(20)
        await at.act(None)  # an acceptable control and an action do not end it
        assert (await at.said())["C1"] == FAILED
        async with lab.database.transaction(lab.organization_id) as connection:
            (alarm,) = await store.open_alarms(connection, [lab.context.analyzer_id])
            await pbrtqc.close(connection, lab.director, alarm.event_id, "recalibrated")
        await at.follow()
        assert [(await at.said())[one] for one in ("C1", "C2")] == [FINAL, FINAL]
        await send(at, 10, D1="140")
        assert (await at.said())["D1"] == FINAL
        assert await watch.follow(lab.organization_id) == 1 and (await counted(lab))[-1] == "D1"


async def test_values_are_counted_also_while_ids_go_on_after_those_of_a_clock_that_was_ahead(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes links over goes on after what waits: nothing was seen of a shift for up to a day."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await holding(lab)
        await at.control(300)
        watch, real = PatientWatch(lab.database, later), time.time_ns
        assert await watch.follow(lab.organization_id) == 0
        monkeypatch.setattr(ids, "_last_ms", -1)
        with monkeypatch.context() as then:
            then.setattr(time, "time_ns", lambda: real() + 6 * 3600 * 10**9)
            uuid7()
        await send(at, 60, A1="139", A2="140", A3="141", A4="140")
        assert await watch.follow(lab.organization_id) == 4
        await send(at, 50, B1="150")
        assert await watch.follow(lab.organization_id) == 1
        monkeypatch.setattr(ids, "_last_ms", -1)  # another process, when nothing waits
        await send(at, 45, B2="151")
        assert await watch.follow(lab.organization_id) == 1
        assert await watch.follow(lab.organization_id) == 0
        await send(at, 30, C1="140")
        assert (await at.said())["C1"] == FAILED
        assert await counted(lab) == ["A1", "A2", "A3", "A4", "B1", "B2"]


async def test_a_laboratory_that_cannot_be_followed_keeps_no_other_from_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(database_url) as lab:
        await holding(lab)
        seen: list[UUID] = []
        faults = {uuid7(): StoreUnavailable("cut"), uuid7(): ZeroDivisionError("a fault of ours")}
        follow, rounds = PatientWatch.follow, asyncio.Event()

        async def one(self: PatientWatch, organization_id: UUID) -> int:
            seen.append(organization_id)
            if organization_id in faults:
                raise faults[organization_id]
            await follow(self, organization_id)
            if len(seen) >= 6:
                rounds.set()
            return 0

        monkeypatch.setattr(PatientWatch, "follow", one)
        monkeypatch.setattr(pbrtqc_watch, "FOLLOW_S", 0)
        task = asyncio.create_task(watch_patients(lab.database, lambda: [*faults, lab.organization_id]))
        await asyncio.wait_for(rounds.wait(), 20)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert seen[:6] == [*faults, lab.organization_id] * 2


async def test_open_alarms_are_counted_and_old_values_deleted(database_url: str) -> None:
    """By their mode; values by when they were measured, but for the last of each use. What happened stays."""

    def shown(mode: str) -> float | None:
        return telemetry.REGISTRY.get_sample_value("labora_pbrtqc_alarms", {"mode": mode})

    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await holding(lab)
        await at.control(300)
        watch = PatientWatch(lab.database, later)
        await follow_all(watch, [lab.organization_id])
        assert (shown("hold"), shown("watch")) == (0, 0)
        await send(at, 60, **{f"A{number}": "150" for number in range(6)})
        await follow_all(watch, [lab.organization_id])
        assert (shown("hold"), shown("watch")) == (1, 0)
        events = await lab.owner.fetchval("select count(*) from lab.pbrtqc_event")
        number = len(await counted(lab))
        assert number > 2 and events == 1
        now = datetime.now(UTC)
        assert await store.prune(lab.owner, now + store.KEPT) == 0  # the last of a use, whatever their age
        await lab.owner.execute("update lab.pbrtqc_state set ordinal = ordinal + 9998")
        assert await store.prune(lab.owner, now) == 0  # nor what is young
        assert await store.prune(lab.owner, now + store.KEPT) == number - 2
        assert len(await counted(lab)) == 2
        assert await lab.owner.fetchval("select count(*) from lab.pbrtqc_event") == events
