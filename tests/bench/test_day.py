"""A small day of twelve analyzers comes as planned, and what does not is seen: see `tests.bench.day`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from tests.bench.day import run
from tests.bench.day_plan import DROPPING, KINDS, REFUSING, RESERVE, Fate, Placed, plan
from tests.bench.day_verdict import Found, Told, analyzer, judged, of_analyzers, of_lines, of_nobody

ITEM = UUID(int=1)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_day_of_40_orders_comes_as_planned() -> None:
    assert await run(40, 1) == 0


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_day_on_which_the_daemon_dies_in_the_middle_of_its_steps_comes_as_planned() -> None:
    assert await run(24, 5, kills=12) == 0


def test_the_plan_has_every_fate_and_is_the_same_for_a_seed() -> None:
    orders = plan(40, 1)
    assert {one.fate for one in orders} == set(Fate)
    assert {one.over for one in orders} == {"hl7", "fhir"}
    assert {at for one in orders for at in one.kinds} == set(range(len(KINDS)))
    assert any(one.moved for one in orders)
    assert any(one.refused and not one.moved for one in orders)
    assert orders == plan(40, 1)


def test_a_line_that_drops_or_says_twice_and_a_host_that_does_not_answer_are_faults() -> None:
    once = [2 if at in DROPPING else 1 for at in range(len(KINDS))]
    refused = [int(at == REFUSING) for at in range(len(KINDS))]
    assert of_lines({"told": 0}, once, refused) == []
    assert of_lines({"told": 2}, [n + 2 for n in once], refused, kills=2) == []
    assert of_lines({"told": 1}, once, refused)
    assert of_lines({"told": 3}, once, refused, kills=2)
    assert of_lines({}, [n + 1 for n in once], refused)
    assert of_lines({}, once, [0] * len(KINDS))
    assert of_lines({}, once, [0] * len(KINDS), refusing=False) == []
    assert of_lines({}, once, refused, refusing=False)
    assert of_analyzers({"one": (0, 0)}) == []
    assert of_analyzers({"one": (1, 0)}) and of_analyzers({"one": (0, 1)})


@dataclass
class _End:
    """What the laboratory knows of one order of one test, as it should be."""

    order: Placed
    status: str = "verified"
    results: list[dict[str, Any]] = field(default_factory=list)
    work: list[dict[str, Any]] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    specimens: int = 1

    def faults(self) -> list[str]:
        items: Any = {self.order.barcode: [{"id": ITEM, "test": self.order.tests[0], "status": self.status}]}
        results: Any = {ITEM: self.results}
        work: Any = {ITEM: self.work}
        found = Found(items, results, work, Counter({self.order.barcode: self.specimens}), 1)
        return judged(self.order, found, self.told)


def _result(at: int, **other: Any) -> dict[str, Any]:
    return {"status": "final", "held": [], "reportable": True, "analyzer": analyzer(at)} | other


def _work(at: int, state: str = "resulted", **other: Any) -> dict[str, Any]:
    return {"kind": "new", "state": state, "told": True, "failed": False, "analyzer": analyzer(at)} | other


def _placed(at: int, fate: Fate = Fate.PLAIN, *, refused: bool = False, number: int = 0) -> Placed:
    return Placed(f"O{number:06d}", "S1", (at,), (next(iter(KINDS[at].tests)),), "hl7", fate, refused=refused)


def _done(fate: Fate = Fate.PLAIN) -> _End:
    return _End(_placed(0, fate), results=[_result(0)], work=[_work(0)])


def test_an_order_that_is_as_planned_has_no_fault() -> None:
    assert _done().faults() == []
    again = _done(Fate.AGAIN)
    again.told.repeated[again.order.number] = 2
    assert again.faults() == []
    late = _done(Fate.TOO_LATE)
    late.told.refused.add(late.order.number)
    assert late.faults() == []
    twice = _done(Fate.RERUN)
    twice.results.append(_result(0, status="registered", reportable=False))
    twice.work.append(_work(0, kind="rerun"))
    assert twice.faults() == []
    assert _End(_placed(0, Fate.EARLY), "cancelled").faults() == []
    assert _End(_placed(0, Fate.LATE), "cancelled", work=[_work(0, "cancelled")]).faults() == []
    for number, who, kind in ((0, REFUSING, "new"), (len(KINDS), RESERVE, "cancel")):
        order = _placed(REFUSING, refused=True, number=number)
        failed = _work(REFUSING, "cancelled", kind=kind, failed=True)
        end = _End(order, results=[_result(who)], work=[failed, _work(who)])
        end.told.failed[order.number] = 1
        assert end.faults() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "completed"},
        {"status": "cancelled"},
        {"results": []},
        {"results": [_result(0), _result(0)]},
        {"results": [_result(0, status="preliminary")]},
        {"results": [_result(1)]},
        {"work": []},
        {"work": [_work(0), _work(0)]},
        {"work": [_work(0, "sent")]},
        {"work": [_work(0, failed=True)]},
        {"work": [_work(1)]},
        {"specimens": 2},
        {"told": Told(refused={"O000000"})},
        {"told": Told(failed=Counter({"O000000": 1}))},
        {"told": Told(repeated=Counter({"O000000": 1}))},
        {"order": _placed(0, Fate.TOO_LATE)},
        {"order": _placed(0, Fate.AGAIN)},
        {"order": _placed(0, Fate.RERUN)},
        {"order": _placed(0, Fate.EARLY)},
        {"order": _placed(0, Fate.LATE)},
    ],
)
def test_whatever_of_an_order_is_not_as_planned_is_a_fault(wrong: dict[str, Any]) -> None:
    assert replace(_done(), **wrong).faults()


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "received"},
        {"results": [_result(0, status="registered", held=["person"])]},
        {"work": []},
        {"work": [_work(0, "sent")]},
        {"work": [_work(0, "cancelled", told=False)]},
    ],
)
def test_whatever_of_a_cancelled_order_is_left_is_a_fault(wrong: dict[str, Any]) -> None:
    end = _End(_placed(0, Fate.LATE), "cancelled", work=[_work(0, "cancelled")])
    assert replace(end, **wrong).faults()


@pytest.mark.parametrize(
    ("loose", "orders", "fine"),
    [
        ([{"barcode": "S1", "status": "registered", "held": ["not_ordered"]}], 1, True),
        ([{"barcode": "S1", "status": "final", "held": []}], 1, False),
        ([{"barcode": "S1", "status": "registered", "held": []}], 1, False),
        ([], 1, False),
        ([{"barcode": "S1", "status": "registered", "held": ["not_ordered"]}], 2, False),
    ],
)
def test_a_result_of_a_cancelled_test_is_held(loose: list[dict[str, Any]], orders: int, fine: bool) -> None:
    order = _placed(0, Fate.IGNORED)
    results: Any = {None: loose}
    items: Any = {order.barcode: ()}
    found = Found(items, results, {}, Counter({order.barcode: 1}), orders)
    assert (of_nobody([order], found) == []) is fine
