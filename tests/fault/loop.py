"""The fault loop: break, mend, look for everything that was acknowledged; again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from tests.fault.audit import Finding
from tests.fault.rig import Fault, Rig, Where, moment, rig

PERSON = ("PATIENT", "19800501")  # of whom the messages are; no log says it, whatever breaks


@dataclass(slots=True)
class Outcome:
    """What a run of cycles has shown. `next_ack_s`: of each cycle, from the break to the next acknowledgement."""

    where: Where
    seed: int
    cycles: Counter[Fault] = field(default_factory=Counter)
    failed: Counter[Fault] = field(default_factory=Counter)  # cycles
    acknowledged: Counter[Fault] = field(default_factory=Counter)  # looked for after a fault of this kind
    next_ack_s: dict[Fault, list[float]] = field(default_factory=dict)
    findings: list[tuple[Fault | None, Finding]] = field(default_factory=list)
    damaged: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.where.value} database, seed {self.seed}: {self.acknowledged.total()} acknowledged, "
                 f"{len(self.findings)} wrong, pages {self.damaged or 'whole'}"]  # fmt: skip
        for fault, took in self.next_ack_s.items():
            lines.append(
                f"  {fault.value:<12} {len(took):>5} cycles; to the next acknowledgement p50 "
                f"{percentile(took, 50):.2f} s, p95 {percentile(took, 95):.2f} s, longest {max(took):.2f} s"
            )
        return "\n".join([*lines, *(f"  {when.value if when else 'end'}: {one}" for when, one in self.findings[:20])])


def percentile(seconds: Sequence[float], percent: int) -> float:
    """By nearest rank."""
    ordered = sorted(seconds)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def cycle(at: Rig, fault: Fault, chance: random.Random, into: Outcome, look: bool) -> None:
    await asyncio.sleep(moment(chance))
    took = await at.broken(fault)
    into.cycles[fault] += 1
    into.next_ack_s.setdefault(fault, []).append(took)
    if look:
        await looked(at, fault, into)


async def looked(at: Rig, fault: Fault, into: Outcome) -> None:
    """For all that was acknowledged since this was asked last."""
    number, findings = await at.audit()
    into.acknowledged[fault] += number
    into.failed[fault] += bool(findings)
    into.findings.extend((fault, one) for one in findings)


async def run(
    where: Where,
    faults: Sequence[Fault],
    seed: int,
    *,
    lie: str | None = None,
    state: Path | None = None,
    enough: Callable[[Outcome], bool] = lambda _: False,
    stopped: Callable[[], bool] = lambda: False,
    every: int = 1,
) -> Outcome:
    """These faults one after another, each at a moment of the seed's; then everything that was ever acknowledged is
    looked for once more, and every page of the database is read. `enough`: to be done before that;
    `stopped`: to break nothing more; `every`: after how many cycles is looked for what was acknowledged in them."""
    chance, outcome = random.Random(seed), Outcome(where, seed)  # noqa: S311  no secret
    async with rig(where, power=Fault.POWER_CUT in faults, lie=lie, state=state) as at:
        try:
            for number, fault in enumerate(takewhile(lambda _: not stopped(), faults), 1):
                await cycle(at, fault, chance, outcome, look=number % every == 0)
                if enough(outcome):
                    return outcome
            await at.stop_sending()
            if outcome.cycles:
                await looked(at, fault, outcome)
            outcome.findings.extend((None, one) for one in (await at.audit(everything=True))[1])
            outcome.damaged = await at.damaged()
            if said := [word for word in PERSON if word in at.daemon.said()]:
                outcome.findings.append((None, Finding("log", "", f"the daemon's log says {', '.join(said)}")))
        except Exception as error:
            raise AssertionError(f"{outcome}\n{error!r}\n{at.daemon.said()[-4000:]}") from error
    return outcome
