"""`scripts/bench query`: how long an analyzer waits for its work, with 100,000 order items waiting in the book.

16 analyzers ask at the same moment, each for another specimen, over and over: first the order book alone (`work_for`
and `record_sent` in a transaction), then `labora run` over real sockets, half of the links QRY^Q02 over MLLP, where the
answer is the reply, half LIS01-A2, where it comes after the analyzer's EOT. Measured from the last byte of the query to
the first byte of the answer. Wanted: 99 of 100 within 50 ms (status 1 where they are not).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from interface.domain.routing import Query
from interface.driver import registry
from interface.flow import actors, order_book
from interface.flow.context import LinkContext, register
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.store.catalogue import load_code_map
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from interface.wire.frames import build_frame
from tests.bench.record import note
from tests.bench.settle import _folder, _server_cpu_s
from tests.bench.yardstick import free_ports, program, say, server, stopped_by_signal
from tests.cluster import with_database

LINKS, ITEMS = 16, 100_000
WARM_ROUNDS, COUNTED = 10, 20
PATIENCE_S = 20.0
ORGANIZATION = "bench"
CHEMISTRY = ("GLU", "AST", "ALT", "ALP", "TP", "ALB", "GGT", "CREA")
BLOOD = ("WBC", "RBC", "HGB", "HCT", "PLT", "MCV", "MCH", "MCHC")
KINDS = (("C", "mindray_bs", "mllp-listen", CHEMISTRY), ("B", "sysmex_xn", "tcp-listen", BLOOD))
ENQ, ACK, EOT = b"\x05", b"\x06", b"\x04"

Ask = Callable[[int, str], Awaitable[float]]  # by link and specimen: milliseconds

_ID = """
create or replace function bench_id(key text) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0')
        || overlay(overlay(substr(md5(key), 1, 20) placing '7' from 1) placing '8' from 5))::uuid $$
"""
_FILL = (
    """insert into lab.patient (id, organization_id, family, given, birth_date, sex)
       select bench_id('p' || $2 || n), $1, 'BENCH', 'PATIENT', '1980-05-01', 'female'
         from generate_series(1, $3::int) n""",
    """insert into lab.patient_identifier (id, organization_id, patient_id, authority, value, type)
       select bench_id('i' || $2 || n), $1, bench_id('p' || $2 || n), 'LAB', $2 || n, 'MR'
         from generate_series(1, $3::int) n""",
    """insert into lab.lab_order (id, organization_id, number, patient_id)
       select bench_id('o' || $2 || n), $1, $2 || n, bench_id('p' || $2 || n) from generate_series(1, $3::int) n""",
    """insert into lab.specimen (id, organization_id, barcode, type, order_id, patient_id, state, collected_at,
                                 received_at)
       select bench_id('s' || $2 || n), $1, $2 || n, case when $2 = 'C' then 'SER' else '' end,
              bench_id('o' || $2 || n), bench_id('p' || $2 || n), 'received', now() - interval '1 hour', now()
         from generate_series(1, $3::int) n""",
)
_ITEMS = """
insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id, status)
select bench_id('y' || $2 || n || t.code), $1, bench_id('o' || $2 || n), t.id, bench_id('s' || $2 || n), 'received'
  from generate_series(1, $3::int) n cross join lab.test t where t.organization_id = $1 and t.code = any($4::text[])
"""
_MAP = """
insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
select bench_id('m' || code), $1, 'mindray_bs', code, id, 'site' from lab.test
 where organization_id = $1 and code = any($2::text[])
"""


async def fill(owner: asyncpg.Connection[asyncpg.Record], organization_id: UUID, items: int) -> int:
    """Specimens of either kind, each with eight items that wait; returns how many of a kind."""
    each = items // (2 * len(BLOOD))
    await owner.execute(_ID)
    async with owner.transaction():
        await owner.execute("set local session_replication_role = replica")  # the makings are not what is measured
        for prefix, _, _, tests in KINDS:
            for statement in _FILL:
                await owner.execute(statement, organization_id, prefix, each)
            await owner.execute(_ITEMS, organization_id, prefix, each, list(tests))
        await owner.execute(_MAP, organization_id, list(CHEMISTRY))
    for table in ("patient", "patient_identifier", "lab_order", "specimen", "order_item", "code_map", "test"):
        await owner.execute(f"vacuum analyze lab.{table}")  # what is new in a laboratory was never looked at
    waiting = await owner.fetchval("select count(*) from lab.order_item where status = 'received'")
    if waiting < each * 2 * len(BLOOD):
        raise RuntimeError(f"only {waiting} items wait: a test is not in the catalogue")
    return each


async def measure(
    ask: Ask, each: int, rounds: int, what: str, postmaster: int, owner: asyncpg.Connection[asyncpg.Record]
) -> float:
    """Ask by all links at the same moment, again and again; print what they waited and return the 99th percentile."""
    rng = random.Random(what)  # noqa: S311 - no secret; each part asks for specimens of its own
    waited: list[float] = []
    cpu = 0.0
    for at in range(-WARM_ROUNDS, rounds):
        if at == -WARM_ROUNDS // 2:
            # As `store.upkeep` does in the daemon's first seconds: a book in use is no new one.
            for table in ("message", "frame", "queue", "sending", "dispatch", "dispatch_event"):
                await owner.execute(f"analyze lab.{table}")
        if at == 0:
            cpu = _server_cpu_s(postmaster)
        asked = [f"{KINDS[link % 2][0]}{rng.randint(1, each)}" for link in range(LINKS)]
        found = await asyncio.gather(*(ask(link, specimen) for link, specimen in enumerate(asked)))
        waited += found if at >= 0 else []  # the first ones make connections and plans
    waited.sort()
    cpu = (_server_cpu_s(postmaster) - cpu) * 1000 / len(waited)
    p50, p99 = waited[len(waited) // 2], waited[int(len(waited) * 0.99)]
    say(f"{what:<28} {len(waited):>6} answers  p50 {p50:6.1f}  p99 {p99:6.1f}  worst {waited[-1]:6.1f} ms"
        f"   PostgreSQL {cpu:.1f} ms CPU each")  # fmt: skip
    return p99


# ---- the order book alone -------------------------------------------------------------------------------------------


async def contexts(database: Database, organization_id: UUID) -> list[LinkContext]:
    found = []
    async with database.transaction(organization_id) as connection:
        for number in range(LINKS):
            _, driver, transport, _ = KINDS[number % 2]
            settings = LinkSettings(f"link-{number}", ORGANIZATION, driver,
                                    Transport(TransportType(transport), Address("127.0.0.1", 0)))  # fmt: skip
            found.append(await register(connection, organization_id, settings, registry.load(driver)))
        await load_code_map(connection, organization_id, "sysmex_xn")
    return found


async def alone(
    database: Database, links: list[LinkContext], each: int, rounds: int, postmaster: int,
    owner: asyncpg.Connection[asyncpg.Record],
) -> None:  # fmt: skip
    async def ask(number: int, specimen: str) -> float:
        link, begun = links[number], time.perf_counter()
        async with database.transaction(link.organization_id) as connection:
            now = datetime.now(UTC)
            book = await order_book.work_for(connection, link, Query((specimen,)), now)
            [work] = book.works
            if len(work.steps) != len(BLOOD):
                raise RuntimeError(f"{specimen} has {len(work.steps)} tests to do")
            await order_book.record_sent(connection, link, uuid7(), work.dispatches, b"x" * 500, None, now)
        return (time.perf_counter() - begun) * 1000

    await measure(ask, each, rounds, "the order book alone", postmaster, owner)


# ---- the daemon -----------------------------------------------------------------------------------------------------


class Wire:
    """One analyzer's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.control = 0

    async def mllp(self, specimen: str) -> float:
        self.control += 1
        lines = (
            f"MSH|^~\\&|Mindray|BS-480|||20260105141500||QRY^Q02|{self.control}|P|2.3.1||||||ASCII|||",
            f"QRD|20260105141500|R|D|{self.control}|||RD|{specimen}|OTH|||T|",
            "QRF|BS-480|20260105141500|20260105141500|||RCT|COR|ALL||",
        )
        self.writer.write(b"\x0b" + "\r".join(lines).encode() + b"\r\x1c\r")
        begun = time.perf_counter()
        first = await self.reader.readexactly(1)
        waited = (time.perf_counter() - begun) * 1000
        answer = first + await self.reader.readuntil(b"\x1c\r")
        orders = await self.reader.readuntil(b"\x1c\r")
        if b"QAK|SR|OK|" not in answer or specimen.encode() not in orders:
            raise RuntimeError("the answer is another")
        acknowledged = lines[0].replace("QRY^Q02", "ACK^Q03") + f"\rMSA|AA|{self.control}|Message accepted|||0|\r"
        self.writer.write(b"\x0b" + acknowledged.encode() + b"\x1c\r")
        return waited

    async def astm(self, specimen: str) -> float:
        text = (f"H|\\^&|||    XN-550^00-24^90001^^^^TEST9001||||||||E1394-97\rQ|1|^^{specimen:>22}^B||^^^^ALL||"
                "20260105080000\rL|1|N\r")  # fmt: skip
        await self._answered(ENQ)
        await self._answered(build_frame(1, text.encode(), True))
        self.writer.write(EOT)
        begun = time.perf_counter()
        if await self.reader.readexactly(1) != ENQ:
            raise RuntimeError("the answer begins with another byte")
        waited = (time.perf_counter() - begun) * 1000
        answer = b""
        self.writer.write(ACK)
        while (first := await self.reader.readexactly(1)) != EOT:
            answer += first + await self.reader.readuntil(b"\r\n")
            self.writer.write(ACK)
        if specimen.encode() not in answer or b"^^^^WBC" not in answer:
            raise RuntimeError("the answer is another")
        return waited

    async def _answered(self, data: bytes) -> None:
        self.writer.write(data)
        if await self.reader.readexactly(1) != ACK:
            raise RuntimeError("the query was refused")


async def _connected(port: int) -> Wire:
    """To a daemon whose links begin to listen one after the other."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ConnectionRefusedError):
                return Wire(*await asyncio.open_connection("127.0.0.1", port))
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(url: str, folder: Path) -> AsyncIterator[list[Wire]]:
    """`labora run` with all the links, and a connection to each."""
    ports = free_ports(LINKS + 1)
    text = f'state_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{ports[-1]}"\n'
    for number in range(LINKS):
        _, driver, transport, _ = KINDS[number % 2]
        text += (f'[[link]]\nid = "link-{number}"\norganization = "{ORGANIZATION}"\ndriver = "{driver}"\n'
                 f'transport = {{ type = "{transport}", listen = "127.0.0.1:{ports[number]}" }}\n')  # fmt: skip
    config = folder / "config.toml"
    config.write_text(text)
    command = [program(), "--config", str(config), "run"]
    with server(command, ports[0], folder / "daemon.log", {"LABORA_DATABASE_URL": url}):
        wires = [await _connected(port) for port in ports[:LINKS]]
        try:
            yield wires
        finally:
            for wire in wires:
                wire.writer.close()
                with suppress(OSError):
                    await wire.writer.wait_closed()


async def _asked(wires: Sequence[Wire], number: int, specimen: str) -> float:
    async with asyncio.timeout(PATIENCE_S):
        return await (wires[number].astm(specimen) if number % 2 else wires[number].mllp(specimen))


async def whole(
    url: str, folder: Path, each: int, rounds: int, postmaster: int, owner: asyncpg.Connection[asyncpg.Record]
) -> float:
    both: dict[str, list[float]] = {"mllp": [], "astm": []}
    async with running(url, folder) as wires:

        async def ask(number: int, specimen: str) -> float:
            waited = await _asked(wires, number, specimen)
            both["astm" if number % 2 else "mllp"].append(waited)
            return waited

        p99 = await measure(ask, each, rounds, "labora run, 16 links", postmaster, owner)
    for name, waited in both.items():
        waited = sorted(waited[WARM_ROUNDS * LINKS // 2 :])
        say(f"  {name:<26} {len(waited):>6} answers  p50 {waited[len(waited) // 2]:6.1f}"
            f"  p99 {waited[int(len(waited) * 0.99)]:6.1f}  worst {waited[-1]:6.1f} ms")  # fmt: skip
    return p99


async def round_trips(
    url: str, folder: Path, each: int, server_log: Path, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Print how many statements the daemon sends for a query, from its first frame to what became of its answer. Each
    is a round trip, and so is the begin and the end of a transaction."""
    await owner.execute(f"alter role {APP_ROLE} set log_statement = 'all'")
    rng = random.Random("counted")  # noqa: S311 - no secret
    async with running(url, folder) as wires:

        async def ask(links: Sequence[int], times: int) -> None:
            for _ in range(times):
                together = (_asked(wires, link, f"{KINDS[link % 2][0]}{rng.randint(1, each)}") for link in links)
                await asyncio.gather(*together)

        await ask(range(LINKS), WARM_ROUNDS)
        for what, links in (("one asks over MLLP", [0]), ("one asks over LIS01-A2", [1]), ("all ask", range(LINKS))):
            await asyncio.sleep(1.0)  # what the daemon writes behind it
            before = _statements(server_log)
            await ask(links, COUNTED)
            await asyncio.sleep(0.1)
            said = (_statements(server_log) - before) / (COUNTED * len(links))
            say(f"{what:<28} {said:6.1f} round trips a query")
    await owner.execute(f"alter role {APP_ROLE} reset log_statement")


def _statements(server_log: Path) -> int:
    return len(re.findall(r"LOG:  (?:execute|statement)", server_log.read_text(errors="replace")))


async def run(items: int, rounds: int) -> int:
    with _folder() as folder:
        postgres = EmbeddedPostgres(folder)
        await postgres.start()
        try:
            owner_url = postgres.url(OWNER_ROLE)
            await upgrade(owner_url)
            url, pid = with_database(owner_url, "labora", APP_ROLE), postgres.pid
            if pid is None:
                raise RuntimeError("the server did not start")
            database = await Database.connect(url, pool_size=LINKS)
            owner = await asyncpg.connect(owner_url)
            try:
                organization_id = (await actors.create_organization(database, ORGANIZATION)).id
                links = await contexts(database, organization_id)
                each = await fill(owner, organization_id, items)
                say(f"{each * 2 * len(BLOOD):,} order items wait on {each * 2:,} specimens; {LINKS} analyzers at once")
                await alone(database, links, each, rounds, pid, owner)
                own = folder / "daemon"
                own.mkdir()
                p99 = await whole(url, own, each, rounds, pid, owner)
                shutil.rmtree(own, ignore_errors=True)
                own.mkdir()
                await round_trips(url, own, each, folder / "pg" / "server.log", owner)
            finally:
                await owner.close()
                await database.close()
        finally:
            await postgres.stop()
    return 0 if note("query-p99", p99, f"{rounds} rounds of {LINKS} links, {ITEMS:,} order items in the book") else 1


def main() -> int:
    """0 when 99 of 100 answers came within 50 ms."""
    parser = argparse.ArgumentParser(prog="scripts/bench query", description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--rounds", type=int, default=100, help="in each of which all 16 ask once")
    arguments = parser.parse_args()
    stopped_by_signal()
    configure_logs(40)
    return asyncio.run(run(arguments.items, arguments.rounds))


if __name__ == "__main__":
    sys.exit(main())
