"""Words for people: counts by class, what was wrong, and a sample to check by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from random import Random

from tests.hazards.plan import Expected, Fate, Order, Plan, Tube
from tests.hazards.runner import Found
from tests.hazards.verdict import Verdict


def lines(plan: Plan, verdict: Verdict) -> Iterator[str]:
    """The table, then every disagreement."""
    yield f"seed {plan.seed}: {plan.sent} results sent, {len(plan.expected)} expected, {plan.controls} controls"
    yield f"{'class':<28}{'planted':>8}{'hazards':>8}{'released':>9}{'waiting':>8}{'wrong':>6}  held"
    for kind, of in sorted(verdict.counts.items()):
        held = ", ".join(f"{reason} {number}" for reason, number in sorted(of.held.items()))
        yield f"{kind:<28}{of.planted:>8}{of.hazards:>8}{of.released:>9}{of.waiting:>8}{of.wrong:>6}  {held}"
    share = verdict.released / max(1, plan.sent)
    yield (
        f"{len(verdict.counts)} classes, {sum(of.hazards for of in verdict.counts.values())} hazards;"
        f" {verdict.released} released ({share:.1%} of what was sent);"
        f" {verdict.wrong_releases} wrong releases, {len(verdict.faults)} disagreements"
    )
    for fault in verdict.faults:
        yield f"WRONG {fault.kind}: {fault.text}"
        if fault.expected is not None:
            yield from _row(0, fault.expected, fault.found)


def sample(plan: Plan, verdict: Verdict, number: int) -> Iterator[str]:
    """So many results, hazards first, spread over the classes: what was planted, what must be, what is."""
    random, around = Random(plan.seed), Around(plan)  # noqa: S311 - the same sample for the same seed
    by_kind: dict[str, list[tuple[Expected, Found | None]]] = {}
    for pair in random.sample(verdict.pairs, len(verdict.pairs)):
        by_kind.setdefault(pair[0].kind, []).append(pair)
    for pairs in by_kind.values():
        pairs.sort(key=lambda pair: not pair[0].hazard)
    left = number
    while left and by_kind:
        for kind in sorted(by_kind):
            if left and by_kind[kind]:
                left -= 1
                expected, found = by_kind[kind].pop(0)
                yield from _row(number - left, expected, found, around.of(expected))
        by_kind = {kind: pairs for kind, pairs in by_kind.items() if pairs}


class Around:
    """What a person needs to judge a result by hand: whose it is, by which link it came, and what was before."""

    def __init__(self, plan: Plan) -> None:
        self._tubes: dict[str, Tube] = {}
        self._links: dict[tuple[str, str, str], str] = {}
        self._expected = plan.expected
        for stage in plan.stages:
            for step in stage.setup:
                if isinstance(step, Order):
                    self._tubes[step.tube.barcode] = step.tube
            for send in (one for lane in stage.lanes for one in lane):
                for part in send.parts:
                    for row in part.rows:
                        self._links.setdefault((part.barcode, row.code, row.time or send.time), send.link)

    def of(self, one: Expected) -> str:
        barcode, code, _ = one.key
        tube = self._tubes.get(barcode)
        link = self._links.get(one.key) or self._links.get((barcode, code, "-"), "no link: calculated")
        said = [_patient(tube) if tube else "no order of this barcode", link]
        if tube is not None and tube.collected is not None:
            near = [
                (other.collected - tube.collected, f"{value.value} {value.fate}") for value in self._expected
                if value.test == one.test and (other := self._tubes.get(value.key[0])) is not None
                and other.person.id == tube.person.id and other.collected is not None
            ]  # fmt: skip
            before = max((each for each in near if each[0] < timedelta()), default=None)
            after = min((each for each in near if each[0] > timedelta()), default=None)
            said += [f"{-before[0].days} days before: {before[1]}"] if before else []
            said += [f"{after[0].days} days after: {after[1]}"] if after else []
        return ", ".join(said)


def _patient(tube: Tube) -> str:
    person, at = tube.person, tube.collected
    if person.birth is None:
        return f"{person.sex}, birth date not known"
    if at is None:
        return f"{person.sex}, born {person.birth}, collected nobody knows when"
    days = (at.date() - person.birth).days
    birthday = (at.month, at.day) >= (person.birth.month, person.birth.day)
    years = at.year - person.birth.year - (not birthday)
    return f"{person.sex}, {days} days old" if years < 2 else f"{person.sex}, {years} years"


def _row(at: int, expected: Expected, found: Found | None, around: str = "") -> Iterator[str]:
    barcode, code, time = expected.key
    yield f"{at:>3} [{expected.kind}] {barcode or '(no id)'} {code or '(no code)'} at {time or '-'}: {expected.planted}"
    if around:
        yield f"      of:   {around}"
    yield f"      must: {_must(expected)}"
    yield f"      is:   {_is(found) if found else 'not there'}"


def _must(one: Expected) -> str:
    if one.fate is Fate.HELD:
        said = f"held for {', '.join(sorted(one.reasons))}"
    else:
        said = _words(one.fate, one.test or "", one.value or "", one.unit or "", one.flags or (), one.patients)
    return said + _extra(one.reportable is False, one.pending, bool(one.critical), one.versions)


def _is(one: Found) -> str:
    said = _words(one.status, one.test, one.value, one.unit, one.flags, one.patients)
    said += f", held for {', '.join(sorted(one.held))}" if one.held else ""
    said += f", an EMR sees {one.emr}" if one.emr is not None else ""
    return said + _extra(not one.reportable, one.pending, one.critical, one.versions)


def _words(status: str, test: str, value: str, unit: str, flags: Iterable[str], patients: Iterable[str]) -> str:
    return f"{status} {test} {value} {unit} {' '.join(flags)} of {' '.join(sorted(patients)) or 'nobody'}"


def _extra(spare: bool, pending: str | None, critical: bool, versions: int) -> str:
    said = ", not the reported run" if spare else ""
    said += f", beside it waits {pending}" if pending is not None else ""
    said += ", somebody must be told" if critical else ""
    return said + (f", {versions} versions" if versions > 1 else "")
