"""The analyzers of `scripts/bench day` at work: they ask or are told, measure and report."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from interface.simulator.holding import Holder, Order
from tests.bench.day_clock import FASTER
from tests.bench.day_plan import Kind

ANSWERED_S = 10.0 * FASTER


@dataclass
class Bench:
    """One analyzer: what it asks about, or is told of, it measures and reports."""

    kind: Kind
    holder: Holder
    asked: int = 0
    nothing: int = 0
    reported: int = 0
    unanswered: int = 0  # queries, though the line did not drop
    rejected: int = 0  # reports that the host did not take
    heard: dict[str, list[str]] = field(default_factory=dict)  # what waits to be measured, by specimen
    scans: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    paused: set[str] = field(default_factory=set)  # specimens that are not to be measured yet
    deaf: set[str] = field(default_factory=set)  # specimens of which it ignores that nothing is to be measured
    runs: Counter[str] = field(default_factory=Counter)
    history: dict[str, list[str]] = field(default_factory=dict)  # what it did, by specimen

    def hear(self, order: Order) -> None:
        """Take what it is told without having asked."""
        self._note(order.specimen_id, f"told {'to leave ' if order.cancel else ''}{order.code}")
        waits = self.heard.setdefault(order.specimen_id, [])
        if order.cancel:
            if order.code in waits and order.specimen_id not in self.deaf:
                waits.remove(order.code)
        elif order.code not in waits:
            waits.append(order.code)
        self.scans.put_nowait(order.specimen_id)

    async def work(self) -> None:
        """Until cancelled: see to one specimen after the other."""
        while True:
            await self._see_to(await self.scans.get())
            self.scans.task_done()

    async def _see_to(self, specimen: str) -> None:
        if not self.kind.told and not (specimen in self.deaf and specimen not in self.paused):
            self.heard[specimen] = await self._ask(specimen)
        if specimen in self.paused:
            return
        await asyncio.sleep(0)  # the rest of the message that it was told in
        codes = self.heard.pop(specimen, [])
        if not codes:
            return
        self._note(specimen, f"reports {codes}")
        taken = await self.holder.report(specimen, codes, self.runs[specimen])
        self._note(specimen, f"report {'taken' if taken else 'refused'}")
        if taken:
            self.runs[specimen] += 1
            self.reported += len(codes)
        else:
            self.rejected += 1

    def _note(self, specimen: str, text: str) -> None:
        self.history.setdefault(specimen, []).append(f"{time.strftime('%H:%M:%S')} {text}")

    async def _ask(self, specimen: str) -> list[str]:
        answered = False
        while not answered:  # whose line dropped asks again
            connections, silences = self.holder.connections, self.holder.silences
            self.asked += 1
            tests = await self.holder.ask(specimen, ANSWERED_S)
            answered = self.holder.silences == silences
            self.unanswered += not answered and connections == self.holder.connections
        self.nothing += not tests
        return list(self.holder.codes_of(tests))
