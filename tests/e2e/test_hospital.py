"""A hospital over real MLLP connections to a whole daemon: its vectors, its resends, and a daemon that is killed."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from interface.cli import run_command
from interface.flow import actors
from interface.link.tcp import connect
from interface.settings import Address, DatabaseSettings, Settings, packaged
from interface.simulator import hospital, load, play
from interface.store.embedded import EmbeddedPostgres, opened_database
from interface.store.schema import OWNER_ROLE
from interface.wire import hl7, mllp
from tests.cluster import new_state_dir
from tests.e2e.daemon import PATIENCE_S, Process, eventually, free_ports
from tests.flow.hospital_use import PID, message, order

LINK = """
[[link]]
id = "{name}"
organization = "main"
role = "hospital"
driver = "generic_hospital"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{port}" }}
"""


@dataclass(slots=True)
class Line:
    """The hospital's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, address: Address) -> Line:
        return cls(*await asyncio.open_connection(address.host, address.port, limit=1 << 22))

    async def ask(self, block: bytes, pieces: int = 1) -> hl7.Message:
        """Send a message, in so many pieces, and wait for its reply."""
        data = mllp.encode(block)
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            self.writer.write(data[at : at + size])
            await self.writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            reply = await self.reader.readuntil(b"\x1c\r")
        return hl7.check_syntax(reply[1:-2])


def said(reply: hl7.Message) -> tuple[str, list[tuple[str, str]]]:
    """MSA-1, and of each order ORC-1 and the filler's number."""
    msa = reply.first("MSA")
    assert msa is not None
    return msa.value(1), [(one.value(1), one.value(3)) for one in reply.all("ORC")]


@dataclass(slots=True)
class Bench:
    daemon: Process
    owner: asyncpg.Connection[asyncpg.Record]
    his: Address
    clinic: Address
    server: EmbeddedPostgres

    async def count(self, table: str) -> int:
        return int(await self.owner.fetchval(f"select count(*) from lab.{table}"))  # noqa: S608 - a test's own word


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    state_dir = new_state_dir()
    server = EmbeddedPostgres(state_dir)
    await server.start()
    (own := state_dir / "daemon").mkdir()
    daemon = Process(own, tmp_path_factory.mktemp("hospital"))
    first, second = free_ports(2)
    text = daemon.config.read_text().replace('url = "embedded"', f'url = "{server.url(OWNER_ROLE)}"')
    daemon.config.write_text(text + LINK.format(name="his", port=first) + LINK.format(name="clinic", port=second))
    try:
        async with daemon:
            owner = await asyncpg.connect(server.url(OWNER_ROLE))
            bench = Bench(daemon, owner, Address("127.0.0.1", first), Address("127.0.0.1", second), server)
            yield bench
            await bench.owner.close()
    finally:
        await server.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


async def test_the_simulator_plays_a_hospital(bench: Bench) -> None:
    played = sorted((packaged("drivers") / "generic_hospital" / "vectors").glob("*.trace"))
    assert len(played) == 4
    for trace in played:
        report = await play(load(trace), bench.his)
        assert report.complete and report.rejections == 0, (trace.name, report.replies)
    placed = "select count(*) from lab.placer_order where number like 'HO-%'"
    assert await bench.owner.fetchval(placed) == 4
    before = await bench.count("lab_order")
    for trace in played:
        if trace.name != "order-2.3.trace":  # whose first message is late once its second is there
            assert (await play(load(trace), bench.his)).complete
    assert await bench.count("lab_order") == before, "said again"


async def test_an_invented_hospital_is_answered_and_said_again_it_orders_nothing_more(bench: Bench) -> None:
    said_by = hospital.Ordering(datetime(2026, 1, 5, 8, tzinfo=UTC), orders=25, seed=7)
    report = await play(hospital.source(said_by), bench.his)
    assert report.complete and report.rejections == 0
    counted = Counter(one.control for one in hospital.told(report.replies))
    assert counted["OK"] >= 25 and {"OK", "CR", "XR", "RQ", "RO"} == set(counted)
    tables = ("lab_order", "order_item", "placer_order", "specimen", "patient", "specimen_event")
    before = [await bench.count(table) for table in tables]
    again = await play(hospital.source(said_by), bench.his)
    assert again.complete and Counter(one.control for one in hospital.told(again.replies)) == counted
    assert [await bench.count(table) for table in tables] == before
    arguments = ["simulate", "--hospital", "--orders", "3", "--seed", "8", "--to", str(bench.clinic)]
    assert await asyncio.to_thread(run_command, arguments) == 0


async def test_an_order_is_answered_whatever_way_its_bytes_come(bench: Bench) -> None:
    block = message("OML^O21", PID, *order("E-1^HIS", "K", barcode="E-1"))
    line = await Line.to(bench.his)
    answers = [said(await line.ask(block, pieces)) for pieces in (1, 2, 7, len(block))]
    assert answers == [answers[0]] * 4 and answers[0][0] == "AA"
    several = [message("OML^O21", PID, *order(f"E-{at}^HIS", "NA")) for at in range(2, 22)]
    line.writer.write(b"".join(map(mllp.encode, several)))
    async with asyncio.timeout(PATIENCE_S):
        pipelined = [hl7.check_syntax((await line.reader.readuntil(b"\x1c\r"))[1:-2]) for _ in range(20)]
    assert [said(one)[1][0][0] for one in pipelined] == ["OK"] * 20
    numbers = [said(one)[1][0][1] for one in pipelined]
    assert numbers == sorted(set(numbers)), "one after the other, none twice"
    line.writer.close()


async def test_two_links_with_one_number_at_the_same_moment_make_one_order(bench: Bench) -> None:
    lines = [await Line.to(address) for address in (bench.his, bench.clinic)]
    for at in range(20):
        block = message("OML^O21", PID, *order(f"T-{at}^HIS", "K", barcode=f"T-{at}"))
        one, other = [said(reply) for reply in await asyncio.gather(*(line.ask(block) for line in lines))]
        assert one == other and one[0] == "AA"
    assert await bench.owner.fetchval("select count(*) from lab.placer_order where number like 'T-%'") == 20
    for line in lines:
        line.writer.close()


async def test_one_number_over_hl7_fhir_and_rest_at_the_same_moment_is_one_order(bench: Bench) -> None:
    settings = Settings(bench.daemon.state_dir, DatabaseSettings(bench.server.url(OWNER_ROLE)))
    async with opened_database(settings) as database:
        setup = actors.setup_actor(await actors.find_organization(database, "main"))
        client = await actors.create_client(database, setup, "everything", ["system/*.cruds"])
    line, url = await Line.to(bench.his), f"http://{bench.daemon.api}"
    form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.secret}
    answers: Counter[tuple[str, int | str]] = Counter()
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/oauth/token", data=form) as response:
            bearer = {"Authorization": f"Bearer {(await response.json())['access_token']}"}

        async def by_hl7(number: str) -> None:
            pid = PID.replace("^^^HOSP", "^^^urn:hosp")
            block = message("OML^O21", pid, *order(f"{number}^urn:his", "K", barcode=number))
            answers["hl7", said(await line.ask(block))[1][0][0]] += 1

        async def posted(name: str, path: str, body: object) -> None:
            kind = {"Content-Type": "application/fhir+json"} if name == "fhir" else {}
            async with session.post(f"{url}{path}", json=body, headers=bearer | kind) as response:
                answers[name, response.status] += 1

        for at in range(20):
            number = f"W-{at}"
            three = [
                by_hl7(number),
                posted("fhir", "/fhir", bundle(number)),
                posted("rest", "/api/orders", rest(number)),
            ]
            await asyncio.gather(*(three[(at + turn) % 3] for turn in range(3)))
    line.writer.close()
    assert sum(answers.values()) == 60
    fine = {("hl7", "OK"), ("hl7", "UA"), ("fhir", 200), ("fhir", 409), ("rest", 201), ("rest", 200), ("rest", 409)}
    assert set(answers) <= fine, answers
    for table, column in (("placer_order", "number"), ("specimen", "barcode")):
        rows = await bench.owner.fetch(
            f"select count(*) as n from lab.{table} where {column} like 'W-%' group by {column}"  # noqa: S608
        )
        assert [row["n"] for row in rows] == [1] * 20, table
    items = """select count(*) as n, count(distinct i.order_id) as orders from lab.order_item i
        join lab.specimen s on s.id = i.specimen_id where s.barcode like 'W-%' group by s.barcode"""
    assert [tuple(row) for row in await bench.owner.fetch(items)] == [(1, 1)] * 20


def rest(number: str) -> dict[str, object]:
    patient = {"identifiers": [{"authority": "urn:hosp", "value": "P-1"}], "family": "MUSTER", "given": "MARIA",
               "birth_date": "1980-05-01", "sex": "female"}  # fmt: skip
    return {
        "placer_number": number, "placer_authority": "urn:his", "patient": patient,
        "specimens": [{"barcode": number, "type": "SER", "tests": ["K"]}],
    }  # fmt: skip


def bundle(number: str) -> dict[str, object]:
    """The same as a transaction."""
    person, tube = "urn:uuid:00000000-0000-4000-8000-000000000001", "urn:uuid:00000000-0000-4000-8000-000000000002"
    patient = {
        "resourceType": "Patient", "identifier": [{"system": "urn:hosp", "value": "P-1"}], "gender": "female",
        "name": [{"family": "MUSTER", "given": ["MARIA"]}], "birthDate": "1980-05-01",
    }  # fmt: skip
    serum = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0487", "code": "SER"}]}
    specimen = {
        "resourceType": "Specimen", "accessionIdentifier": {"value": number}, "subject": {"reference": person},
        "type": serum,
    }  # fmt: skip
    request = {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "requisition": {"system": "urn:his", "value": number}, "subject": {"reference": person},
        "code": {"coding": [{"system": "urn:labora:test", "code": "K"}]}, "specimen": [{"reference": tube}],
    }  # fmt: skip
    entry = [
        {"resource": one, "request": {"method": "POST", "url": one["resourceType"]}, "fullUrl": place}
        for one, place in (
            (patient, person),
            (specimen, tube),
            (request, "urn:uuid:00000000-0000-4000-8000-000000000003"),
        )
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entry}


async def test_a_daemon_that_is_killed_between_commit_and_reply_answers_the_resend_with_the_same_order(
    bench: Bench,
) -> None:
    """The server's commit is done and waits for a standby that there is not: the daemon has not heard of it yet."""
    block = message("OML^O21", PID, *order("KILL-1^HIS", "BMP", barcode="KILL-1"))
    await bench.owner.execute("alter system set synchronous_standby_names = 'nobody'")
    await bench.owner.execute("select pg_reload_conf()")
    stream = await connect(bench.his)
    await stream.write(mllp.encode(block))

    async def committing() -> bool | None:
        found: bool = await bench.owner.fetchval(
            """select exists (
                select from pg_stat_activity a
                join pg_locks l on l.pid = a.pid and l.locktype = 'advisory' and l.granted
                join lab.organization o on (l.classid::bigint << 32) | l.objid::bigint
                    = hashtextextended('labora.orders.' || o.id, 0)
                where a.wait_event = 'SyncRep')"""  # others commit too: it is the one that makes orders
        )
        return found

    await eventually(committing)
    await bench.daemon.end(signal.SIGKILL)
    assert await stream.read() == b"", "no reply has left"
    await stream.close()
    await bench.owner.execute("alter system reset synchronous_standby_names")
    await bench.owner.execute("select pg_reload_conf()")
    await bench.daemon.start()

    line = await Line.to(bench.his)
    code, [(control, filler)] = said(await line.ask(block))
    assert (code, control) == ("AA", "OK")
    rows = await bench.owner.fetch(
        "select p.filler_number, count(*) as items from lab.placer_order p join lab.placer_item i on"
        " i.placer_order_id = p.id where p.number = 'KILL-1' group by p.id"
    )
    assert [row["filler_number"] for row in rows] == [filler]
    assert await bench.owner.fetchval("select count(*) from lab.specimen where barcode = 'KILL-1'") == 1
    kept = await bench.owner.fetch(
        "select m.settled from lab.message m join lab.frame f on f.message_id = m.id where f.bytes = $1", block
    )
    assert [row["settled"] for row in kept] == ["released", "released"], "the message that nobody was answered, too"
    line.writer.close()


async def test_while_the_database_is_away_nothing_is_promised_and_afterwards_it_is_done(bench: Bench) -> None:
    line = await Line.to(bench.his)
    blocks = [
        message("OML^O21", PID, *order(f"AWAY-{at}^HIS", "K"), accept=accept, application=accept)
        for at, accept in enumerate(("", "AL"))
    ]
    await bench.owner.close()
    await bench.server.stop()
    try:
        told = [await line.ask(block) for block in blocks]
    finally:
        await bench.server.start()
        bench.owner = await asyncpg.connect(bench.server.url(OWNER_ROLE))
    assert [said(one)[0] for one in told] == ["AR", "CE"]
    assert [error.value(3) for one in told for error in one.all("ERR")] == ["207", "207"]

    async def done() -> bool | None:
        return said(await line.ask(blocks[0]))[0] == "AA" or None

    await eventually(done)
    assert await bench.owner.fetchval("select count(*) from lab.placer_order where number like 'AWAY-%'") == 1
    line.writer.close()


async def test_hostile_messages_are_answered_and_the_link_goes_on(bench: Bench, tmp_path: Path) -> None:
    line = await Line.to(bench.his)
    before = await bench.count("lab_order")
    many = [text for at in range(10_000) for text in order(f"M-{at}", spm="")]
    for block in (
        message("OML^O21", PID, *many),
        message("OML^O21", PID, "ORC|NW|" + "9" * 100_000, "OBR|1|||K"),
        message("OML^O21", PID, "ORC|NW|X^\\X00\\|", "OBR|1|X||K"),
        message("OML^O21", "PID|" + "~" * 10_000, *order("X")),
        message("OML^O21", PID + "~" * 50_000, *order("")),
        message("OML^O21", PID, *["SPM|1|B"] * 5_000),
        message("ADT^A40", PID, *["MRG|P-1^^^HOSP"] * 5_000),
        message("OML^O33", *[PID] * 3_000),
        b"MSH|^~\\&|HIS|HOSP|L|L|2026||OML^O21|1|P|2.5.1\rORC\xff\xfe|NW\r",
    ):
        assert said(await line.ask(block))[0] in ("AE", "AR")
    assert await bench.count("lab_order") == before
    assert said(await line.ask(message("OML^O21", PID, *order("AFTER", "K"))))[0] == "AA"
    line.writer.close()
