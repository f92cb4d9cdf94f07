"""Both sides ask for the line at the same moment: nothing is lost, doubled or stuck, and the host yields (LIS01-A2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import pytest

from interface.errors import StoreUnavailable
from interface.link.intake import Receipt, ReceivedFrame, Sending
from interface.link.session import AstmSession, Counters
from interface.wire.lis01 import DataLink, LinkOptions, Station
from tests.link.virtual import VirtualClock, VirtualStream, Weather, cable, run

ENQ, EOT, STX = b"\x05", b"\x04", b"\x02"
OPTIONS = LinkOptions(max_attempts=1, frame_text_bytes=24)
LATEST_S = 3600.0


def message(name: str) -> bytes:
    return f"H|\\^&|||{name}\rP|1\rO|1|{name}||^^^GLU\\^^^ALT|R\rL|1|N\r".encode()


@dataclass
class Mouth:
    """What one side has to say; `due` at random moments, and told of what became of it."""

    todo: list[Sending]
    due: Callable[[], None] = lambda: None
    under_way: Sending | None = None
    delivered: list[UUID] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self) -> Sending | None:
        assert self.under_way is None, "one message at a time"
        await asyncio.sleep(0)
        self.under_way = self.todo[0] if self.todo else None
        return self.under_way

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> None:
        assert sending == self.under_way
        self.under_way = None
        if delivered:
            assert sending.id not in self.delivered
            self.delivered.append(sending.id)
            self.todo.remove(sending)
        else:
            self.failures[reason] += 1
        if not self.todo:
            self.done.set()

    def close(self) -> None:
        assert self.under_way is None


class Ear:
    """One side's intake: whole messages, as they were committed; it refuses now and then."""

    def __init__(self, mouth: Mouth, dice: Random, refusing: float) -> None:
        self.mouth, self._dice, self._refusing = mouth, dice, refusing
        self.heard = Counter[bytes]()
        self.order = list[bytes]()
        self._text = b""

    @property
    def ready(self) -> bool:
        return self._dice.random() >= self._refusing

    def frames(self, peer: str) -> Ear:
        return self

    def outgoing(self, peer: str, due: Callable[[], None]) -> Mouth:
        self.mouth.due = due
        return self.mouth

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        if self._dice.random() < self._refusing:
            raise StoreUnavailable("not now")
        self._text = (b"" if frame.text.startswith(b"H") else self._text) + frame.text
        if self._text.endswith(b"L|1|N\r"):
            self.heard[self._text] += 1
            self.order.append(self._text)
        return Receipt()

    async def end(self, reason: str) -> Receipt:
        self._text = b""
        return Receipt()

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        """Nobody counts it here."""

    def replied(self, receipt: Receipt, sent: bool) -> None:
        """Nor that."""


class Watched:
    """The host's end of the cable, as somebody who listens at it sees it: contention, and what the host does then."""

    def __init__(self, stream: VirtualStream) -> None:
        self._stream, self.peer = stream, stream.peer
        self.collisions = 0
        self._asked = False  # the host's last word was ENQ
        self._silent_until = 0.0

    async def read(self) -> bytes:
        data = await self._stream.read()
        if ENQ in data and self._asked:
            self.collisions += 1
            self._asked = False
            self._silent_until = asyncio.get_running_loop().time() + OPTIONS.host_hold_off_s
        elif data:
            # Once it has the line, or has given it back, the analyzer is not waited for any longer.
            self._silent_until = 0.0 if data[-1:] == EOT or STX in data else self._silent_until
            self._asked = self._asked and data[:1] not in (b"\x06", b"\x15", EOT)
        return data

    async def write(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if data in (ENQ,) or STX in data:
            assert now >= self._silent_until, "the host does not yield"
        self._asked = data == ENQ
        await self._stream.write(data)

    async def close(self) -> None:
        await self._stream.close()


async def day(seed: int) -> tuple[int, Mouth, Mouth]:
    """Two sessions at one cable, until both have said everything; how often they collided."""
    dice = Random(seed)  # noqa: S311
    rough = seed % 3
    weather = Weather(lost=0.03 * (rough > 0), damaged=0.03 * (rough == 2), delay_s=(0.001, dice.choice((0.01, 0.2))))
    refusing = dice.choice((0.0, 0.05))
    ours, theirs = cable(dice, weather)
    names = [[message(f"{side}{n}") for n in range(dice.randint(1, 3))] for side in "ah"]
    mouths = [Mouth([Sending(UUID(int=n + 1), text) for n, text in enumerate(texts)]) for texts in names]
    ears = [Ear(mouth, dice, refusing) for mouth in mouths]
    watched, clock = Watched(theirs), VirtualClock()
    sessions = [
        AstmSession(station, end, ear, Counters(), clock, DataLink(station, OPTIONS))  # type: ignore[arg-type]
        for station, end, ear in zip((Station.INSTRUMENT, Station.HOST), (ours, watched), ears, strict=True)
    ]
    tasks = [asyncio.create_task(session.run()) for session in sessions]
    async with asyncio.timeout(LATEST_S):
        await asyncio.gather(*(mouth.done.wait() for mouth in mouths))
    await asyncio.sleep(60.0)  # what is still on the line arrives, and sessions without EOT end
    await ours.close()
    await asyncio.gather(*tasks)
    for ear, said in zip(ears, reversed(names), strict=True):
        assert set(ear.heard) == set(said), f"seed {seed}: lost or made up"
        assert list(dict.fromkeys(ear.order)) == said, f"seed {seed}: out of order"
        if not rough:
            assert max(ear.heard.values()) == 1, f"seed {seed}: doubled"
    for mouth, texts in zip(mouths, names, strict=True):
        assert len(mouth.delivered) == len(texts)
    if not rough and not refusing:
        assert ears[1].order[:1] == names[0][:1]
        assert watched.collisions >= 1, f"seed {seed}: no collision"
    return watched.collisions, mouths[0], mouths[1]


def collide(seeds: range) -> tuple[int, Counter[str]]:
    collisions, failures = 0, Counter[str]()
    for seed in seeds:
        found, _, host = run(day(seed))
        collisions += found
        failures += host.failures
    return collisions, failures


def test_in_300_seeded_collisions_nothing_is_lost_doubled_or_stuck_and_the_host_yields() -> None:
    collisions, failures = collide(range(300))
    assert collisions >= 300, "or the test shows nothing"
    assert {"contention", "timeout", "silent", "busy"} <= set(failures)


@pytest.mark.long
def test_in_1000_seeded_collisions_nothing_is_lost_doubled_or_stuck_and_the_host_yields() -> None:
    collisions, _ = collide(range(300, 1300))
    assert collisions >= 1000
