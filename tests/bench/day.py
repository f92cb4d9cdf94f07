"""`scripts/bench day`: a day of a laboratory with 12 analyzers, as fast as it goes, and what became of every order.

A hospital orders over HL7 and FHIR, says some of it twice and takes some of it back. Eight analyzers ask for their
work (LIS01-A2 and HL7), four are told of it; they measure and report, some of it twice because a person wants that.
One refuses all that it is told until somebody has seen to it: then half of that work is sent to it again and half
goes to another analyzer. Two drop their line in the middle of a message. What is cancelled too late some analyzers
measure all the same. Then people release what is not held. All of it goes over real sockets to a whole daemon on the
embedded server, whose links wait a tenth of the time, and is judged against a plan that was written before: see
`day_plan`, `day_verdict`. Printed: counts; status 1 for any difference.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from interface import telemetry
from interface.domain.mapping import MapKey, Target, Wanted
from interface.domain.permissions import Role
from interface.domain.views import Actor
from interface.flow import actors
from interface.flow import maps as map_changes
from interface.settings import (
    Address,
    ApiSettings,
    DatabaseSettings,
    LimitSettings,
    LinkRole,
    LinkSettings,
    Settings,
    Transport,
    TransportType,
    packaged,
)
from interface.simulator.analyzer import model
from interface.simulator.holding import Holder, Mood
from interface.store import maps
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres, opened_database
from interface.store.schema import OWNER_ROLE
from tests.bench.day_clock import FASTER, FastClock
from tests.bench.day_daemon import House, housed
from tests.bench.day_hospital import Hospital, ask
from tests.bench.day_lab import Bench
from tests.bench.day_plan import (
    DROPPING,
    KINDS,
    NUMBER,
    REFUSING,
    RESERVE,
    RESERVE_TESTS,
    SITE_MAPS,
    Fate,
    Placed,
    mended_after,
    plan,
)  # fmt: skip
from tests.bench.day_trace import traced
from tests.bench.day_verdict import (
    ITEMS,
    RESULTS,
    SHOWN,
    WORK,
    Found,
    Told,
    analyzer,
    by,
    judged,
    of_analyzers,
    of_lines,
    of_nobody,
)
from tests.bench.day_verdict import planned as words_of_plan
from tests.cluster import new_state_dir

ANY = Address("127.0.0.1", 0)
AT = datetime(2026, 1, 2, 8)  # noqa: DTZ001 - an instrument's clock has no zone
PASSWORD = "a long enough password 1"
LIMITS = LimitSettings(commit_wait_s=14.0 * FASTER, reply_s=5.0 * FASTER)
PATIENCE_S = 60.0  # without anything that goes on
LANES = 6  # orders, and releases, under way at the same time
# LIS02-A2's order download in the driver's own words for tests, sexes and types: these documents show a query alone.
_DOWNLOAD = """
[download]
{lines}
"""
_LINES = (
    r"['H|\^&|||Labora||||||||LIS2-A2|{{now}}', {{each = \"specimen\", lines = ['P|{{n}}|{{patient_id}}',"
    r" 'O|1|{{specimen_id}}||{{tests}}|{{priority}}||||||{action}||||||||||||||O']}}, 'L|1|N']"
)


def site_drivers(folder: Path) -> tuple[Path, ...]:
    """The drivers of the analyzers that are told, each with a `[download]`."""
    for kind in KINDS:
        if kind.told:
            shutil.copytree(packaged("drivers") / kind.driver, folder / kind.driver)
            place = folder / kind.driver / "driver.toml"
            lines = "\n".join(
                f"{key} = {{lines = {_LINES.replace(chr(92) + chr(34), chr(34)).format(action=action)}}}"
                for key, action in (("new", "N"), ("again", "A"), ("cancel", "C"))
            )
            place.write_text(place.read_text() + _DOWNLOAD.format(lines=lines))
    return (folder,)


@dataclass
class Day:
    house: House
    url: str
    staff: str
    hospital: Hospital
    orders: list[Placed]
    benches: list[Bench]
    session: aiohttp.ClientSession
    told: Told = field(default_factory=Told)
    resent: int = 0
    moved: int = 0
    reran: int = 0
    released: int = 0

    def of(self, *fates: Fate) -> list[Placed]:
        """The orders of these fates."""
        return [one for one in self.orders if one.fate in fates]

    async def rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def each(self, what: Sequence[Any], do: Callable[[Any], Awaitable[None]]) -> None:
        """Do something for each, a few at a time."""
        waiting = iter(what)

        async def lane() -> None:
            for one in waiting:
                await do(one)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())

    async def staff_ask(self, method: str, path: str, body: Any = None, *, once: bool = False) -> Any:
        return await ask(self.session, self.house, method, path, self.staff, body, once=once)

    async def place(self, order: Placed) -> None:
        if order.fate in (Fate.LATE, Fate.IGNORED):
            for at in order.analyzers:
                self.benches[at].paused.add(order.barcode)
                if order.fate is Fate.IGNORED:
                    self.benches[at].deaf.add(order.barcode)
        await self.hospital.place(self.session, order)
        if order.fate is Fate.AGAIN:
            await self.say_again(order)
        if order.fate is Fate.EARLY:
            await self.take_back(order)
            return
        found = await self.staff_ask("GET", f"/api/specimens/barcode/{order.barcode}")
        await self.staff_ask("POST", f"/api/specimens/{found['specimen']['id']}/receive", {}, once=True)
        self.scan(order)

    async def say_again(self, order: Placed) -> None:
        """The hospital does, in a new message; `Hospital.place` looks at the answer."""
        await self.hospital.place(self.session, order)
        self.told.repeated[order.number] += 1

    async def take_back(self, order: Placed) -> None:
        """The hospital does."""
        if not await self.hospital.take_back(self.session, order):
            self.told.refused.add(order.number)

    async def call_off(self, order: Placed) -> None:
        """Somebody of the laboratory does, though analyzers have been told of it."""
        rows = await self.rows(
            "select i.order_id from lab.order_item i join lab.specimen s on s.id = i.specimen_id where s.barcode = $1",
            order.barcode,
        )
        body = {"reason": "not wanted any more", "in_progress": True}
        await self.staff_ask("POST", f"/api/orders/{rows[0]['order_id']}/cancel", body, once=True)

    def scan(self, order: Placed) -> None:
        for at in order.analyzers:
            if not KINDS[at].told:
                self.benches[at].scans.put_nowait(order.barcode)

    async def until(self, probe: str, *values: object, what: str) -> None:
        """Wait until the query counts nothing, as long as what it counts gets less. Raises TimeoutError."""
        least, since = 1 << 60, time.monotonic()
        while (left := (await self.rows(probe, *values))[0][0]) and time.monotonic() - since < PATIENCE_S:
            if left < least:
                least, since = left, time.monotonic()
            await asyncio.sleep(0.5)
        if left:
            raise TimeoutError(f"{left} {what}")

    async def alerts(self) -> list[dict[str, Any]]:
        """What the list of failed work shows."""
        found, path = [], "/api/dispatches?state=failed"
        while path:
            page = await self.staff_ask("GET", path)
            found += page["dispatches"]
            path = page["next"]
        return found

    async def mend(self) -> None:
        """A person has seen to the analyzer that refused: it gets half of its work again, the reserve the other."""
        for test, code in RESERVE_TESTS.items():
            places = [
                {"analyzer": analyzer(REFUSING), "codes": [KINDS[REFUSING].tests[test]]},
                {"analyzer": analyzer(RESERVE), "codes": [code]},
            ]
            await self.staff_ask("PUT", f"/api/routes/{test}", {"analyzers": places, "reason": "a reserve"})
        mine = {one.barcode: one for one in self.orders if one.refused and not one.cancelled}
        moved = {barcode: one for barcode, one in mine.items() if one.moved}
        for row in await self.alerts():
            if row["barcode"] not in mine:
                continue
            step = "cancel" if row["barcode"] in moved else "resend"
            body = {"reason": "the analyzer was out"}
            await self.staff_ask("POST", f"/api/dispatches/{row['id']}/{step}", body, once=True)
            self.moved, self.resent = self.moved + (step == "cancel"), self.resent + (step == "resend")
        for one in moved.values():
            self.benches[RESERVE].scans.put_nowait(one.barcode)

    async def rerun(self, order: Placed) -> None:
        rows = await self.rows(
            "select r.id, v.version from lab.result r join lab.order_item i on i.id = r.order_item_id"
            " join lab.result_version v on v.id = r.version_id"
            " join lab.test t on t.id = i.test_id join lab.specimen s on s.id = i.specimen_id"
            " where s.barcode = $1 and t.code = $2", order.barcode, order.tests[0],
        )  # fmt: skip
        for row in rows:
            body = {"comment": "to be sure", "version": row["version"]}
            await self.staff_ask("POST", f"/api/results/{row['id']}/rerun", body, once=True)
            self.reran += 1
        self.scan(order)

    async def release(self, result_id: str) -> None:
        shown = await self.staff_ask("GET", f"/api/results/{result_id}")
        seen = {"version": shown["result"]["version"]}
        await self.staff_ask("POST", f"/api/results/{result_id}/release", seen, once=True)
        self.released += 1


OPEN_WORK = """select count(*) from lab.dispatch d where d.state in ('queued', 'sent', 'accepted', 'refused')
    and not d.specimen_id in (select id from lab.specimen where barcode = any($1))"""
UNTOLD = """select count(*) from lab.order_item i join lab.specimen s on s.id = i.specimen_id
    where s.barcode = any($1) and not exists (
      select from lab.dispatch d where d.order_item_id = i.id and d.state in ('sent', 'accepted', 'failed'))"""
UNREFUSED = """select count(*) from lab.order_item i join lab.specimen s on s.id = i.specimen_id
    join lab.test t on t.id = i.test_id where s.barcode = any($1) and t.code = any($2) and not exists (
      select from lab.dispatch d where d.order_item_id = i.id and d.state = 'failed')"""
STILL_TOLD = """select count(*) from lab.dispatch d join lab.specimen s on s.id = d.specimen_id
    where s.barcode = any($1) and d.state <> 'cancelled'"""
OPEN_ITEMS = """select count(*) from lab.order_item i join lab.specimen s on s.id = i.specimen_id
    where i.status not in ('cancelled', 'rejected') and not s.barcode = any($1)
      and not exists (select from lab.dispatch d where d.order_item_id = i.id and d.state = 'failed')
      and not exists (select from lab.result r where r.order_item_id = i.id)"""
UNDECIDED = "select count(*) from lab.message where settled is null and state = 'complete'"
RUN_AGAIN = "select count(*) from lab.dispatch where kind = 'rerun' and state = 'resulted'"
LOOSE = "select count(*) from lab.result where order_item_id is null"


async def refused(day: Day) -> None:
    """The beginning of the day: one analyzer refuses what it is told until somebody has seen to it."""
    holder = day.benches[REFUSING].holder
    holder.mood = Mood.REFUSING
    say("placing, one analyzer refuses")
    await day.each(day.orders[: mended_after(len(day.orders))], day.place)
    awaited = [one.barcode for one in day.orders if one.refused and one.fate is not Fate.EARLY]
    await day.until(UNREFUSED, awaited, list(RESERVE_TESTS), what="tests were neither told nor refused")
    numbers = {one.barcode: one.number for one in day.orders}
    day.told.failed.update(numbers.get(row["barcode"], "") for row in await day.alerts())
    holder.mood = Mood.WILLING
    say("mending")
    await day.mend()


async def spend(day: Day) -> None:
    """The whole day."""
    off = day.of(Fate.LATE, Fate.IGNORED)
    off_codes = [one.barcode for one in off]
    await refused(day)
    say("placing")
    first, half = mended_after(len(day.orders)), len(day.orders) // 2
    await day.each(day.orders[first:half], day.place)
    for at in DROPPING:
        day.benches[at].holder.mood = Mood.DROPPING
    await day.each(day.orders[half:], day.place)
    say("measuring")
    await day.until(OPEN_ITEMS, off_codes, what="tests have no result")
    await day.until(UNTOLD, off_codes, what="tests to be called off were not told")
    say("calling off")
    await day.each(off, day.call_off)
    await day.until(STILL_TOLD, off_codes, what="pieces of work that was called off have not ended")
    for bench in day.benches:
        bench.paused.clear()
    for one in off:
        for at in one.analyzers:
            day.benches[at].scans.put_nowait(one.barcode)
    say("running again")
    await day.each(day.of(Fate.RERUN), day.rerun)
    await day.until(OPEN_ITEMS, off_codes, what="tests have no result")
    await day.until(f"select {day.reran} - ({RUN_AGAIN})", what="tests were not measured again")
    await day.until(OPEN_WORK, off_codes, what="pieces of work have not ended")
    ignored = sum(len(one.tests) for one in day.of(Fate.IGNORED))
    await day.until(f"select greatest({ignored} - ({LOOSE}), 0)", what="results of cancelled tests have not come")
    await asyncio.gather(*(bench.scans.join() for bench in day.benches))
    await day.until(UNDECIDED, what="messages are not decided")
    say("releasing")
    free = await day.rows(
        "select id from lab.result where held = '{}' and reportable and status in ('registered', 'preliminary')"
    )
    await day.each([str(row["id"]) for row in free], day.release)
    say("saying again, cancelling too late")
    await day.each(day.of(Fate.AGAIN), day.say_again)
    await day.each(day.of(Fate.TOO_LATE), day.take_back)


async def left_over(day: Day) -> list[str]:
    """The history of work that has not ended, of the oldest first."""
    off = [one.barcode for one in day.of(Fate.LATE, Fate.IGNORED)]
    ids = [row["id"] for row in await day.rows(OPEN_WORK.replace("count(*)", "d.id") + " order by d.id", off)]
    return await traced(day, {analyzer(at): bench for at, bench in enumerate(day.benches)}, ids)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def verdict(day: Day) -> int:
    """Print what became of everything; how much of it is not as planned."""
    items = await day.rows(ITEMS)
    specimens = [row["barcode"] for row in await day.rows("select barcode from lab.specimen")]
    orders = (await day.rows("select count(*) from lab.lab_order"))[0][0]
    results, work = await day.rows(RESULTS), await day.rows(WORK)
    barcodes = {str(key): rows for key, rows in by(items, "barcode").items()}
    found = Found(barcodes, by(results, "order_item_id"), by(work, "order_item_id"), Counter(specimens), orders)
    wrong: list[str] = []
    fine = Counter[str]()
    for order in day.orders:
        faults = judged(order, found, day.told)
        wrong += [f"{order.number} ({order.fate}): {text}" for text in faults]
        fine[order.fate.value] += not faults
    holders = [bench.holder for bench in day.benches]
    twice = {
        KINDS[at].driver: sum(n - 1 for n in holder.messages.values())
        for at, holder in enumerate(holders) if KINDS[at].told
    }  # fmt: skip
    wrong += of_nobody(day.orders, found)
    kills = day.house.kills
    refusing = any(one.refused and one.fate is not Fate.EARLY for one in day.orders)
    wrong += of_lines(
        twice, [one.connections for one in holders], [one.refusals for one in holders], kills, refusing=refusing
    )
    wrong += of_analyzers({one.kind.driver: (one.unanswered, one.rejected) for one in day.benches})
    show(day, found, work, fine)
    print(f"differences from the plan: {len(wrong) or 'none'}")
    for text in wrong[:SHOWN]:
        print(f"  {text}")
    return len(wrong)


def show(day: Day, found: Found, work: Sequence[asyncpg.Record], fine: Counter[str]) -> None:
    """The counts."""
    statuses = Counter(row["status"] for rows in found.items.values() for row in rows)
    results = Counter(row["status"] for rows in found.results.values() for row in rows)
    print(words_of_plan(day.orders))
    print(f"as planned: {sum(fine.values())} orders: " + listed(fine))
    print(f"tests: {sum(statuses.values())}: " + listed(statuses))
    print(f"results: {sum(results.values())}: {listed(results)}; of cancelled tests, held: "
          f"{len(found.results.get(None, ()))}")  # fmt: skip
    if day.house.kills:
        again = sum(n - 1 for one in day.benches if one.kind.told for n in one.holder.messages.values())
        print(f"the daemon was killed {day.house.kills} times: {day.house.cut} requests were made again, {again}"
              " messages came to an analyzer again")  # fmt: skip
    print("work: " + listed(Counter(f"{row['kind']} {row['state']}" for row in work)))
    print(
        f"shown as failed {sum(day.told.failed.values())}, sent again by a person {day.resent}, given to the reserve"
        f" {day.moved}, run again {day.reran}, released {day.released}, orders sent again {day.told.repeated.total()},"
        f" cancelled too late {len(day.told.refused)}"
    )
    for at, bench in enumerate(day.benches):
        holder = bench.holder
        print(f"  {analyzer(at)} {bench.kind.driver:18} {'told ' if bench.kind.told else 'asks '}"
              f" asked {bench.asked:4} without work {bench.nothing:3} told {sum(holder.said_to_it.values()):4}"
              f" reported {bench.reported:4} refused {holder.refusals:3} connections {holder.connections}")  # fmt: skip


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{key} {n}" for key, n in sorted(counts.items()))


async def run(orders: int, seed: int, kills: int = 0) -> int:
    """Live the day; 0 when it came as planned. `kills`: how often the daemon is killed in it."""
    telemetry.configure_logs(50)
    state, drivers = new_state_dir(), Path(tempfile.mkdtemp(prefix="labora-day-"))
    server = EmbeddedPostgres(state)
    try:
        path = site_drivers(drivers)
        links = [
            LinkSettings(
                analyzer(at), "main", kind.driver,
                Transport(TransportType.MLLP_LISTEN if kind.hl7 else TransportType.TCP_LISTEN, ANY),
                download=kind.told, send_attempts=1 if at == REFUSING else 6,
            )
            for at, kind in enumerate(KINDS)
        ]  # fmt: skip
        his = LinkSettings("his", "main", "generic_hospital", Transport(TransportType.MLLP_LISTEN, ANY))
        settings = Settings(
            state, DatabaseSettings("embedded"), ApiSettings(ANY), LIMITS,
            (*links, replace(his, role=LinkRole.HOSPITAL)), path,
        )  # fmt: skip
        if kills:  # the database outlives the daemon, as one of the system's does
            await server.start()
            (own := state / "daemon").mkdir()
            # What is alone at work three times when the daemon dies is parked for a person: here it is never to blame.
            limits = replace(LIMITS, max_attempts=LIMITS.max_attempts + kills)
            database = DatabaseSettings(server.url(OWNER_ROLE))
            settings = replace(settings, state_dir=own, database=database, limits=limits)
        async with housed(settings, drivers, orders, kills, seed) as house:
            return await lived(house, settings, server.url(OWNER_ROLE), plan(orders, seed), path)
    finally:
        await server.stop()
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(drivers, ignore_errors=True)


async def lived(house: House, settings: Settings, url: str, orders: list[Placed], path: tuple[Path, ...]) -> int:
    staff, emr = await people(settings, house.api)
    benches = []
    for at, kind in enumerate(KINDS):
        holder = Holder(model(kind.driver, path), house.links[analyzer(at)], AT, seed=at, clock=FastClock())
        benches.append(Bench(kind, holder))
        if kind.told:
            holder.hear = benches[-1].hear
    tasks = [asyncio.create_task(work) for one in benches for work in (one.holder.run(), one.work())]
    began = time.monotonic()
    try:
        async with aiohttp.ClientSession() as session:
            hospital = Hospital(house, emr)
            day = Day(house, url, staff, hospital, orders, benches, session)
            await route(day)
            house.begun.set()
            whole = True
            try:
                await spend(day)
            except TimeoutError as error:
                whole = False
                print(f"gave up: {error}")
                for line in await left_over(day):
                    print(line)
            finally:
                await hospital.close()
            print(f"a day of {len(orders)} orders in {time.monotonic() - began:.0f} s")
            return 1 if await verdict(day) or not whole else 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def route(day: Day) -> None:
    """Each test is one analyzer's."""
    for at, kind in enumerate(KINDS):
        for test, code in kind.tests.items():  # several codes of an analyzer may be filed under one test
            body = {"analyzers": [{"analyzer": analyzer(at), "codes": [code]}], "reason": "its place"}
            await day.staff_ask("PUT", f"/api/routes/{test}", body)


async def lay_down_maps(database: Database, actor: Actor) -> None:
    """Map what is shipped for nobody, as `labora map set` does."""
    wanted = [
        Wanted(MapKey(driver, "", KINDS[NUMBER[driver]].tests[test], ""), Target(test))
        for driver, tests in SITE_MAPS for test in tests
    ]  # fmt: skip
    async with database.transaction(actor.organization_id) as connection:
        proposal = await map_changes.propose_put(connection, wanted, await maps.basis(connection), "set")
        await map_changes.commit(connection, actor, proposal, "the codes of these analyzers' own settings")


async def people(settings: Settings, api: Address) -> tuple[str, str]:
    """The tokens of somebody who may do everything here, and of the EMR."""
    async with opened_database(Settings(settings.state_dir, settings.database)) as database:
        setup = actors.setup_actor(await actors.find_organization(database, "main"))
        client = await actors.create_client(database, setup, "emr", ["system/*.cruds"])
        roles = tuple(role.value for role in Role)
        await actors.create_user(database, setup, actors.NewUser("staff", PASSWORD, roles))
        await lay_down_maps(database, await actors.authenticate(database, "main", "staff", PASSWORD))
    async with aiohttp.ClientSession() as session:
        login = {"organization": "main", "username": "staff", "password": PASSWORD}
        async with session.post(f"http://{api}/api/login", json=login) as response:
            staff = (await response.json())["access_token"]
        form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.secret}
        async with session.post(f"http://{api}/oauth/token", data=form) as response:
            emr = (await response.json())["access_token"]
    return staff, emr


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench day", description=__doc__.split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0, help="how often the daemon is killed in the middle of a step")
    given = parser.parse_args()
    return asyncio.run(run(given.orders, given.seed, given.kills))


if __name__ == "__main__":
    raise SystemExit(main())
