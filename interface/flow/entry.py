"""What a person enters for an order item: decided like an analyzer's result, with the person as its origin.

The same entry again says nothing new; another value is the next version, and one that would change a released result
waits beside it. Nothing is released by being entered, but what the rules in force release, and not where two people
verify: of what one person typed nobody else would have seen anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.model import (
    LONGEST_METHOD,
    RELEASED,
    FollowUpKind,
    Observed,
    OrderedItem,
    Origin,
    ResultStatus,
    SpecimenFacts,
    Step,
)
from interface.domain.permissions import Permission
from interface.domain.runs import GONE
from interface.domain.states import CLOSED_ITEM
from interface.domain.values import parse_value
from interface.domain.views import Actor, Audience, ResultView
from interface.errors import LaboraError
from interface.flow.actors import may
from interface.flow.around import add_neighbours_of, gate_beside, used_beside
from interface.flow.cases import Case, Decided, Rules
from interface.flow.criticals import open_for
from interface.flow.outcome import (
    Surroundings,
    after_a_person,
    beside_of,
    decide_beside,
    effects_of,
    judged_of,
    remember,
    said_of,
)
from interface.flow.qc_gate import gate_of
from interface.flow.rules import rule_sets
from interface.flow.version_making import By, versions_of
from interface.flow.work import own_key
from interface.store import audit, lab
from interface.store import results as store
from interface.store import surroundings as rows
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection
from interface.store.review import of_two_steps

_OF_TWO = "a person entered it, and two people verify this test"
LONGEST_VALUE = 4000  # characters, of a value and of a comment


class EntryError(LaboraError):
    """What cannot be entered, in one sentence. `item_id`: of the entry, where it is one's fault."""

    slug = "entry"

    def __init__(self, text: str, item_id: UUID | None = None) -> None:
        self.item_id = item_id
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Entry:
    """`value` as it is typed, `unit` as the person says it; "" is the test's own. `method`: by which it was measured;
    "": the person does not say. `beside`: the result that stands at the place where it is entered."""

    order_item_id: UUID
    value: str
    unit: str = ""
    comment: str = ""
    method: str = ""
    beside: UUID | None = None


async def enter(
    connection: Connection, actor: Actor, entries: Sequence[Entry], analyzer: tuple[UUID, str] | None = None
) -> list[ResultView]:
    """Decide and write entries in the caller's transaction; their results, in the entries' order.

    `analyzer`: id and name of that on which they were measured: its intervals and its rules decide about them, and its
    controls speak of them, as of now.

    Needs `worksheet:write`. Raises EntryError, and then nothing was written.
    """
    if not may(actor, Permission.WORKSHEET_WRITE):
        raise EntryError(f"only a user with the permission {Permission.WORKSHEET_WRITE} may enter results")
    _check(entries)
    analyzers = [analyzer[0]] if analyzer else []
    gate = await gate_of(connection, analyzers)
    specimens = await _specimens(connection, [one.order_item_id for one in entries])
    locked = await rows.lock(connection, (), sorted(set(specimens.values())))
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    now = await rule_sets().current(connection, catalogue.tests)
    keys = {one.order_item_id: own_key("manual", str(one.order_item_id)) for one in entries}
    again = {one.result_id for led in locked.led.values() for one in led if one.kind is not FollowUpKind.REFLEX}
    at = Surroundings(locked, current=await _current(connection, keys, again))
    found = [(one, *_found(one, str(specimens[one.order_item_id]), at, catalogue)) for one in entries]
    tests = [(specimen, catalogue.tests[item.test_id].code) for _, specimen, item in found]
    await add_neighbours_of(connection, at, tests, catalogue, now)
    gate = await gate_beside(connection, at, gate, analyzers)
    used_by = await used_beside(connection, at, [now])
    rules = Rules(now, analyzer=analyzer[1] if analyzer else "", qc=gate, used_by=used_by)
    two = await of_two_steps(connection, [item.test_id for _, _, item in found])
    decided = _decided(actor, found, keys, at, catalogue, rules, two)
    result_ids = {key: known.id for key, known in at.current.items()}
    result_ids |= {case.key: case.result_id for one in decided for case in one.cases}
    await _write(connection, actor, decided, catalogue, now)
    ids = [result_ids[keys[one.order_item_id]] for one in entries]
    wanted = lab.ResultFilter(ids=tuple(ids), page=lab.Page(limit=len(ids)))
    views = {view.id: view for view in await lab.find_results(connection, wanted, Audience.STAFF)}
    return [views[result_id] for result_id in ids]


def _check(entries: Sequence[Entry]) -> None:
    seen: set[UUID] = set()
    for one in entries:
        if one.order_item_id in seen:
            raise EntryError("an order item is entered twice", one.order_item_id)
        seen.add(one.order_item_id)
        if not one.value.strip():
            raise EntryError("an entry has no value", one.order_item_id)
        for text in (one.value, one.unit, one.comment, one.method):
            if len(text) > LONGEST_VALUE or any(not each.isprintable() and each not in "\r\n\t" for each in text):
                raise EntryError("an entry is too long, or has a character that cannot be printed", one.order_item_id)
        if len(one.method) > LONGEST_METHOD:
            raise EntryError(f"a method is longer than {LONGEST_METHOD} characters", one.order_item_id)


async def _specimens(connection: Connection, item_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The specimen of each item."""
    known = {
        row["id"]: row["specimen_id"]
        for row in await connection.fetch("SELECT id, specimen_id FROM lab.order_item WHERE id = ANY($1)", item_ids)
    }
    for item_id in item_ids:
        if item_id not in known:
            raise EntryError("there is no such order item", item_id)
        if known[item_id] is None:
            raise EntryError("the order item has no specimen yet", item_id)
    return known


async def _current(
    connection: Connection, keys: dict[UUID, bytes], again: Collection[UUID]
) -> dict[bytes, store.CurrentResult]:
    """What was entered before, by its key. What follows a retracted result is another, under a key that `keys` gets:
    whoever has the one must go on seeing that it was entered in error. So is the rerun of one of `again`, which is
    another run, whatever its value is."""
    current = await store.load_current(connection, list(keys.values()))
    while others := {
        item_id: own_key("manual", str(item_id), str(known.id))
        for item_id, key in keys.items()
        if (known := current.get(key)) is not None
        and (known.status is ResultStatus.ENTERED_IN_ERROR or known.id in again)
    }:
        keys |= others
        current |= await store.load_current(connection, list(others.values()))
    return current


def _found(entry: Entry, specimen_id: str, at: Surroundings, catalogue: Catalogue) -> tuple[SpecimenFacts, OrderedItem]:
    specimen = at.locked.by_id[specimen_id]
    item = next((one for one in specimen.items if one.id == str(entry.order_item_id)), None)
    if item is None:
        raise EntryError("there is no such order item", entry.order_item_id)
    if item.status in CLOSED_ITEM:
        raise EntryError(f"the order item is {item.status}", entry.order_item_id)
    if not specimen.available:
        raise EntryError("the specimen may not be measured any more", entry.order_item_id)
    if item.test_id not in catalogue.tests:
        raise EntryError("the test is not in use any more", entry.order_item_id)
    return specimen, item


def _decided(
    actor: Actor,
    found: Sequence[tuple[Entry, SpecimenFacts, OrderedItem]],
    keys: dict[UUID, bytes],
    at: Surroundings,
    catalogue: Catalogue,
    rules: Rules,
    two: Collection[str],
) -> list[Decided]:
    """`two`: the tests whose results two people verify."""
    context = DecisionContext(catalogue, received_at=datetime.now(UTC), analyzer=rules.analyzer)
    by_specimen: dict[str, list[Case]] = {}
    for entry, specimen, item in found:
        text, method = entry.value.strip(), " ".join(entry.method.split())
        value, test = parse_value(text), catalogue.tests[item.test_id]
        observed = Observed(
            "",
            value,
            raw_value=text,
            unit=entry.unit.strip(),
            comments=(entry.comment,) if entry.comment else (),
            method=method,
        )
        said = {"value": text, "unit": observed.unit, "method": method}
        made = Step("enter", "ok", f"entered by {actor.name}", inputs={name: one for name, one in said.items() if one})
        decision = decide_value(test, value, observed.unit, specimen, item, context, made, method)
        blocked = _OF_TWO if item.test_id in two else ""
        case = Case(keys[entry.order_item_id], decision, Origin.MANUAL, observed, blocked=blocked)
        known = at.current.get(case.key)
        if known is None and (again := _at_its_place(entry, case, at)) is not None:
            keys[entry.order_item_id] = again
            continue
        if known is not None:
            if known.status not in GONE and _said_before(case, known):
                continue
            released = known.status in RELEASED
            case.follow(known.id, known.version, known.version_id, known.last_version, released=released)
            if known.status not in GONE:  # what a person took back, a person enters anew
                after_a_person(case, known)
        by_specimen.setdefault(specimen.id, []).append(case)
    made_of: list[Decided] = []
    for specimen_id, cases in by_specimen.items():
        beside = beside_of(at.locked.by_id[specimen_id], at)
        made_of.append(decide_beside(cases, beside, at, rules, context))
        remember(made_of[-1], beside, at)
    return made_of


def _at_its_place(entry: Entry, case: Case, at: Surroundings) -> bytes | None:
    """The key of what stands at the entry's place and says the same, and of which a rerun is asked for: who enters it
    once more, since the answer was lost or another place was mistyped, has measured nothing again."""
    found = ((key, known) for key, known in at.current.items() if known.id == entry.beside)
    return next((key for key, known in found if known.status not in GONE and _said_before(case, known)), None)


def _said_before(case: Case, known: store.CurrentResult) -> bool:
    """By the version that waits or by the current one. An entry that names no method says nothing of it."""
    before = ((known.pending_said, known.pending_method), (known.said, known.method))
    said, method = said_of(case), case.decision.method
    return any(said == text and method in ("", by) for text, by in before)


async def _write(
    connection: Connection, actor: Actor, decided: Sequence[Decided], catalogue: Catalogue, now: Autoverification
) -> None:
    by = By(actor.kind, actor.id, rule_set_id=now.active_id)
    versions = versions_of([case for one in decided for case in one.cases], by)
    await store.write_versions(connection, actor.organization_id, versions)
    await store.write_effects(connection, actor.organization_id, [effects_of(decided, catalogue)], now.active_id)
    await open_for(connection, actor, judged_of(versions))
    again = {case.result_id for one in decided for case in one.cases if case.waited is not None}
    for version in versions:
        of = version.alike
        detail = {"version": str(of.version), "status": of.status.value}
        if of.held:
            detail["held"] = " ".join(of.held)
        action = "judge_again" if version.result_id in again else "enter"
        await audit.record(connection, actor, action, "result", version.result_id, detail)
