"""Whether the day of `scripts/bench day` came as its plan says: everything that did not is said and counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from interface.domain.model import RELEASED
from tests.bench.day_plan import DROPPING, KINDS, REFUSING, RESERVE, Fate, Placed

ITEMS = """select i.id, s.barcode, t.code as test, i.status from lab.order_item i
    join lab.test t on t.id = i.test_id join lab.specimen s on s.id = i.specimen_id"""
RESULTS = """select r.order_item_id, s.barcode, r.status, r.held, r.reportable, a.name as analyzer
    from lab.result r left join lab.specimen s on s.id = r.specimen_id
    left join lab.analyzer a on a.id = r.analyzer_id"""
WORK = """select d.order_item_id, d.kind, d.state, d.sent_at is not null as told, a.name as analyzer,
    exists (select from lab.dispatch_event e where e.dispatch_id = d.id and e.state = 'failed') as failed
    from lab.dispatch d join lab.analyzer a on a.id = d.analyzer_id"""
SHOWN = 10


def analyzer(at: int) -> str:
    """The name of the analyzer, and of its link."""
    return f"an-{at:02d}"


@dataclass(slots=True)
class Told:
    """What the day's people and machines saw themselves."""

    refused: set[str] = field(default_factory=set)  # orders whose cancellation the hospital was refused
    failed: Counter[str] = field(default_factory=Counter)  # codes that the list of alerts showed, by order
    repeated: Counter[str] = field(default_factory=Counter)  # times that an order sent again was answered, by order


@dataclass(slots=True)
class Found:
    """All that the laboratory knows at the end of the day."""

    items: Mapping[str, Sequence[asyncpg.Record]]  # by barcode
    results: Mapping[UUID | None, Sequence[asyncpg.Record]]  # by order item
    work: Mapping[UUID | None, Sequence[asyncpg.Record]]
    specimens: Mapping[str, int]  # how many have the barcode
    orders: int


def by(rows: Iterable[asyncpg.Record], key: str) -> dict[UUID | None, list[asyncpg.Record]]:
    """The rows by one of their columns."""
    found: dict[UUID | None, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def judged(order: Placed, found: Found, told: Told) -> list[str]:
    """What is not as the plan of the order says."""
    items = found.items.get(order.barcode, ())
    if sorted(row["test"] for row in items) != sorted(order.tests):
        return [f"has the tests {sorted(row['test'] for row in items)} and not {sorted(order.tests)}"]
    if found.specimens.get(order.barcode) != 1:
        return ["has more than one specimen"]
    wrong = []
    for place, (at, test) in enumerate(zip(order.kinds, order.tests, strict=True)):
        item = next(row for row in items if row["test"] == test)
        judge = _cancelled if order.cancelled else _measured
        again = order.fate is Fate.RERUN and place == 0
        wrong += [f"{test}: {text}" for text in judge(order, at, item, found, again=again)]
    if (order.number in told.refused) != (order.fate is Fate.TOO_LATE):
        wrong.append(f"its cancellation was {'refused' if order.number in told.refused else 'taken'}")
    refused = order.kinds.count(REFUSING) if order.refused and order.fate is not Fate.EARLY else 0
    if told.failed[order.number] != refused:
        wrong.append(f"{told.failed[order.number]} of its codes were shown as failed and not {refused}")
    repeated = 2 if order.fate is Fate.AGAIN else 0
    if told.repeated[order.number] != repeated:
        wrong.append(f"it was answered again {told.repeated[order.number]} times and not {repeated}")
    return wrong


def _measured(order: Placed, at: int, item: asyncpg.Record, found: Found, *, again: bool) -> list[str]:
    """What is wrong with a test that is to be verified: one result is released, of its own analyzer."""
    wrong = [] if item["status"] == "verified" else [f"is {item['status']} and not verified"]
    results, work = found.results.get(item["id"], ()), found.work.get(item["id"], ())
    who = analyzer(RESERVE if at == REFUSING and order.moved else at)
    if len(results) != (2 if again else 1):
        wrong.append(f"has {len(results)} results")
    out = [row for row in results if row["status"] in RELEASED and row["reportable"]]
    if len(out) != 1 or sum(row["reportable"] for row in results) != 1:
        wrong.append(
            f"{len(out)} of its results are released: " + ", ".join(f"{r['status']} {r['held']}" for r in results)
        )
    if any(row["analyzer"] != who for row in results):
        wrong.append(f"was measured by {sorted({row['analyzer'] for row in results})} and not by {who}")
    expected = Counter({("new", "resulted", who): 1})
    if again:
        expected["rerun", "resulted", who] = 1
    failed = order.refused and at == REFUSING
    if failed:
        # What failed was taken from it, of which it is told since it may know of it, or was sent again as new work.
        expected["cancel" if order.moved else "new", "cancelled", analyzer(REFUSING)] += 1
    if (ends := Counter((row["kind"], row["state"], row["analyzer"]) for row in work)) != expected:
        wrong.append("its work ended as " + ", ".join(f"{n} {' '.join(key)}" for key, n in sorted(ends.items())))
    if sum(row["failed"] for row in work) != failed:
        wrong.append(f"{sum(row['failed'] for row in work)} pieces of its work failed")
    return wrong


def _cancelled(order: Placed, at: int, item: asyncpg.Record, found: Found, *, again: bool) -> list[str]:
    """What is wrong with a test that is to be cancelled: without a result, with no work of any analyzer's left."""
    wrong = [] if item["status"] == "cancelled" else [f"is {item['status']} and not cancelled"]
    if found.results.get(item["id"]):
        wrong.append("has a result although it was cancelled")
    work = found.work.get(item["id"], ())
    if any(row["state"] != "cancelled" for row in work):
        wrong.append(f"its work is {sorted(row['state'] for row in work)}")
    if order.fate is Fate.EARLY and work:
        wrong.append("was given to an analyzer before the specimen was received")
    if order.fate is not Fate.EARLY and not any(row["told"] or row["failed"] for row in work):
        wrong.append("was cancelled before an analyzer was told")
    return wrong


def of_nobody(orders: Sequence[Placed], found: Found) -> list[str]:
    """What is wrong with results without an order item: cancelled work that was measured, each held, and no other."""
    results = found.results.get(None, ())
    expected = Counter({one.barcode: len(one.tests) for one in orders if one.fate is Fate.IGNORED})
    wrong = []
    if (came := Counter(row["barcode"] for row in results)) != expected:
        wrong.append(f"results without an order are of {dict(came)} and not of {dict(expected)}")
    loose = [row for row in results if row["status"] in RELEASED or not row["held"]]
    if loose:
        wrong.append(f"{len(loose)} results of cancelled tests are not held")
    planned = {one.barcode for one in orders}
    if extra := set(found.items) - planned:
        wrong.append(f"tests on specimens that nobody sent: {sorted(extra)[:SHOWN]}")
    if found.orders != len(orders):
        wrong.append(f"there are {found.orders} orders and not {len(orders)}")
    return wrong


def of_lines(
    told_twice: Mapping[str, int],
    connections: Sequence[int],
    refusals: Sequence[int],
    kills: int = 0,
    *,
    refusing: bool = True,
) -> list[str]:
    """What is wrong with the lines: those that were to drop have, once; who is told nothing was said twice of, but one
    message for each time that the daemon was killed. `refusing`: whether work was told to who refuses it."""
    wrong = [f"{name} took {n} messages twice" for name, n in told_twice.items() if n > kills]
    for at, kind in enumerate(KINDS):
        least = 2 if at in DROPPING else 1
        if not least <= connections[at] <= least + kills:
            wrong.append(f"{kind.driver} was connected {connections[at]} times")
        if bool(refusals[at]) != (refusing and at == REFUSING):
            wrong.append(f"{kind.driver} refused {refusals[at]} frames")
    return wrong


def of_analyzers(lost: Mapping[str, tuple[int, int]]) -> list[str]:
    """What is wrong with the host's answers: of each analyzer the queries that had none while its line held, and the
    reports that were not taken."""
    wrong = [f"{n} queries of {name} had no answer" for name, (n, _) in lost.items() if n]
    return wrong + [f"{n} reports of {name} were not taken" for name, (_, n) in lost.items() if n]


def planned(orders: Sequence[Placed]) -> str:
    """The plan in counts."""
    fates = Counter(one.fate.value for one in orders)
    tests = sum(len(one.tests) for one in orders)
    split, refused = sum(len(one.analyzers) > 1 for one in orders), sum(one.refused for one in orders)
    return (
        f"planned: {len(orders)} orders with {tests} tests, {split} for two analyzers, {refused} for the one that"
        f" refuses ({sum(one.moved for one in orders)} to go to another): "
        + ", ".join(f"{n} {w}" for w, n in sorted(fates.items()))
    )
