"""What was found against what was expected: every result, in both directions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.hazards.plan import Expected, Fate, Key, Plan
from tests.hazards.runner import Found, State

RELEASED = frozenset({"final", "corrected", "amended"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One disagreement. `wrong_release`: a patient is told what must not be told, or not so."""

    kind: str
    text: str
    expected: Expected | None
    found: Found | None
    wrong_release: bool = False


@dataclass(slots=True)
class Counts:
    """Of one class. `held`: by reason."""

    planted: int = 0
    hazards: int = 0
    released: int = 0
    waiting: int = 0
    held: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    counts: dict[str, Counts]
    faults: tuple[Fault, ...]
    pairs: tuple[tuple[Expected, Found | None], ...]
    released: int

    @property
    def wrong_releases(self) -> int:
        return sum(fault.wrong_release for fault in self.faults)


def compare(plan: Plan, state: State) -> Verdict:
    """Every expected result is there once and as expected, and nothing else is there."""
    by_key: dict[Key, list[Found]] = defaultdict(list)
    for one in state.results:
        by_key[one.key].append(one)
    counts: dict[str, Counts] = defaultdict(Counts)
    faults: list[Fault] = []
    pairs: list[tuple[Expected, Found | None]] = []
    for expected in plan.expected:
        found = by_key.pop(expected.key, [])
        mine = list(_faults(expected, found))
        pairs.append((expected, found[0] if found else None))
        _count(counts[expected.kind], expected, found, mine)
        faults += mine
    for left in by_key.values():
        faults += [Fault("unplanned", f"nobody planted {one.key}", None, one, _shown(one)) for one in left]
    faults += _totals(plan, state)
    released = sum(_shown(one) for one in state.results)
    return Verdict(dict(counts), tuple(faults), tuple(pairs), released)


def _shown(found: Found) -> bool:
    """Whether anybody outside may have seen it: released by status, or shown to an EMR."""
    return found.emr is not None or found.status in RELEASED


def _count(counts: Counts, expected: Expected, found: Sequence[Found], faults: Sequence[Fault]) -> None:
    counts.planted += 1
    counts.hazards += expected.hazard
    counts.wrong += bool(faults)
    for one in found[:1]:
        if _shown(one):
            counts.released += 1
        elif not one.held:
            counts.waiting += 1
        counts.held.update(one.held)


def _faults(expected: Expected, found: Sequence[Found]) -> Iterator[Fault]:
    if not found:
        yield Fault(expected.kind, "lost: there is no such result", expected, None)
        return
    one = found[0]
    if len(found) > 1:
        yield Fault(expected.kind, f"doubled: {len(found)} results", expected, one, sum(map(_shown, found)) > 1)
    must = expected.fate is Fate.RELEASED
    for text in _differences(expected, one):
        # Released, and it must not be, or it is not what was planted: that is told to a patient's physician.
        yield Fault(expected.kind, text, expected, one, _shown(one) and (not must or text.startswith("released ")))
    if _shown(one) and not must:
        yield Fault(expected.kind, "released, and must not be", expected, one, True)


def _differences(expected: Expected, one: Found) -> Iterator[str]:
    must = expected.fate is Fate.RELEASED
    if must and not (one.emr is not None and one.status == "final" and one.actor == "rule_set"):
        yield f"not released: {one.status} {sorted(one.held)}"
    if expected.fate is Fate.WAITS and one.status != "preliminary":
        yield f"does not wait: {one.status}"
    if expected.fate is Fate.HELD and one.status != "registered":
        yield f"not held: {one.status}"
    if one.held != expected.reasons:
        yield f"held for {sorted(one.held)}, not {sorted(expected.reasons)}"
    if expected.fate is not Fate.HELD:
        yield from _said(expected, one, "released" if must else "shown as")
    elif expected.flags is not None and sorted(one.flags) != sorted(expected.flags):
        yield f"held with flags {one.flags}, not {expected.flags}"
    if expected.test is not None and one.test != expected.test:
        yield f"released as the test {one.test!r}, not {expected.test!r}"
    if expected.reportable is not None and one.reportable is not expected.reportable:
        yield f"reportable {one.reportable}"
    if one.pending != expected.pending:
        yield f"beside it waits {one.pending!r}, not {expected.pending!r}"
    if one.pending is not None and "changed_after_release" not in one.pending_held:
        yield f"the change beside it is held for {sorted(one.pending_held)}"
    if expected.critical is not None and one.critical is not expected.critical:
        yield f"a task to tell somebody: {one.critical}"
    if one.versions != expected.versions:
        yield f"{one.versions} versions, not {expected.versions}"
    if expected.dated and one.dated != expected.dated:
        yield f"dated by {one.dated or 'nothing known'}, not by {expected.dated}"


def _said(expected: Expected, one: Found, verb: str) -> Iterator[str]:
    """Value, unit, flags and patient of what is not held."""
    if one.value != expected.value:
        yield f"{verb} with value {one.value!r}, not {expected.value!r}"
    if one.emr is not None and one.emr != f"{expected.value} {expected.unit}".strip():
        yield f"{verb} to an EMR as {one.emr!r}"
    if one.unit != expected.unit:
        yield f"{verb} in {one.unit!r}, not {expected.unit!r}"
    if expected.flags is not None and sorted(one.flags) != sorted(expected.flags):
        yield f"{verb} with flags {one.flags}, not {expected.flags}"
    if not one.patients <= set(expected.patients) or bool(one.patients) is not bool(expected.patients):
        yield f"{verb} of patient {sorted(one.patients)}, not {expected.patients}"


def _totals(plan: Plan, state: State) -> Iterator[Fault]:
    for name, is_, must in (
        ("results", len(state.results), len(plan.expected)),
        ("quality control's results", state.controls, plan.controls),
        ("duplicate messages", state.duplicates, plan.duplicates),
        ("unsettled messages", state.unsettled, 0),
        ("parked messages", state.parked, 0),
        ("versions without an explanation", state.unexplained, 0),
    ):
        if is_ != must:
            yield Fault("totals", f"{is_} {name}, not {must}", None, None)
