"""A database that stands still for up to a minute, or one table of it that is locked for as long: how long senders
and readers wait meanwhile, what the daemon holds in memory, how soon afterwards what had piled up is decided (F4)."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg

from interface.domain.permissions import Role
from interface.settings import Address
from interface.store.db import ACQUIRE_TIMEOUT_S, ANSWER_S
from tests.e2e.people import register_people
from tests.fault.audit import Finding
from tests.fault.rig import Fault, Rig, Where, rig

LONGEST_S = 60.0
WAIT_S, DRAINED_S = 10.0, 10.0  # PERFORMANCE.md F4
READ_S = ACQUIRE_TIMEOUT_S + ANSWER_S  # for a connection, and for what is asked over it
LATE_S = 2.0  # of a machine that does other things too
GROWTH_MB = 60.0
READERS = 2
PATIENCE_S = 180.0
_LEFT = "select exists (select from lab.queue where message_id <= $1)"
_LAST = "select max(message_id::text)::uuid from lab.queue"


@dataclass(slots=True)
class Stalled:
    """What was seen while it stood still, and after it."""

    fault: Fault
    lasted_s: float
    answer_s: float = 0.0  # the longest that an analyzer waited for one
    read_s: float = 0.0  # the longest that a client of the API waited
    statuses: set[int] = field(default_factory=set)
    growth_mb: float = 0.0  # of the daemon's memory, while and after
    waiting: int = 0  # messages that had piled up
    drained_s: float = 0.0

    def wrong(self) -> list[str]:
        """What is not as F4 wants it."""
        said = {
            f"an analyzer waited {self.answer_s:.1f} s": self.answer_s > WAIT_S + LATE_S,
            f"a read took {self.read_s:.1f} s": self.read_s > READ_S + LATE_S,
            f"reads were answered {sorted(self.statuses)}": not self.statuses <= {200, 503, 504},
            f"it grew by {self.growth_mb:.0f} MB": self.growth_mb > GROWTH_MB,
            f"{self.waiting} messages were decided after {self.drained_s:.1f} s": self.drained_s > DRAINED_S + LATE_S,
        }
        return [f"{self.fault.value} of {self.lasted_s:.1f} s: {what}" for what, bad in said.items() if bad]

    def __str__(self) -> str:
        return (
            f"{self.fault.value:<9} {self.lasted_s:5.1f} s: an answer after {self.answer_s:4.1f} s at most, a read "
            f"{self.read_s:4.1f} s {sorted(self.statuses)}, {self.growth_mb:+5.1f} MB, {self.waiting:>4} waiting, "
            f"decided after {self.drained_s:4.1f} s"
        )


def lengths(chance: random.Random, number: int) -> list[float]:
    """In seconds, from one to LONGEST_S; as many from 1 to 2 as from 30 to 60."""
    return [math.exp(chance.uniform(0.0, math.log(LONGEST_S))) for _ in range(number)]


@dataclass(slots=True)
class Reader:
    """An EMR that searches, again and again."""

    api: Address
    token: str
    asked_at: float = 0.0
    longest_s: float = 0.0
    statuses: set[int] = field(default_factory=set)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}) as session:
            while True:
                self.asked_at = loop.time()
                async with session.get(f"http://{self.api}/fhir/Observation?_count=5") as answer:
                    await answer.read()
                self.statuses.add(answer.status)
                self.longest_s = max(self.longest_s, loop.time() - self.asked_at)
                await asyncio.sleep(0.2)


@asynccontextmanager
async def _reading(at: Rig) -> AsyncIterator[list[Reader]]:
    """Some, each with a request under way at nearly any moment."""
    assert at.server is not None
    people = await register_people(at.daemon.state_dir, at.daemon.api, Role.ADMINISTRATOR, url=at.server.url())
    readers = [Reader(at.daemon.api, people.emr) for _ in range(READERS)]
    reading = [asyncio.create_task(one.run()) for one in readers]
    try:
        yield readers
        assert not (ended := [task for task in reading if task.done()]), ended
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def stalls(
    seed: int, lasting: Sequence[tuple[Fault, float]], commit_wait_s: float = 5.0
) -> tuple[list[Stalled], list[Finding]]:
    """One after another, under load; then everything that was acknowledged is looked for."""
    chance, done = random.Random(seed), []  # noqa: S311  no secret
    async with rig(Where.EXTERNAL, commit_wait_s=commit_wait_s) as at, _reading(at) as readers:
        for fault, seconds in lasting:
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            done.append(await _stalled(at, readers, fault, seconds))
            print(done[-1], flush=True)
        await at.stop_sending()
        return done, (await at.audit(everything=True))[1]


async def _stalled(at: Rig, readers: Sequence[Reader], fault: Fault, seconds: float) -> Stalled:
    at.frozen_s, seen = seconds, Stalled(fault, seconds)
    for one in at.analyzers:
        one.longest_s = 0.0
    for reader in readers:
        reader.longest_s, reader.statuses = 0.0, set()
    before, largest = _megabytes(at), 0.0
    breaking = asyncio.create_task(at.broken(fault))
    while not breaking.done():
        largest = max(largest, _megabytes(at))
        await asyncio.wait([breaking], timeout=0.1)
    await breaking
    owner = await asyncpg.connect(at.url)
    try:
        loop = asyncio.get_running_loop()
        began, last = loop.time(), await owner.fetchval(_LAST)
        seen.waiting = await owner.fetchval("select count(*) from lab.queue")
        async with asyncio.timeout(PATIENCE_S):
            while last is not None and await owner.fetchval(_LEFT, last):
                largest = max(largest, _megabytes(at))
                await asyncio.sleep(0.02)
        seen.drained_s = loop.time() - began
    finally:
        await owner.close()
    seen.growth_mb = largest - before
    seen.answer_s = max(one.longest_s for one in at.analyzers)
    seen.read_s = max(max(one.longest_s, loop.time() - one.asked_at) for one in readers)
    seen.statuses = set().union(*(one.statuses for one in readers))
    return seen


def _megabytes(at: Rig) -> float:
    """What the daemon holds in memory."""
    text = Path(f"/proc/{at.daemon.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
