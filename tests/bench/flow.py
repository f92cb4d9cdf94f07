"""`scripts/bench flow`: from the journal to committed decisions, beside the ceiling `pg-full` in the same run.

Messages are ORU^R01 of 25 OBX: mapped, one order each, intervals, a previous result of 20 days ago for each, a rule set
that looks at each and releases it; each person has values of their own. They are sent as fast as a real daemon
acknowledges them; then it decides what has piled up, PostgreSQL beside it. The rate is that of the decided messages
from the last acknowledgement to the end; CPU and WAL of a message are counted from the first one sent to the last
decision. `--messages 27000`: eight hours of the worst laboratory, with nobody who reads meanwhile.
`--stored 5000000`: once more with as many results stored already. `--keep DIR`: they are kept there and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from uuid import UUID

import asyncpg

from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind
from interface.flow.rule_proof import prove
from interface.flow.rules import activate, import_rules
from interface.store.changes import unsealed
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.bench.messages import hl7_message
from tests.bench.population import Population, rule_set
from tests.bench.record import TARGETS, note
from tests.bench.stored import stored
from tests.bench.yardstick import (
    Load,
    NoYardstick,
    Postgres,
    Yardstick,
    accepted,
    daemon,
    free_port,
    say,
    scratch_folder,
    server,
    stopped_by_signal,
)

CONNECTIONS = 16
WANTED, SLOWER = 0.2, 0.9  # of pg-full; with the results stored, of without
POLL_S = 0.05
# What PostgreSQL has of the counters of its log, and where it is in it.
_WAL = "select wal_sync, pg_current_wal_lsn() - '0/0'::pg_lsn as bytes from pg_stat_wal"


@dataclass(frozen=True, slots=True)
class Drained:
    """What was decided after the last acknowledgement. `states`: result states with their numbers."""

    per_s: float
    acked_per_s: float
    decided: int
    took_s: float  # to decide them
    cpu_ms: float  # per message decided then, PostgreSQL included
    whole_cpu_ms: float  # per message, with its acknowledgement
    wal_syncs: float  # the same
    wal_kb: float
    states: dict[str, int]
    others: float  # the rest of the machine meanwhile, 0 to 1


async def _rules_in_force(url: str, organization_id: UUID, population: Population) -> None:
    roles = frozenset({"laboratory_director"})
    database = await Database.connect(url)
    try:
        async with database.transaction(organization_id) as connection:
            director = await connection.fetchval(
                "insert into lab.app_user (id, organization_id, username, password_hash) values ($1, $2, 'bench', '!')"
                " returning id", uuid7(), organization_id,
            )  # fmt: skip
            actor = Actor(ActorKind.USER, director, "bench", organization_id, permissions(roles), roles)
            made = await import_rules(connection, actor, rule_set(await population.tests()), "bench", "measured")
            await prove(connection, actor, made.name, made.revision)
            await activate(connection, actor, made.name, made.revision, "measured")
    finally:
        await database.close()


async def _send(port: int, barcodes: Sequence[str]) -> None:
    """Every message over its connection, each after the answer to the one before."""

    async def link(own: Sequence[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for barcode in own:
                await accepted(reader, writer, hl7_message(barcode, f"C{barcode}", int(barcode[1:])))
        finally:
            writer.close()

    await asyncio.gather(*(link(barcodes[at::CONNECTIONS]) for at in range(CONNECTIONS)))


async def _unused(connection: asyncpg.Connection[asyncpg.Record]) -> str:
    """A letter with which no barcode begins: in a database that is kept, others were measured before."""
    for letter in ascii_uppercase:
        if not await connection.fetchval(
            "select exists (select from lab.specimen where barcode = $1)", f"{letter}00000001"
        ):
            return letter
    raise NoYardstick("every letter has been used up in this database: remove it, it is filled anew")


class Bench:
    """Runs single measurements."""

    def __init__(self, yardstick: Yardstick, postgres: Postgres, messages: int) -> None:
        self._yardstick, self._postgres, self._messages = yardstick, postgres, messages

    def ceiling(self, seconds: float) -> Load:
        """`pg-full`: messages stored with their 25 rows, 16 connections, nothing decided."""
        self._yardstick.quiet(30)
        with scratch_folder() as folder:
            url, port = self._postgres.fresh(migrated=False), free_port()
            try:
                with server(self._yardstick.reference("mllp-pg-full", port, url), port, folder / "log") as pid:
                    options = ("--connections", str(CONNECTIONS), "--duration", str(seconds), "--warmup", "12")
                    return self._yardstick.drive("mllp", port, [pid, self._postgres.pid], *options)
            finally:
                self._postgres.drop(url)

    def drained(self, results: int = 0) -> Drained:
        """A daemon on a database of its own, or on the one in which so many results are stored."""
        url = stored(self._postgres, results) if results else self._postgres.fresh(migrated=True)
        try:
            with scratch_folder() as folder:
                if not results:
                    with daemon(url, folder, astm=0):
                        pass  # the first start makes the organization, its catalogue and its links
                barcodes = asyncio.run(self._populate(url))
                with daemon(url, folder, astm=0) as (pid, links):
                    return asyncio.run(self._drain(url, [pid, self._postgres.pid], links.mllp[0], barcodes))
        finally:
            if not results:
                self._postgres.drop(url)

    async def _populate(self, url: str) -> list[str]:
        """The barcodes of specimens that wait to be measured, and the rules that will decide."""
        connection = await asyncpg.connect(url)
        try:
            organization_id = await connection.fetchval("select id from lab.organization where name = 'main'")
            population = Population(connection, organization_id)
            prefix = await _unused(connection)
            await population.make(prefix, self._messages)
            if not await connection.fetchval("select exists (select from lab.rule_use where mode = 'active')"):
                await _rules_in_force(url, organization_id, population)
            return [f"{prefix}{at:08d}" for at in range(1, self._messages + 1)]
        finally:
            await connection.close()

    @staticmethod
    async def _wal(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[int, int]:
        """How often PostgreSQL has synced its log, and how many bytes it has written to it."""
        syncs, written = await connection.fetchrow(_WAL) or (0, 0)
        return int(syncs), int(written)

    async def _drain(self, url: str, servers: Sequence[int], port: int, barcodes: Sequence[str]) -> Drained:
        connection = await asyncpg.connect(url)
        waiting = "select count(*) from lab.queue"
        try:
            while await unsealed(connection):  # noqa: ASYNC110  of the orders: they are there before, and not measured
                await asyncio.sleep(POLL_S)
            servers_s, (syncs, written) = self._yardstick.cpu(servers), await self._wal(connection)
            began = time.perf_counter()
            await _send(port, barcodes)
            acked = time.perf_counter()
            left, cpu = await connection.fetchval(waiting), self._yardstick.cpu(servers)
            first, busy, own = left, self._yardstick.busy(), time.process_time()
            while left:
                await asyncio.sleep(POLL_S)
                left = await connection.fetchval(waiting)
            took, ended = time.perf_counter() - acked, self._yardstick.cpu(servers)
            others = self._yardstick.busy() - busy - (ended - cpu) - (time.process_time() - own)
            syncs_now, written_now = await self._wal(connection)
            rows = await connection.fetch(
                "select status || case when held = '{}' then '' else ' held ' || held[1] end as state, count(*)"
                " from lab.result where created_at > now() - interval '1 day' group by 1 order by 2 desc"
            )
            states = {row["state"]: row["count"] for row in rows}
            return Drained(
                per_s=first / took,
                acked_per_s=self._messages / (acked - began),
                decided=first,
                took_s=took,
                cpu_ms=(ended - cpu) / first * 1e3,
                whole_cpu_ms=(ended - servers_s) / self._messages * 1e3,
                wal_syncs=(syncs_now - syncs) / self._messages,
                wal_kb=(written_now - written) / 1e3 / self._messages,
                states=states,
                others=max(0.0, others / took / (os.cpu_count() or 1)),
            )
        finally:
            await connection.close()


def _report(name: str, found: Drained, ceiling: Load) -> float:
    released = sum(number for state, number in found.states.items() if state == "final")
    share = released / max(1, sum(found.states.values()))
    wanted = TARGETS["P1-decided"].wanted
    say(f"{name:<28}{found.per_s:>8,.0f} messages/s  {found.per_s / ceiling.per_s:>5.2f} of pg-full"
        f" (wanted {WANTED}, then {wanted})")  # fmt: skip
    say(f"{'':<28}{found.cpu_ms:.1f} ms CPU each; {found.decided} decided after {found.acked_per_s:,.0f} acks/s,"
        f" others {found.others:.0%}")  # fmt: skip
    say(f"{'':<28}with its acknowledgement {found.whole_cpu_ms:.1f} ms CPU (pg-full: {ceiling.server_cpu_ms:.2f}),"
        f" {found.wal_syncs:.2f} WAL syncs, {found.wal_kb:.1f} kB of WAL")  # fmt: skip
    say(f"{'':<28}{share:.1%} released: " + ", ".join(f"{number} {state}" for state, number in found.states.items()))
    return share


def _note(found: Drained, ceiling: Load) -> None:
    """For docs/performance.md."""
    others = max(ceiling.others, found.others)
    how = f"{found.per_s:,.0f}/s of {ceiling.per_s:,.0f}/s, {found.decided} waiting, others {others:.0%}"
    note("P1-decided", found.per_s / ceiling.per_s, how)
    note(
        "P14", found.whole_cpu_ms / ceiling.server_cpu_ms, f"{found.whole_cpu_ms:.2f} of {ceiling.server_cpu_ms:.2f} ms"
    )
    note("P15-syncs", found.wal_syncs)
    note("P15-bytes", found.wal_kb)


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench flow", description=__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the ceiling's measurement")
    parser.add_argument("--stored", type=int, default=0, help="also with so many results stored already")
    parser.add_argument("--keep", type=Path, help="the folder of a database server whose data stay there")
    options = parser.parse_args()
    stopped_by_signal()
    met = True
    try:
        yardstick = Yardstick()
        with yardstick.postgres(options.keep) as postgres:
            bench = Bench(yardstick, postgres, options.messages)
            for _ in range(options.rounds):
                ceiling = bench.ceiling(options.seconds)
                say(f"{'pg-full, 16 connections':<28}{ceiling.per_s:>8,.0f} messages/s")
                empty = bench.drained()
                released = _report("journal to decisions", empty, ceiling)
                met &= released >= 0.95 and empty.per_s >= WANTED * ceiling.per_s
                _note(empty, ceiling)
                if options.stored:
                    full = bench.drained(options.stored)
                    _report(f"{options.stored:,} results stored", full, ceiling)
                    say(f"{'':<28}{full.per_s / empty.per_s:.2f} of the rate without them (wanted {SLOWER})")
                    met &= full.per_s >= SLOWER * empty.per_s
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
