"""`scripts/bench day`: a day of a laboratory with 12 analyzers, as fast as it goes, and what became of every order.

A hospital orders over HL7 and FHIR, and takes some of it back. Nine analyzers ask for their work (LIS01-A2 and HL7),
three are told of it; they measure and report, some of it twice because a person wants that. One refuses what it is told
until somebody has seen to it, two drop their line in the middle of a message. Then people release what is not held. All
of it goes over real sockets to a whole daemon on the embedded server. Printed: counts; status 1 where an order is lost,
done twice or in a state that nobody meant it to have.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from interface import telemetry
from interface.daemon import Running, started
from interface.domain.permissions import Role
from interface.flow import actors
from interface.link.tcp import connect
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
from interface.simulator.analyzer import Model, model
from interface.simulator.holding import Holder, Mood, Order
from interface.store.embedded import EmbeddedPostgres, opened_database
from interface.store.schema import OWNER_ROLE
from interface.wire import hl7_reply, mllp
from tests.cluster import new_state_dir

ANY = Address("127.0.0.1", 0)
AT = datetime(2026, 1, 2, 8)  # noqa: DTZ001 - an instrument's clock has no zone
PASSWORD = "a long enough password 1"
PATIENCE_S = 120.0  # without anything that goes on
LANES = 6  # orders, and releases, under way at the same time
CANCELLED, RERUN, SPLIT = 0.06, 0.04, 0.2  # of the orders; what of them are for two analyzers
REFUSING_S = 20.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One analyzer: its driver, the tests it measures here with its codes for them, the tubes it takes."""

    driver: str
    tests: dict[str, str]
    tube: str = "SER"
    told: bool = False
    hl7: bool = False


KINDS = (
    Kind("sysmex_xn", {"RBC": "RBC", "HGB": "HGB", "HCT": "HCT"}, "BLD"),
    Kind("beckman_dxh", {"WBC": "UWBC"}, "BLD"),
    Kind("roche_cobas_c311", {"ALT": "685", "ALP": "158", "TBIL_SI": "712"}),
    Kind("stago_sta", {"INR": "2", "PT": "4"}, "PLAS"),
    Kind("beckman_access", {"TESTO_SI": "Testo", "FSH": "hFSH", "SHBG": "SHBG"}),
    Kind("siemens_immulite", {"T4": "TT4", "FERR": "FER", "LH": "LH"}),
    Kind("sysmex_ca1500", {"APTT": "051", "FIB": "062"}, "PLAS"),
    Kind("mindray_bc6000", {"NEUT": "751-8", "LYMPH": "731-0", "MONO": "742-7"}, "BLD", hl7=True),
    Kind("mindray_bc5380", {"MCV": "787-2", "MCH": "785-6"}, "BLD", hl7=True),
    Kind("erba_xl", {"DBIL": "DBILL", "GLU": "GLCC"}, told=True),
    Kind("diasorin_liaison", {"AFP": "AFP", "FT4": "FT4"}, told=True),
    Kind("ids_isys", {"VITD": "25OHD"}, told=True),
)
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


@dataclass(slots=True)
class Placed:
    """An order as the hospital knows it."""

    number: str
    barcode: str
    kinds: tuple[int, ...]
    tests: tuple[str, ...]
    over: str  # hl7, fhir
    cancel: str = ""  # early: before an analyzer knows of it, late: after
    rerun: bool = False
    resources: list[str] = field(default_factory=list)  # FHIR: its ServiceRequests


def plan(orders: int, seed: int) -> list[Placed]:
    dice = random.Random(seed)  # noqa: S311
    made = []
    for n in range(orders):
        first = n % len(KINDS)
        kinds = [first]
        alike = [at for at, one in enumerate(KINDS) if at != first and one.tube == KINDS[first].tube]
        if alike and dice.random() < SPLIT:
            kinds.append(dice.choice(alike))
        tests = []
        for at in kinds:
            own = list(KINDS[at].tests)
            tests += dice.sample(own, dice.randint(1, len(own)))
        fate = dice.random()
        cancel = ("early" if dice.random() < 0.5 else "late") if fate < CANCELLED else ""
        rerun = not cancel and fate < CANCELLED + RERUN and len(kinds) == 1
        over = "hl7" if n % 2 else "fhir"
        made.append(Placed(f"O{n:06d}", f"26{n:08d}", tuple(kinds), tuple(tests), over, cancel, rerun))
    return made


class Hospital:
    """Orders over HL7, on a few connections, and over FHIR."""

    def __init__(self, address: Address, api: Address, token: str) -> None:
        self._address, self._api, self._token = address, api, token
        self._streams: asyncio.Queue[Any] = asyncio.Queue()
        self._number = 0

    async def place(self, session: aiohttp.ClientSession, order: Placed) -> None:
        if order.over == "hl7":
            await self._send(self._message(order, "NW"))
        else:
            await self._post(session, order)

    async def take_back(self, session: aiohttp.ClientSession, order: Placed) -> bool:
        """Whether the laboratory says that it is cancelled."""
        if order.over == "hl7":
            reply = await self._send(self._message(order, "CA"))
            return b"ORC|UC" not in reply
        for place in order.resources:
            found = await self._ask(session, "GET", place)
            found["status"] = "revoked"
            try:
                await self._ask(session, "PUT", place, found)
            except RuntimeError:
                return False
        return True

    def _message(self, order: Placed, control: str) -> bytes:
        self._number += 1
        lines = [
            rf"MSH|^~\&|HIS|HOSP|LABORA|LAB|20260102080000+0000||OML^O21^OML_O21|M{self._number}|P|2.5.1",
            f"PID|1||P{order.number}^^^HOSP^MR||MUSTER^N{order.number}||19800501|F",
        ]
        for at, test in enumerate(order.tests, start=1):
            placer = f"{order.number}-{at}"
            lines += [f"ORC|{control}|{placer}||{order.number}", f"OBR|{at}|{placer}||{test}|"]
            lines.append(f"SPM|1|{order.barcode}||{KINDS[order.kinds[0]].tube}")
        return "".join(f"{line}\r" for line in lines).encode()

    async def _send(self, message: bytes) -> bytes:
        stream, decoder = await self._streams.get() if not self._streams.empty() else (
            await connect(self._address), mllp.Decoder(),
        )  # fmt: skip
        await stream.write(mllp.encode(message))
        while True:
            for event in decoder.receive(await stream.read()):
                if isinstance(event, mllp.BlockReceived):
                    said = hl7_reply.verdict(event.block)
                    if said is None or said.code != "AA":
                        raise RuntimeError(f"the laboratory answered {event.block.decode()!r}")
                    self._streams.put_nowait((stream, decoder))
                    return event.block

    async def _post(self, session: aiohttp.ClientSession, order: Placed) -> None:
        person, tube = "urn:uuid:00000000-0000-4000-8000-000000000001", "urn:uuid:00000000-0000-4000-8000-000000000002"
        patient = {
            "resourceType": "Patient", "identifier": [{"system": "urn:hospital", "value": f"P{order.number}"}],
            "name": [{"family": "Muster", "given": [f"N{order.number}"]}], "gender": "female",
            "birthDate": "1980-05-01",
        }  # fmt: skip
        specimen = {
            "resourceType": "Specimen", "accessionIdentifier": {"value": order.barcode},
            "subject": {"reference": person},
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0487",
                                 "code": KINDS[order.kinds[0]].tube}]},
        }  # fmt: skip
        requests = [
            {
                "resourceType": "ServiceRequest", "status": "active", "intent": "order",
                "requisition": {"system": "urn:ward", "value": order.number},
                "code": {"coding": [{"system": "urn:labora:test", "code": test}]},
                "subject": {"reference": person}, "specimen": [{"reference": tube}],
            }
            for test in order.tests
        ]  # fmt: skip
        entries: list[tuple[dict[str, Any], str]] = [
            (patient, person),
            (specimen, tube),
            *((one, "") for one in requests),
        ]
        bundle = {
            "resourceType": "Bundle", "type": "transaction",
            "entry": [
                {"resource": one, "request": {"method": "POST", "url": one["resourceType"]},
                 **({"fullUrl": place} if place else {})}
                for one, place in entries
            ],
        }  # fmt: skip
        answer = await self._ask(session, "POST", "/fhir", bundle)
        places = [entry["response"]["location"].partition("/_history")[0] for entry in answer["entry"]]
        order.resources = ["/fhir/" + place.partition("/fhir/")[2] if "/fhir/" in place else f"/fhir/{place}"
                           for place in places if "ServiceRequest" in place]  # fmt: skip

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
        return await ask(session, self._api, method, path, self._token, body)


async def ask(
    session: aiohttp.ClientSession, api: Address, method: str, path: str, token: str, body: Any = None
) -> Any:
    """The parsed answer. Raises RuntimeError for anything but success."""
    headers = {"Authorization": f"Bearer {token}"}
    if path.startswith("/fhir"):
        headers["Content-Type"] = headers["Accept"] = "application/fhir+json"
    async with session.request(method, f"http://{api}{path}", json=body, headers=headers) as response:
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {(await response.text())[:300]}")
        return await response.json(content_type=None)


@dataclass
class Bench:
    """One analyzer at work: what it asks about, or is told of, it measures and reports."""

    kind: Kind
    holder: Holder
    asked: int = 0
    nothing: int = 0
    reported: int = 0
    heard: dict[str, list[str]] = field(default_factory=dict)  # told: what waits to be measured, by specimen
    scans: asyncio.Queue[tuple[str, int]] = field(default_factory=asyncio.Queue)
    paused: set[str] = field(default_factory=set)  # specimens that are not to be measured before somebody looked
    runs: Counter[str] = field(default_factory=Counter)

    def hear(self, order: Order) -> None:
        waits = self.heard.setdefault(order.specimen_id, [])
        if order.cancel:
            if order.code in waits:
                waits.remove(order.code)
        elif order.code not in waits:
            waits.append(order.code)
        self.scans.put_nowait((order.specimen_id, 0))

    async def work(self) -> None:
        while True:
            specimen, run = await self.scans.get()
            if self.kind.told:
                await asyncio.sleep(0.05)  # the rest of its message
                codes = [] if specimen in self.paused else self.heard.pop(specimen, [])
                run = self.runs[specimen]
            else:
                tests: tuple[str, ...] = ()
                for _ in range(3):  # whose line dropped asks again
                    self.asked += 1
                    if tests := await self.holder.ask(specimen, 10.0):
                        break
                codes = list(self.holder.codes_of(tests))
                self.nothing += not tests
                if specimen in self.paused:
                    continue
            if codes and await self.holder.report(specimen, codes, run):
                self.runs[specimen] += 1
                self.reported += len(codes)


@dataclass
class Day:
    daemon: Running
    url: str
    staff: str
    hospital: Hospital
    orders: list[Placed]
    benches: list[Bench]
    session: aiohttp.ClientSession
    refused: list[str] = field(default_factory=list)  # cancellations that came too late
    resent: int = 0
    reran: int = 0

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

        await asyncio.gather(*(lane() for _ in range(LANES)))

    async def staff_ask(self, method: str, path: str, body: Any = None) -> Any:
        return await ask(self.session, self.daemon.api, method, path, self.staff, body)

    async def place(self, order: Placed) -> None:
        if order.cancel == "late":
            for at in order.kinds:
                self.benches[at].paused.add(order.barcode)
        await self.hospital.place(self.session, order)
        if order.cancel == "early":
            await self.take_back(order)
            return
        found = await self.staff_ask("GET", f"/api/specimens/barcode/{order.barcode}")
        await self.staff_ask("POST", f"/api/specimens/{found['specimen']['id']}/receive", {})
        self.scan(order)

    async def take_back(self, order: Placed) -> None:
        """The hospital does, while nothing is begun."""
        if not await self.hospital.take_back(self.session, order):
            self.refused.append(order.number)

    async def call_off(self, order: Placed) -> None:
        """Somebody of the laboratory does, though analyzers have been told of it."""
        rows = await self.rows(
            "select i.order_id from lab.order_item i join lab.specimen s on s.id = i.specimen_id where s.barcode = $1",
            order.barcode,
        )
        body = {"reason": "not wanted any more", "in_progress": True}
        await self.staff_ask("POST", f"/api/orders/{rows[0]['order_id']}/cancel", body)

    def scan(self, order: Placed, run: int = 0) -> None:
        for at in order.kinds:
            if not KINDS[at].told:
                self.benches[at].scans.put_nowait((order.barcode, run))

    async def until(self, probe: str, what: str) -> None:
        """Wait until the query finds nothing, as long as what it finds gets less. Raises TimeoutError."""
        least, since = 1 << 60, time.monotonic()
        while (left := (await self.rows(probe))[0][0]) and time.monotonic() - since < PATIENCE_S:
            if left < least:
                least, since = left, time.monotonic()
            await asyncio.sleep(0.5)
        if left:
            raise TimeoutError(f"{left} {what}")

    async def resend_failed(self) -> None:
        """A person has seen to the analyzer, and has its work sent again."""
        for row in await self.rows("select id from lab.dispatch where state = 'failed' order by id"):
            await self.staff_ask("POST", f"/api/dispatches/{row['id']}/resend", {"reason": "it is ready again"})
            self.resent += 1

    async def rerun(self, order: Placed) -> None:
        rows = await self.rows(
            "select r.id from lab.result r join lab.specimen s on s.id = r.specimen_id where s.barcode = $1"
            " order by r.id limit 1", order.barcode,
        )  # fmt: skip
        for row in rows:
            await self.staff_ask("POST", f"/api/results/{row['id']}/rerun", {"comment": "to be sure"})
            self.reran += 1
        self.scan(order, 1)

    async def release(self, result_id: str) -> None:
        with suppress(RuntimeError):  # what may not be released by one person alone stays for another
            await self.staff_ask("POST", f"/api/results/{result_id}/release", {})


OPEN_DISPATCH = """select count(*) from lab.dispatch d join lab.order_item i on i.id = d.order_item_id
    where d.state in ('queued', 'sent', 'accepted') and i.status not in ('cancelled', 'rejected')"""
OPEN_ITEMS = """select count(*) from lab.order_item i join lab.specimen s on s.id = i.specimen_id
    where i.status not in ('cancelled', 'rejected') and not (s.barcode = any('{%s}'))
      and not exists (select from lab.dispatch d where d.order_item_id = i.id and d.state = 'failed')
      and not exists (select from lab.result r where r.order_item_id = i.id)"""


async def spend(day: Day) -> None:
    """The whole day."""
    late = [one for one in day.orders if one.cancel == "late"]
    paused = ",".join(one.barcode for one in late)
    refusing = next(one for one in day.benches if one.kind.driver == "ids_isys")
    refusing.holder.mood = Mood.REFUSING
    for name in ("diasorin_liaison", "roche_cobas_c311"):
        next(one for one in day.benches if one.kind.driver == name).holder.mood = Mood.DROPPING
    willing = asyncio.get_running_loop().call_later(REFUSING_S, setattr, refusing.holder, "mood", Mood.WILLING)
    say("placing")
    await day.each(day.orders, day.place)
    say("measuring")
    await day.until(OPEN_ITEMS % paused, "tests have no result")
    refusing.holder.mood = Mood.WILLING
    willing.cancel()
    await day.each(late, day.call_off)
    for bench in day.benches:
        bench.paused.clear()
    for one in late:
        day.scan(one)
    await day.resend_failed()
    say("running again")
    await day.each([one for one in day.orders if one.rerun], day.rerun)
    await day.until(OPEN_DISPATCH, "pieces of work have not ended")
    say("releasing")
    free = await day.rows("select id from lab.result where held = '{}' and status in ('registered', 'preliminary')")
    await day.each([str(row["id"]) for row in free], day.release)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def verdict(day: Day) -> int:
    """Print what became of everything; how many orders are not as they should be."""
    items = await day.rows(
        """select s.barcode, t.code, i.status, count(r.id) as results, bool_or(r.held <> '{}') as held,
                  max((select count(*) from lab.result_version v where v.result_id = r.id)) as versions
             from lab.order_item i join lab.test t on t.id = i.test_id join lab.specimen s on s.id = i.specimen_id
             left join lab.result r on r.order_item_id = i.id group by i.id, s.barcode, t.code, i.status"""
    )
    by: dict[str, list[asyncpg.Record]] = {}
    for row in items:
        by.setdefault(row["barcode"], []).append(row)
    states, wrong = Counter[str](), Counter[str]()
    for order in day.orders:
        found = by.get(order.barcode, [])
        state, fault = judged(order, found, order.number in day.refused)
        states[state] += 1
        if fault:
            wrong[fault] += 1
    dispatches = await day.rows("select kind, state, count(*) from lab.dispatch group by 1, 2 order by 1, 2")
    events = await day.rows("select count(*) from lab.sending")
    print(f"orders {len(day.orders)}: " + ", ".join(f"{key} {n}" for key, n in sorted(states.items())))
    print(
        f"tests {len(items)}, messages to analyzers {events[0][0]}, asked {sum(one.asked for one in day.benches)} times"
    )
    print(f"runs again {day.reran}, sent again by a person {day.resent}, cancelled too late {len(day.refused)}")
    print("work: " + ", ".join(f"{row['kind']} {row['state']} {row['count']}" for row in dispatches))
    for bench in day.benches:
        holder = bench.holder
        twice = sum(n - 1 for text, n in holder.messages.items() if n > 1 and b"\rO|" in text)
        if twice:
            wrong[f"{bench.kind.driver} took a message twice"] += twice
        print(f"  {bench.kind.driver:18} asked {bench.asked:4} told {sum(holder.said_to_it.values()):4} reported"
              f" {bench.reported:4} refused {holder.refusals:3} connections {holder.connections}")  # fmt: skip
    open_ = [row for row in dispatches if row["state"] in ("queued", "sent", "failed", "refused")]
    if open_:
        wrong["work that has not ended"] += sum(row["count"] for row in open_)
    print("wrong: " + (", ".join(f"{key} {n}" for key, n in sorted(wrong.items())) or "none"))
    return sum(wrong.values())


def judged(order: Placed, found: Sequence[asyncpg.Record], too_late: bool) -> tuple[str, str]:
    """What became of an order, and what is wrong with it."""
    if sorted(row["code"] for row in found) != sorted(order.tests):
        return "lost", "orders lost or placed twice"
    cancelled = [row for row in found if row["status"] == "cancelled"]
    if order.cancel and not too_late:
        if len(cancelled) == len(found) and not any(row["results"] for row in found):
            return "cancelled", ""
        return "half cancelled", "orders cancelled by half"
    if cancelled:
        return "cancelled", "orders cancelled that nobody cancelled"
    runs = [row["results"] for row in found]
    if not all(runs):
        return "not measured", "orders not measured"
    if max(runs) > (2 if order.rerun else 1):
        return "done twice", "orders measured twice"
    if any(row["held"] for row in found):
        return "waits for a person", ""
    done = all(row["status"] in ("completed", "verified") for row in found)
    return ("done", "") if done else ("not released", "")


async def run(orders: int, seed: int) -> int:
    telemetry.configure_logs(50)
    state, drivers = new_state_dir(), Path(tempfile.mkdtemp(prefix="labora-day-"))
    try:
        path = site_drivers(drivers)
        links = [
            LinkSettings(
                f"an-{at:02d}", "main", kind.driver,
                Transport(TransportType.MLLP_LISTEN if kind.hl7 else TransportType.TCP_LISTEN, ANY),
                download=kind.told, send_attempts=1 if kind.driver == "ids_isys" else 6,
            )
            for at, kind in enumerate(KINDS)
        ]  # fmt: skip
        his = LinkSettings("his", "main", "generic_hospital", Transport(TransportType.MLLP_LISTEN, ANY))
        settings = Settings(
            state, DatabaseSettings("embedded"), ApiSettings(ANY), LimitSettings(commit_wait_s=14.0),
            (*links, replace(his, role=LinkRole.HOSPITAL)), path,
        )  # fmt: skip
        async with started(settings) as daemon:
            return await lived(daemon, settings, plan(orders, seed), path)
    finally:
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(drivers, ignore_errors=True)


async def lived(daemon: Running, settings: Settings, orders: list[Placed], path: tuple[Path, ...]) -> int:
    staff, emr = await people(settings, daemon.api)
    models: dict[str, Model] = {kind.driver: model(kind.driver, path) for kind in KINDS}
    benches = []
    for at, kind in enumerate(KINDS):
        holder = Holder(models[kind.driver], daemon.links[f"an-{at:02d}"], AT, seed=at)
        benches.append(Bench(kind, holder))
        if kind.told:
            holder.hear = benches[-1].hear
    tasks = [asyncio.create_task(work) for one in benches for work in (one.holder.run(), one.work())]
    url = EmbeddedPostgres(settings.state_dir).url(OWNER_ROLE)
    began = time.monotonic()
    try:
        async with aiohttp.ClientSession() as session:
            hospital = Hospital(daemon.links["his"], daemon.api, emr)
            day = Day(daemon, url, staff, hospital, orders, benches, session)
            await route(day)
            try:
                await spend(day)
            except TimeoutError as error:
                say(f"gave up: {error}")
            print(f"a day of {len(orders)} orders in {time.monotonic() - began:.0f} s")
            return 1 if await verdict(day) else 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def route(day: Day) -> None:
    """Each test is one analyzer's."""
    for at, kind in enumerate(KINDS):
        for test, code in kind.tests.items():  # several codes of an analyzer may be filed under one test
            body = {"analyzers": [{"analyzer": f"an-{at:02d}", "codes": [code]}], "reason": "its place"}
            await day.staff_ask("PUT", f"/api/routes/{test}", body)


async def people(settings: Settings, api: Address) -> tuple[str, str]:
    """The tokens of somebody who may do everything here, and of the EMR."""
    async with opened_database(Settings(settings.state_dir, settings.database)) as database:
        setup = actors.setup_actor(await actors.find_organization(database, "main"))
        client = await actors.create_client(database, setup, "emr", ["system/*.cruds"])
        roles = tuple(role.value for role in Role)
        await actors.create_user(database, setup, actors.NewUser("staff", PASSWORD, roles))
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
    given = parser.parse_args()
    return asyncio.run(run(given.orders, given.seed))


if __name__ == "__main__":
    raise SystemExit(main())
