"""`scripts/bench api --ingesting`: what reads wait for while results come in, and how soon what came in is read.

Three measurements on one daemon with 100,000 observations, every answer checked. What it reaches: messages of 25 OBX
from the first byte to the last decision (P1, sustained), reads of one Observation in a closed loop (P7). Then both at
once in an open loop, reads at half of that rate and messages at a quarter (P9): a read counts from when it was due.
Then messages alone at half of theirs (P11): of each of some, how long after its acknowledgement a search finds its
results, which are committed together. With `--backlog 27000`, eight hours of the worst laboratory, so many messages as
fast as they are acknowledged, reads beside them as before (P12): how long until the last is decided, and the slowest of
the reads' windows of some seconds.

"Half of P7's rate" may be half of what this daemon reaches on this machine, or half of what P7 demands of any, half of
what the ceiling `limit-http-pg` reaches in the same run. Each is measured and noted by its own name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import aiohttp
import asyncpg

from interface.store.changes import unsealed
from tests.bench.flow import _rules_in_force
from tests.bench.messages import hl7_message
from tests.bench.population import Population
from tests.bench.record import TARGETS, note
from tests.bench.yardstick import Load, NoYardstick, Postgres, Yardstick, accepted, daemon, say, scratch_folder

PREFIX, PEOPLE = "B", 9000
BURST, CONNECTIONS, CLIENTS = 800, 16, 16
# Each looker asks every LOOK_S: of what waits for half a second a dozen do at once. Every 5 ms, that was half of what
# the machine did, and kept the results waiting that were asked for.
LOOKED_AT_PER_S, LOOK_S, MOST_WAIT_S = 25.0, 0.02, 20.0
POLL_S, DECIDED_S = 0.1, 300.0
BACKLOG = 27_000  # messages: eight hours of four chemistry lines and a haematology line
READINGS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """What the daemon has been given: a token for an EMR, and ids of Observations to ask for."""

    token: str
    results: Sequence[UUID]


@dataclass(slots=True)
class _Sender:
    """Messages over CONNECTIONS, each with the next barcode: as fast as they are acknowledged, or so many a second.

    They are made before: what an analyzer does for them is not taken from the machine that is measured."""

    port: int
    barcodes: list[str]  # the next one last

    def made(self, count: int) -> list[tuple[str, bytes]]:
        """The next messages with their barcodes."""
        if len(self.barcodes) < count:
            raise NoYardstick("so many people are not enough for this machine")
        own = [self.barcodes.pop() for _ in range(count)]
        return [(one, hl7_message(one, f"C{one}", int(one[1:]))) for one in own]

    async def send(
        self, own: Sequence[tuple[str, bytes]], per_s: float = 0.0, acked: Callable[[str], None] | None = None
    ) -> None:
        began = time.perf_counter()

        async def link(first: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for at in range(first, len(own), CONNECTIONS):
                    if per_s:
                        await asyncio.sleep(max(0.0, began + at / per_s - time.perf_counter()))
                    barcode, message = own[at]
                    await accepted(reader, writer, message)
                    if acked is not None:
                        acked(barcode)
            finally:
                writer.close()

        await asyncio.gather(*(link(first) for first in range(CONNECTIONS)))


class _Looker:
    """Asks over FHIR for the results of specimens until they are there. `waited`: how long each took, in seconds."""

    def __init__(self, base: str, token: str, specimens: dict[str, UUID]) -> None:
        self._base, self._headers, self._specimens = base, {"Authorization": f"Bearer {token}"}, specimens
        self._looks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._next = 0.0
        self.waited: list[float] = []

    async def __aenter__(self) -> _Looker:
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await asyncio.gather(*self._looks, return_exceptions=True)
        await self._session.close()

    def acked(self, barcode: str) -> None:
        """Look for this one, unless another was just now."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + 1 / LOOKED_AT_PER_S
            self._looks.append(asyncio.create_task(self._look(self._specimens[barcode], now)))

    async def _look(self, specimen: UUID, began: float) -> None:
        assert self._session is not None
        url = f"{self._base}/Observation?specimen=Specimen/{specimen}&_summary=count"
        while time.perf_counter() - began < MOST_WAIT_S:
            async with self._session.get(url) as answer:
                found = await answer.json(content_type=None)
            if answer.status != 200:
                raise NoYardstick(f"a search was answered with {answer.status}")
            if found["total"]:
                break
            await asyncio.sleep(LOOK_S)
        self.waited.append(time.perf_counter() - began)

    async def done(self) -> None:
        """Raises what a look raised."""
        await asyncio.gather(*self._looks)


@dataclass(frozen=True, slots=True)
class _Reads:
    """How many reads a second go on beside. `of`: half of what; `name`: what is put to the names of their targets."""

    per_s: float
    of: str
    name: str = ""


class Ingesting:
    """`ceiling_per_s`: reads of one resource that `limit-http-pg` answers in a second."""

    def __init__(
        self,
        yardstick: Yardstick,
        postgres: Postgres,
        seconds: float,
        workers: int,
        backlog: int,
        ceiling_per_s: float,
    ) -> None:
        self._yardstick, self._postgres, self._seconds, self._workers = yardstick, postgres, seconds, workers
        self._backlog, self._people = backlog, PEOPLE + READINGS * backlog
        self._wanted_per_s, self._ceiling_per_s = TARGETS["P7"].wanted * ceiling_per_s, ceiling_per_s

    def measure(self, fill: Callable[[str], Awaitable[Stored]]) -> bool:
        """`fill`: stores Observations in a database that the daemon has been started on. Whether all is as wanted."""
        url = self._postgres.fresh(migrated=True)
        try:
            with scratch_folder() as folder:
                with daemon(url, folder, astm=0):
                    pass  # the first start makes the organization
                stored = asyncio.run(self._filled(url, fill))
                api = f"workers = {self._workers}\nclient_rate = 0\naddress_rate = 0\n"
                with daemon(url, folder, astm=0, api=api) as (pid, links):
                    reads = [f"http://127.0.0.1:{links.api}/fhir/Observation/{id}" for id in stored.results]
                    return asyncio.run(self._all(url, links.mllp[0], links.api, reads, stored.token, pid))
        finally:
            self._postgres.drop(url)

    async def _all(self, url: str, port: int, api: int, reads: Sequence[str], token: str, pid: int) -> bool:
        connection = await asyncpg.connect(url)
        try:
            while await unsealed(connection):  # noqa: ASYNC110  of the orders: they are there before, and not measured
                await asyncio.sleep(POLL_S)
            sender = _Sender(port, [f"{PREFIX}{at:08d}" for at in range(self._people, 0, -1)])
            burst, began = sender.made(BURST), time.perf_counter()
            await sender.send(burst)
            await _decided(connection)
            messages_per_s = BURST / (time.perf_counter() - began)

            def fetch(*more: str) -> Load:
                header = ("--header", f"Authorization: Bearer {token}")
                return self._yardstick.fetch(reads, [pid, self._postgres.pid], *self._options, *header, *more)

            reached = await asyncio.to_thread(fetch)
            say(f"{'reached':<28}{messages_per_s:>8,.0f} messages/s decided, {reached.per_s:,.0f} reads/s;"
                f" P7 wants {self._wanted_per_s:,.0f} of limit-http-pg's {self._ceiling_per_s:,.0f}")  # fmt: skip
            readings = (_Reads(reached.per_s / 2, "reached"), _Reads(self._wanted_per_s / 2, "wanted", "-wanted"))
            met = True
            for each in readings:
                met = await self._beside(sender, fetch, messages_per_s / 4, each) and met
                await _decided(connection)
            rows = await connection.fetch(
                "select barcode, id from lab.specimen where barcode = any($1)", sender.barcodes
            )
            async with _Looker(
                f"http://127.0.0.1:{api}/fhir", token, {row["barcode"]: row["id"] for row in rows}
            ) as looker:
                rate = messages_per_s / 2
                await sender.send(sender.made(int(rate * self._seconds)), rate, looker.acked)
                await looker.done()
            met = _visible(looker.waited, rate) and met
            for each in readings if self._backlog else ():
                await _decided(connection)
                met = await self._drained(sender, connection, fetch, each) and met
            return met
        finally:
            await connection.close()

    @property
    def _options(self) -> tuple[str, ...]:
        return ("--concurrency", str(CLIENTS), "--duration", str(self._seconds), "--warmup", "40")

    async def _beside(self, sender: _Sender, fetch: Callable[..., Load], messages_per_s: float, reads: _Reads) -> bool:
        """Reads while messages come in, from a second before to a second after."""
        count = int(messages_per_s * (self._seconds + 2))
        sending = asyncio.create_task(sender.send(sender.made(count), messages_per_s))
        await asyncio.sleep(1)
        found = await asyncio.to_thread(fetch, "--rate", str(reads.per_s))
        await sending
        p95, p99 = found.latency["p95"], found.latency["p99"]
        how = f"{found.per_s:,.0f} reads/s beside {messages_per_s:,.0f} messages/s, others {found.others:.0%}"
        say(
            f"{'half of the reads ' + reads.of:<28}{found.per_s:>8,.0f}/s beside {messages_per_s:,.0f} messages/s:"
            f" p50 {found.latency['p50']:.1f}  p95 {p95:.1f}  p99 {p99:.1f} ms, {found.bad} bad,"
            f" others {found.others:.0%} (wanted {TARGETS['P9-p95'].wanted:.0f} and {TARGETS['P9-p99'].wanted:.0f})"
        )
        return all([note(f"P9{reads.name}-p95", p95, how), note(f"P9{reads.name}-p99", p99, how)]) and not found.bad

    async def _drained(
        self, sender: _Sender, connection: asyncpg.Connection[asyncpg.Record], fetch: Callable[..., Load],
        reads: _Reads,
    ) -> bool:  # fmt: skip
        """A backlog that all comes at once, and reads until it is decided."""
        backlog = sender.made(self._backlog)

        async def drain() -> tuple[float, float]:
            began = time.perf_counter()
            await sender.send(backlog)
            acked = time.perf_counter()
            await _decided(connection)
            return acked - began, time.perf_counter() - began

        draining = asyncio.create_task(drain())
        windows: list[Load] = []
        while not draining.done():
            windows.append(await asyncio.to_thread(fetch, "--rate", str(reads.per_s), "--warmup", "1"))
        acked_s, took_s = await draining
        slowest, bad = max(windows, key=lambda one: one.latency["p95"]), sum(one.bad for one in windows)
        p95, p99 = slowest.latency["p95"], slowest.latency["p99"]
        how = f"{self._backlog:,} messages, acknowledged after {acked_s:.0f} s, beside {slowest.per_s:,.0f} reads/s"
        say(f"{'a backlog, half of ' + reads.of:<28}decided in {took_s:.0f} s, {how}: p95 {p95:.1f}  p99 {p99:.1f} ms"
            f" in the slowest of {len(windows)} windows, {bad} bad (wanted {TARGETS['P12'].wanted:.0f} s and"
            f" {TARGETS['P12-p95'].wanted:.0f} ms)")  # fmt: skip
        say(f"{'':<28}p95 of each: " + ", ".join(f"{one.latency['p95']:.0f}" for one in windows) + " ms")
        whole_s = took_s * BACKLOG / self._backlog
        return all([note(f"P12{reads.name}", whole_s, how), note(f"P12{reads.name}-p95", p95, how)]) and not bad

    async def _filled(self, url: str, fill: Callable[[str], Awaitable[Stored]]) -> Stored:
        stored = await fill(url)
        await _people(url, self._people)
        return stored


def _visible(waited: list[float], messages_per_s: float) -> bool:
    ordered = [1e3 * each for each in sorted(waited)]
    p50, p95, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99))
    how = f"{len(ordered)} of {messages_per_s:,.0f} messages/s looked for every {LOOK_S * 1e3:.0f} ms"
    say(
        f"{'acknowledged to visible':<28}p50 {p50:.0f}  p95 {p95:.0f}  p99 {p99:.0f}  max {ordered[-1]:.0f} ms, {how}"
        f" (wanted {TARGETS['P11-p95'].wanted:.0f} and {TARGETS['P11-p99'].wanted:.0f})"
    )
    return all([note("P11-p95", p95, how), note("P11-p99", p99, how)])


async def _people(url: str, number: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        own = await connection.fetchval("select id from lab.organization where name = 'main'")
        population = Population(connection, own)
        began = time.perf_counter()
        await population.make(PREFIX, number)
        await _rules_in_force(url, own, population)
        say(f"{'':<28}{number:,} people whose results are awaited, made in {time.perf_counter() - began:.0f} s")
    finally:
        await connection.close()


async def _decided(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until nothing is left to decide."""
    began = time.perf_counter()
    while await connection.fetchval("select exists (select from lab.queue)"):
        await asyncio.sleep(POLL_S)
        if time.perf_counter() - began > DECIDED_S:
            raise NoYardstick(f"what came in was not decided within {DECIDED_S:.0f} s")
