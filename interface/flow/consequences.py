"""What follows when a person has decided about a result: what is calculated of it, and what it makes us do next.

A result that somebody released, corrected or discarded is another input than before. What is calculated of it is
calculated anew, in the same transaction; of what was released already the new value waits beside it, or, where no rule
in force calculates it any more, a change without one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from asyncpg import Record

from interface.domain import indices
from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.model import RELEASED, HoldReason, Observed, Origin, Step
from interface.domain.reflex import ReflexKind, evaluate
from interface.domain.runs import Run, choose
from interface.domain.views import Actor
from interface.flow.around import add_neighbours_of
from interface.flow.calculations import calculate_anew, left_over
from interface.flow.cases import Beside, Case, Decided, Rules, Seen, facts_of, siblings_of
from interface.flow.criticals import open_for
from interface.flow.late import came_late
from interface.flow.outcome import Added, Surroundings, beside_of, effects_of, judged_of, known_of, remember
from interface.flow.rules import DEFAULT, rule_sets
from interface.flow.version_making import By, versions_of
from interface.store import audit
from interface.store import results as store
from interface.store import surroundings as rows
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection
from interface.store.judged_for import analyzers_of, held_before
from interface.store.review import report_run
from interface.store.rules import last_rules, rules_of_each
from interface.store.surroundings import KnownResult


async def follow(connection: Connection, actor: Actor, result_ids: Collection[UUID]) -> list[UUID]:
    """Do what follows from results that the caller's transaction has changed; returns the results that were written.

    For the same results again it does nothing.
    """
    results = await connection.fetch(
        "SELECT id, specimen_id, test_id, order_item_id FROM lab.result WHERE id = ANY($1) AND specimen_id IS NOT NULL",
        list(result_ids),
    )
    if not results:
        return []
    specimen_ids = sorted({row["specimen_id"] for row in results})
    at = Surroundings(await rows.lock(connection, (), specimen_ids))
    await _report_what_is_left(connection, actor, {row["order_item_id"] for row in results}, at)
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    names, changed = await _rules_of(connection, results), set(result_ids)
    in_force = await rule_sets().by_name(connection, catalogue.tests, set(names.values()))
    of = await _measured(connection, changed, at)
    tests = {test.code for row in results if (test := catalogue.of_result(str(row["test_id"]))) is not None}
    decided: dict[str, list[Decided]] = {}
    for specimen_id in specimen_ids:
        specimen, now = at.locked.by_id[str(specimen_id)], in_force[names[specimen_id]]
        rules = Rules(now)
        if now.active is not None:
            known = [(specimen, one.test) for one in known_of(specimen.family, at)]
            await add_neighbours_of(connection, at, known, catalogue, now)
        beside = beside_of(specimen, at)
        made = _of_specimen(beside, changed, tests, rules, catalogue, of)
        decided.setdefault(names[specimen_id], []).append(made)
        family = [at.locked.by_id[one] for one in specimen.family or (specimen.id,)]
        # An index that waited said nothing of what was released; a companion that waited did when it came.
        made.cases += came_late(
            {one.test for one in beside.known if one.id in changed and one.status in RELEASED}, (), beside, family,
            rules, DecisionContext(catalogue, received_at=datetime.now(UTC)), (indices.CHECK,),
        )  # fmt: skip
        # An aliquot's is the same order as its tube's: what is calculated for the one is there for the other.
        remember(Decided([case for case in made.cases if case.result_id not in changed]), beside, at)
    why = {"of": " ".join(map(str, sorted(changed)))}
    written: list[UUID] = []
    for name, several in decided.items():
        written += await write_calculated(
            connection, actor, several, catalogue, in_force[name], why, at.added, apart_from=changed
        )
    return written


async def _rules_of(connection: Connection, results: Sequence[Record]) -> dict[UUID, str]:
    """Of each specimen the name of the rules that decided last about these results of it: links have their own."""
    last = await rules_of_each(connection, [row["id"] for row in results])
    of: dict[UUID, list[tuple[datetime, int, str]]] = {row["specimen_id"]: [] for row in results}
    for row in results:
        if row["id"] in last:
            of[row["specimen_id"]].append(last[row["id"]])
    return {specimen_id: last_rules(decided) or DEFAULT for specimen_id, decided in of.items()}


@dataclass(frozen=True, slots=True)
class _Measured:
    """How a result was measured, what the analyzer said of it, and what held it last."""

    analyzer: str = ""
    driver: str = ""
    observed: Observed | None = None
    held: frozenset[HoldReason] = frozenset()


async def _measured(connection: Connection, result_ids: Collection[UUID], at: Surroundings) -> dict[UUID, _Measured]:
    known = [one for several in at.locked.results.values() for one in several if one.id in result_ids]
    said = await rows.waited(connection, [one.version_id for one in known if one.origin is Origin.ANALYZER])
    on, held = await analyzers_of(connection, result_ids), await held_before(connection, result_ids)
    return {
        one.id: _Measured(
            *on.get(one.id, ("", "")), said[one.version_id].observed if one.version_id in said else None,
            held.get(one.id, frozenset()),
        )
        for one in known
    }  # fmt: skip


async def write_calculated(
    connection: Connection,
    actor: Actor,
    decided: Sequence[Decided],
    catalogue: Catalogue,
    now: Autoverification,
    why: Mapping[str, str],
    added: Added,
    apart_from: Collection[UUID] = (),
) -> list[UUID]:
    """Write calculated results and what follows from them; returns their ids. `why`: for the audit; `added`: what was
    ordered in the same transaction; `apart_from`: cases that are there for what they ask for, and are written
    already."""
    by = By(actor.kind, actor.id, rule_set_id=now.active_id)
    versions = versions_of([case for one in decided for case in one.cases if case.result_id not in apart_from], by)
    await store.write_versions(connection, actor.organization_id, versions)
    await store.write_effects(connection, actor.organization_id, [effects_of(decided, catalogue, added)], now.active_id)
    await open_for(connection, actor, judged_of(versions))
    again = {case.result_id for one in decided for case in one.cases if case.waited is not None}
    for action, of in (("calculate", False), ("judge_again", True)):
        chosen = [one for one in versions if (one.result_id in again) is of]
        details = {one.result_id: {"version": str(one.alike.version), **why} for one in chosen}
        await audit.record_each(connection, actor, action, "result", details)
    return [version.result_id for version in versions]


async def _report_what_is_left(
    connection: Connection, actor: Actor, item_ids: Collection[UUID | None], at: Surroundings
) -> None:
    """Of an item whose reported run was taken back, another run is reported: else nobody would ever see it."""
    runs: dict[str, list[KnownResult]] = {str(item_id): [] for item_id in item_ids if item_id is not None}
    for known in at.locked.results.values():
        for one in known:
            if one.item_id in runs:
                runs[one.item_id].append(one)
    for item_id, found in runs.items():
        if not found or any(one.reportable for one in found):
            continue
        found.sort(key=lambda one: (one.created_at, one.id))
        choice = choose([Run(str(one.id), one.value, one.held, one.status, one.unit) for one in found])
        chosen = UUID(choice.id)
        await report_run(connection, UUID(item_id), chosen)
        await audit.record(connection, actor, "report", "result", chosen, {"why": "the run that was reported is not"})
        for of, known in at.locked.results.items():
            at.locked.results[of] = tuple(replace(one, reportable=True) if one.id == chosen else one for one in known)


def _of_specimen(
    beside: Beside, changed: Collection[UUID], tests: Collection[str], rules: Rules, catalogue: Catalogue,
    of: Mapping[UUID, _Measured],
) -> Decided:  # fmt: skip
    """What is calculated anew, and a case for each changed result that asks for something, only to carry that: what it
    asks for is by the intervals and rules of the analyzer that it was measured on."""
    context = DecisionContext(catalogue, received_at=datetime.now(UTC))
    siblings = siblings_of((), beside.known)
    decided = Decided([])
    for one in beside.known:
        if one.id in changed and one.status in RELEASED and one.reportable:
            how = of[one.id]
            its = replace(rules, analyzer=how.analyzer, driver=how.driver), replace(context, analyzer=how.analyzer)
            case = _asking(one, how, beside, *its)
            if case is not None:
                decided.cases.append(case)
    decided.cases += calculate_anew(tests, beside, rules, context, siblings)
    decided.cases += left_over(tests, beside, rules, context, siblings)
    return decided


def _asking(one: KnownResult, how: _Measured, beside: Beside, rules: Rules, context: DecisionContext) -> Case | None:
    """A released result whose reflexes are due now; they were not while it was held. A rule may ask for the flags that
    the analyzer sent and the checks found, and for what held it."""
    specimen, test = beside.specimen, context.catalogue.of_result(one.test_id)
    part = rules.rule_set.of(one.test).reflexes
    item = next((item for item in specimen.items if item.id == one.item_id), None) if specimen else None
    if specimen is None or test is None or item is None or not part:
        return None
    came = Step("release", "ok", "")
    reported = replace(test, decimals=None)  # its value is not rounded once more
    decision = decide_value(reported, one.value, one.unit, specimen, item, context, came, one.method)
    case = Case(b"", replace(decision, test=test, flags=one.flags), one.origin, how.observed)
    case.result_id, case.holds = one.id, ()
    facts = facts_of(case, beside, rules, context, siblings_of((), beside.known), Seen())
    asked = evaluate(part, facts, (), rules.rule_set.version, how.held).requests
    case.requests = tuple(request for request in asked if request.kind is ReflexKind.REFLEX)
    return case if case.requests else None
